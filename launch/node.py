"""Start this host's ranks of a run; one such process on every host, by srun or by hand.

python launch/node.py --nodes 2 --node-rank 0 --ranks 8 --master n1:29500 launch/train.py +phase=mix

PyTorch's elastic agent starts and watches the ranks. What its command line (torchrun) lacks: this ends
with the code of the first rank that failed, so that whoever started it can tell a fault of the user's from
a run that wants to be requeued; and signals are left to the ranks, which save before they leave, for as
long as that takes.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

import psutil

from trainer import exit_codes

#: How long ranks that were asked to leave may take for it, once one of them has left with an error.
_LEAVING_SECONDS = 600
#: How long hosts wait for one another at the start: images are loaded at different speeds.
_MEETING_SECONDS = 1800
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def arguments(given: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Start this host's ranks of a run.", allow_abbrev=False
    )
    parser.add_argument("--nodes", type=int, default=1, help="hosts of the run")
    parser.add_argument(
        "--node-rank",
        type=int,
        default=int(os.environ.get("SLURM_NODEID", "0")),
        help="this host among them; default: what SLURM says, or 0",
    )
    parser.add_argument("--ranks", type=int, default=None, help="processes; default: one per GPU")
    parser.add_argument(
        "--master", default="127.0.0.1:0", help="HOST:PORT where all meet, on the host of rank 0"
    )
    parser.add_argument("program", help="launch/train.py")
    parser.add_argument("overrides", nargs=argparse.REMAINDER)
    options = parser.parse_args(given)
    host, _, port = options.master.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"--master {options.master}: it is HOST:PORT")
    if options.nodes > 1 and not int(port):
        parser.error("--master: several hosts must agree on a port")
    if not 0 <= options.node_rank < options.nodes:
        parser.error(f"--node-rank {options.node_rank}: {options.nodes} hosts count from 0")
    return options


def own_ranks() -> int:
    """One rank per GPU, or one."""
    import torch

    return max(1, torch.cuda.device_count())


def _pass_on(number: int, _: FrameType | None) -> None:
    """Hand a signal to the ranks; those that got it themselves take both for one."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            child.send_signal(number)


def run(options: argparse.Namespace) -> int:
    """Start the ranks and wait for them.

    Returns:
        0; else the exit code of the first rank that failed, 128 + n if signal n ended it.
    """
    # Otherwise the agent sets one thread per rank, and says so; the trainer divides the host's cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.ERROR)  # ranks speak for themselves
    alone = options.nodes == 1
    config = LaunchConfig(
        min_nodes=options.nodes,
        max_nodes=options.nodes,
        nproc_per_node=options.ranks or own_ranks(),
        run_id=os.environ.get("SLURM_JOB_ID", "polyphase"),
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint="localhost:0" if alone else options.master,
        rdzv_configs={"timeout": _MEETING_SECONDS, "rank": options.node_rank},
        local_addr="127.0.0.1" if alone else None,
        max_restarts=0,
        # SIGTERM, SIGINT and SIGUSR1 are the ranks'
        signals_to_handle="SIGQUIT",
        shutdown_timeout=_LEAVING_SECONDS,
    )
    for number in _PASSED_ON:
        signal.signal(number, _pass_on)
    try:
        elastic_launch(config, sys.executable)("-u", options.program, *options.overrides)
    except ChildFailedError as failed:
        _, first = failed.get_first_failure()
        return first.exitcode if first.exitcode >= 0 else 128 - first.exitcode
    return exit_codes.DONE


if __name__ == "__main__":
    sys.exit(run(arguments(sys.argv[1:])))
