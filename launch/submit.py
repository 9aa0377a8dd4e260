"""Check a run, show its plan, and hand it to whoever starts its processes.

python launch/submit.py cluster=slurm cluster.nodes=2 cluster.gpus_per_node=8   # one job
python launch/submit.py cluster=slurm cluster.gpus_per_node=8 cluster.chain=true   # a job per phase
python launch/submit.py cluster=ssh cluster.hostfile=hosts                      # deepspeed over ssh
python launch/submit.py cluster=slurm cluster.gpus_per_node=8 cluster.dry_run=true   # print, submit nothing
python launch/submit.py -m curriculum.phases.hard.lr=1e-5,2e-5                  # a sweep, docs/sweeps.md

Overrides are those of launch/train.py.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from data_modules.masking import masked_arguments
from launch.composing import CONFIG_FOLDER, report_faults
from launch.submission import local, record, sbatch, slurm, ssh
from launch.submission.composed import compose_config
from launch.submission.job import SCRIPT, Job, behind, chain, job_overrides, ranks_per_node, whole
from trainer.config.schema import ClusterKind, Config
from trainer.run_directory import RunDirectory

_MULTIRUN = ("-m", "--multirun")
#: What SLURM is told of a job behind another one, whose id is its answer to the command before.
_BEHIND = ("--dependency=afterok:JOB_BEFORE", "--kill-on-invalid-dep=yes")


def main(given: list[str]) -> int:
    """Sweep under ``-m``, else submit one run.

    Returns:
        0 if it was handed over; of a run that was waited for, its exit code.
    """
    if {"-h", "--help"} & set(given):
        print(__doc__)
        return 0
    overrides = [one for one in given if one not in _MULTIRUN]
    if len(overrides) < len(given):
        from launch.sweeps.command import sweep

        return sweep(overrides)
    return submit(overrides)


def submit(overrides: list[str]) -> int:
    """Check, show and hand over one run."""
    config = compose_config(overrides)
    from trainer.planning import show_plan

    show_plan(config, _world_size(config))
    cluster, kept = config.cluster, job_overrides(overrides)
    if cluster.kind is ClusterKind.slurm:
        return _to_slurm(config, overrides)
    words = (ssh if cluster.kind is ClusterKind.ssh else local).command(kept, cluster)
    if cluster.dry_run:
        _show(words, cluster.environment)
        return 0
    if cluster.kind is ClusterKind.ssh:
        return ssh.run_on_hosts(kept, cluster, Path(config.output_dir).absolute())
    return local.run_local(kept, cluster)


def _world_size(config: Config) -> int:
    if config.cluster.kind is ClusterKind.ssh:
        from trainer.config.validate import validate

        validate(config, None)  # the hostfile is there; its slots tell the ranks
        return sum(ssh.hosts(config.cluster).values())
    return config.cluster.nodes * ranks_per_node(config.cluster)


def _to_slurm(config: Config, overrides: Sequence[str]) -> int:
    from trainer.curriculum import selected

    run = RunDirectory(Path(config.output_dir).absolute()).root
    if config.cluster.chain:
        refuse_chain(config)
        jobs = chain(config, overrides, list(selected(config)))
    else:
        jobs = [whole(config, overrides)]
    if config.cluster.dry_run:
        for number, job in enumerate(jobs):
            waits = _BEHIND if number else ()
            program, *words = sbatch.command(job)
            _show([program, *waits, *words], sbatch.environment(job))
        print(f"\n# slurm/train.sbatch\n{SCRIPT.read_text('utf-8')}")
        return 0
    record.refuse_twice(run)
    ids: list[int] = []
    for job in jobs:
        ids.append(slurm.submit(behind(job, *ids[-1:])))
        record.note(run, [(str(ids[-1]), job.name)])
        print(f"job {ids[-1]}: {job.name}{_waits(ids)}; log {_log(job, ids[-1])}")
    print(f"python launch/status.py {run} tells how far it is.")
    return 0


def refuse_chain(config: Config) -> None:
    """Raise where jobs of single phases would not be the run.

    Raises:
        ConfigFault: naming why.
    """
    from launch.sweeps.stems import can_fork_behind
    from trainer.curriculum import selected
    from trainer.resume import NEVER

    faults = []
    if config.resume == NEVER:
        rule = "every job of a chain would begin anew and replace what the one before has trained"
        faults.append(Fault("resume", NEVER, rule, "Leave it out, and name another run_name."))
    names = list(selected(config))
    missing = [one for one in names if not (CONFIG_FOLDER / f"phase/{one}.yaml").is_file()]
    if missing:
        rule = "a job selects its phase by +phase=, which takes files of conf/phase"
        faults.append(Fault("cluster.chain", f"phase {', '.join(missing)}", rule))
    elif not all(can_fork_behind(config, count) for count in range(1, len(names))):
        rule = "earlier jobs must save checkpoints, and know all tasks that later ones train on"
        seen = f"phases {', '.join(names)}"
        faults.append(Fault("cluster.chain", seen, rule, "Submit them as one job."))
    if faults:
        raise ConfigFault(faults)


def _waits(ids: Sequence[int]) -> str:
    return f", behind job {ids[-2]}" if len(ids) > 1 else ""


def _log(job: Job, number: int) -> Path:
    return sbatch.log_folder(job.run) / f"slurm-{number}.out"


def _show(words: Sequence[str], environment: dict[str, str]) -> None:
    """A command as it could be given in a shell; secrets are masked."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    print(shlex.join(masked_arguments([*(["env", *variables] if variables else []), *words])))


if __name__ == "__main__":
    report_faults(lambda: sys.exit(main(sys.argv[1:])))
