"""From a composed Hydra configuration to a typed, checked one; shared by every command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from data_modules.benchmark import generate
from data_modules.config import SourceConfig, TaskConfig
from data_modules.faults import ConfigFault, Fault, UserFault
from data_modules.reading import discovered_tasks
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config

USER_FAULT_EXIT = 2
CONFIG_PATH = "../conf"
CONFIG_NAME = "train"


def clean_arguments() -> None:
    """Drop what launchers add to the command line, and refuse sweeps inside a multi-rank launch.

    ``deepspeed`` passes ``--local_rank=N``, which Hydra's parser rejects; the number is in the
    environment anyway.
    """
    sys.argv = [arg for arg in sys.argv if not arg.startswith("--local_rank")]
    if {"-m", "--multirun"} & set(sys.argv) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if os.environ.get("RANK", "0") == "0":
            print(
                "--multirun under a multi-rank launcher: every rank would sweep on its own. "
                "Start one run per value, or sweep with plain python in one process.",
                file=sys.stderr,
            )
        sys.exit(USER_FAULT_EXIT)


def checked_config(composed: DictConfig) -> Config:
    """The typed configuration, with tasks discovered and the benchmark generated.

    Raises:
        ConfigFault: faults of the configuration.
    """
    _refuse_select_overrides(list(HydraConfig.get().overrides.task))
    config = to_config(composed)
    prepare_root(config)
    return config


def prepare_root(config: Config) -> None:
    """Fill ``data.root`` from the benchmark generator; define tasks found in it."""
    data = config.data
    if data.benchmark is not None:
        try:
            generate(data.benchmark, Path(data.root))
        except ValueError as error:
            raise ConfigFault(
                Fault("data.benchmark", str(error), "data.root must hold this benchmark")
            ) from error
    if data.discover:
        for name in discovered_tasks(data):
            if name not in data.tasks:
                has_eval = (Path(data.root) / "eval" / f"{name}.jsonl").is_file()
                source = SourceConfig(
                    f"train/{name}.jsonl", f"eval/{name}.jsonl" if has_eval else ""
                )
                data.tasks[name] = TaskConfig(source=source, tag=f"[{name}]")


def _refuse_select_overrides(overrides: list[str]) -> None:
    faults = [
        Fault(
            override,
            "curriculum.select only names the phases to run",
            "settings there would be ignored",
            f"Write {override.lstrip('+~').replace('.select.', '.phases.', 1)} instead.",
        )
        for override in overrides
        if override.lstrip("+~").startswith("curriculum.select.")
    ]
    if faults:
        raise ConfigFault(faults)


def report_faults(command: Callable[[], None]) -> None:
    """Run a command; print a user's faults once (main rank) and exit with code 2."""
    try:
        command()
    except UserFault as fault:
        if os.environ.get("RANK", "0") == "0":
            print(f"polyphase: {fault}", file=sys.stderr, flush=True)
        sys.exit(USER_FAULT_EXIT)
