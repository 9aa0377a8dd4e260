"""Runs Python programs that a model wrote, each in a process of its own that can do next to nothing.

What holds a program (Linux on x86_64 or aarch64, as root or not, also in containers):

- a fresh interpreter with the standard library only, an environment of a few fixed variables, no
  open files but its pipes, its own session and an empty private folder that is removed at the end;
- wall clock, CPU time, address space, file sizes, folder size, threads and output are bounded;
- a seccomp filter refuses sockets, processes, other programs, signals to others and every call that is
  not on a short list (``syscalls.py``);
- Landlock, where the kernel has it: reading the interpreter's library and the system's shared libraries,
  writing the private folder, nothing else. Without Landlock nothing can be written at all, but **every
  file of this user can be read** (and printed).

``check_limits`` tries all of this on the machine; nothing runs where a limit does not hold.

A program passes when the harness, after the last assertion, reports a random nonce that it was given
only after the program's own lines had run; leaving early, printing or killing cannot fake it.

What this is not: a security boundary against a determined attacker. It protects against the accidents
and the simple malice of models. Known rests:

- Program and tests share one interpreter. A program that knows this harness can walk frames or read
  the pipe and forge the nonce; objects with an ``__eq__`` that is always true, or a module of the
  standard library that the program changed, make tests pass. Built-ins are put back before the tests.
- Names, sizes and times of files can be asked for by path (``stat``), not their contents or lists.
- Kernel flaws. Memory that the kernel keeps for pipes and files comes on top of ``memory_bytes``, and a
  program may hold 64 unlinked files of ``file_bytes`` each until it ends.

Where programs may be hostile, run the whole evaluation in a container or virtual machine without secrets:
no network, read-only root, a memory limit, a limit of processes, its own user.
"""

from __future__ import annotations

from trainer.evaluation.sandbox.check import check_limits
from trainer.evaluation.sandbox.limits import Limits, Outcome, Reason
from trainer.evaluation.sandbox.run import run_many, run_python, run_tests
from trainer.evaluation.sandbox.tests_code import tests_fault

__all__ = [
    "Limits",
    "Outcome",
    "Reason",
    "check_limits",
    "run_many",
    "run_python",
    "run_tests",
    "tests_fault",
]
