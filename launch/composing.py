"""From a composed Hydra configuration to a typed, checked one; shared by every command."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from data_modules.benchmark import generate
from data_modules.config import TaskConfig
from data_modules.faults import ConfigFault, Fault, UserFault
from data_modules.masking import masked_text
from data_modules.sources.files import discovered_tasks
from trainer import exit_codes
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG_NAME = "train"
# a plain key that is not Hydra's own: a value, or a config group if there is a folder of its name
_PLAIN_OVERRIDE = re.compile(r"(?!hydra\.)(\w+(?:\.[\w-]+)*)=")
CONFIG_FOLDER = REPOSITORY / "conf"
_SELECT = "curriculum.select"
_FIRST_TELLS_S = 10.0
# what Hydra says of its own inside
_INSIDE = ("full_key:", "object_type=", "reference_type=", "See https://", "Set the environment")


def start(command: Callable[[Config], object]) -> None:
    """Run a command on the configuration that the command line composes; leave its process group.

    Under ``--multirun`` it runs once for every combination of values.
    """
    clean_arguments()
    is_running = False

    @hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name=CONFIG_NAME)
    def main(composed: DictConfig) -> None:
        nonlocal is_running
        is_running = True
        report_faults(lambda: command(checked_config(composed)))
        is_running = False

    # Hydra then hands on what it finds wrong; else it prints its own inside and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.excepthook = _print_masked
    try:
        main()
    except Exception as error:
        if is_running:
            raise
        report_faults(partial(refuse, error))
    finally:
        if "torch" in sys.modules:  # else there is no process group, and importing it takes seconds
            from trainer.distributed import shutdown

            shutdown()


def refuse(error: Exception) -> NoReturn:
    """Turn what Hydra raises while it composes into a fault of the command line.

    Raises:
        ConfigFault: always.
    """
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    lines = [line.strip() for one in causes for line in str(one).splitlines()]
    told = [line for line in lines if line and not line.startswith(_INSIDE)]
    seen = " ".join(dict.fromkeys(told)) or type(error).__name__
    rule = "a configuration must be composed of it"
    remedy = "See conf/ for the groups and their files, and quote what the shell would change."
    raise ConfigFault(Fault("command line", seen.rstrip("."), rule, remedy)) from error


def addable(overrides: list[str]) -> list[str]:
    """Let ``a.b=value`` also set a key that no YAML file mentions.

    Hydra wants ``+a.b=value`` there, which a user cannot know without reading the files. Every key
    is checked against the schema afterwards, so nothing unknown slips through. Config groups
    (``data=...``, ``phase@curriculum.phases.mix=...``) and ``hydra.*`` are left alone.
    """

    def is_value(override: str) -> bool:
        plain = _PLAIN_OVERRIDE.match(override)
        return plain is not None and not (CONFIG_FOLDER / plain[1]).is_dir()

    return [f"++{one}" if is_value(one) else one for one in overrides]


def clean_arguments() -> None:
    """Make the command line Hydra's: see :func:`addable`; launchers' additions are dropped.

    ``deepspeed`` passes ``--local_rank=N``, which Hydra's parser rejects; the number is in the
    environment anyway. A sweep inside a multi-rank launch is refused.
    """
    sys.argv[1:] = addable(
        [arg for arg in sys.argv[1:] if not arg.startswith(("--local_rank", "--local-rank"))]
    )
    if {"-m", "--multirun"} & set(sys.argv) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if os.environ.get("RANK", "0") == "0":
            print(
                "--multirun under a multi-rank launcher: every rank would sweep on its own. "
                "Sweep with `python launch/submit.py -m ...`, which starts one run per value.",
                file=sys.stderr,
            )
        sys.exit(exit_codes.USER_FAULT)


def checked_config(composed: DictConfig) -> Config:
    """The typed configuration, with tasks discovered and the benchmark generated.

    Raises:
        ConfigFault: faults of the configuration.
    """
    settings = HydraConfig.get()
    # as written: interpolations in them are resolved, and their faults named, with the rest
    written = OmegaConf.to_container(cast(ListConfig, settings.overrides.task), resolve=False)
    overrides = [str(override) for override in cast(list[str], written)]
    refuse_select_overrides(overrides)
    needs_data = reads_data(composed)
    config = to_config(composed)
    if settings.mode is RunMode.MULTIRUN and not any(
        override.lstrip("+").startswith("output_dir=") for override in overrides
    ):
        # The runs of a sweep share a run name; in one directory each would clear the one before.
        config.output_dir = str(Path(settings.sweep.dir) / settings.sweep.subdir)
    if needs_data:
        prepare_root(config)
    else:
        config.model.path = shipped(config.model.path)
    return config


def reads_data(composed: DictConfig) -> bool:
    """Whether a command reads data; for an estimate alone, which does not, their place may be missing."""
    if OmegaConf.select(composed, "estimate.only", default=False) is not True:
        return True
    if OmegaConf.is_missing(composed.data, "root"):
        composed.data.root = ""
    return False


def prepare_root(config: Config) -> None:
    """Fill ``data.root`` from the benchmark generator; define tasks found in it."""
    config.model.path = shipped(config.model.path)
    data = config.data
    if data.benchmark is not None:
        try:
            generate(data.benchmark, Path(data.root))
        except (ValueError, OSError) as error:
            raise ConfigFault(
                Fault("data.benchmark", str(error), "data.root must hold this benchmark")
            ) from error
    if data.discover:
        for name, source in discovered_tasks(data).items():
            task = data.tasks.setdefault(name, TaskConfig())
            task.sources["main"] = source
            # general rows keep the form that users type
            if not (task.tag or task.tags or task.general):
                task.tag = f"[{name}]"


def shipped(path: str | None) -> str | None:
    """A path that exists only relative to the repository (``assets/...``) works from anywhere."""
    if path is not None and not Path(path).exists() and (REPOSITORY / path).exists():
        return str(REPOSITORY / path)
    return path


def refuse_select_overrides(overrides: list[str]) -> None:
    """Settings under ``curriculum.select`` would be ignored.

    Raises:
        ConfigFault: there are some.
    """
    faults = []
    for override in OverridesParser.create().parse_overrides(overrides):
        key, value, line = override.key_or_group, override.value(), str(override.input_line)
        if f"{override.package or key}.".startswith(f"{_SELECT}.") or (
            key == "curriculum" and isinstance(value, dict) and "select" in value
        ):
            meant = line.lstrip("+~").replace(".select", ".phases", 1)
            faults.append(
                Fault(
                    line,
                    f"{_SELECT} only names the phases to run",
                    "settings there would be ignored",
                    f"Choose phases with '+phase=[...]'; to set one up write {meant}.",
                )
            )
    if faults:
        raise ConfigFault(faults)


def report_faults(command: Callable[[], object]) -> None:
    """Run a command; print why it ended early once per host, and exit with that code.

    Once per host and not once in all: a file that only one host misses is that host's fault alone.
    """
    try:
        command()
    except UserFault as fault:
        if not _is_first_of_host():
            _leave_the_word_to_the_first()
        _exit(fault, exit_codes.USER_FAULT, is_told=True)
    except Exception as error:
        # Stopped and TrainingFault: imported where they are raised, with what takes seconds to load.
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        _exit(error, code, is_told=_is_first_of_host())


def _is_first_of_host() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _leave_the_word_to_the_first() -> None:
    """Wait for the launcher to end this rank, as it does when the host's first rank has told a fault.

    Ranks meet most faults each by itself. If this one ended first, launchers would kill the first one
    before it has said a word. Where nobody ends this rank the first one met no fault, and it is told here.
    """
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in wanted}
    time.sleep(_FIRST_TELLS_S)
    for number, handler in before.items():
        signal.signal(number, handler)


def _exit(why: Exception, code: int, *, is_told: bool) -> NoReturn:
    if is_told:
        from data_modules.report.visible import visible  # with what takes half a second to load

        # files and models are quoted: an escape sequence of theirs must not rule the terminal
        print(visible(masked_text(f"polyphase: {why}")), file=sys.stderr, flush=True)
    sys.exit(code)


def _print_masked(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """What Python prints of an error that nobody expected, without secrets."""
    told = "".join(traceback.format_exception(kind, error, trace))
    print(masked_text(told), end="", file=sys.stderr, flush=True)
