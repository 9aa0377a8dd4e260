"""First process of the image: hands signals on to all that it started, and stays until they have left.

``deepspeed`` ends at a SIGTERM while its ranks still save; with the first process of a container all others
are killed. Here the container stays until they are done.

It also takes in processes that lost their parent, so that none is left as a zombie.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
#: Exit codes by which a run says that it saved and left; see docs/reliability.md.
_LEFT = (99, 98)
_PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    """Run a command; its exit code, or that of ranks which saved and left behind it."""
    # where this is not the first process of a container (--init, --pid=host)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    stopping = False

    def pass_on(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    try:
        child = subprocess.Popen(command, process_group=0, preexec_fn=_unblock)
    except OSError as error:
        print(f"polyphase: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    _give_terminal_to(child.pid)
    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    _unblock()
    code, codes = 0, set[int]()
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.wait()
            codes.add(_shell_code(status))
            if pid == child.pid:
                code = _shell_code(status)
                if not stopping:
                    break
    return next((one for one in _LEFT if one in codes), code)


def _give_terminal_to(group: int) -> None:
    """Under ``docker run -it``: whoever is in the foreground gets keys and Ctrl-C."""
    if os.isatty(0):
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # not this process's own terminal
            os.tcsetpgrp(0, group)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)


def _shell_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
