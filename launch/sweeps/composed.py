"""Configurations of a sweep's runs: composed as training composes them, all faults at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from data_modules.faults import ConfigFault, Fault, UserFault
from launch.composing import CONFIG_NAME, REPOSITORY, addable, prepare_root, refuse
from trainer.config.schema import ClusterConfig, Config
from trainer.config.strict_merge import to_config
from trainer.config.validate import validate

_PLAIN = re.compile(r"[\w./@%+-]+")


@dataclass(frozen=True)
class Composed:
    """A configuration, and the file that was chosen of every group of ``conf/``."""

    config: Config
    choices: dict[str, str]


def quoted(value: str) -> str:
    """A text as the value of an override."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def compose_run(overrides: Sequence[str]) -> Composed:
    """The configuration that ``launch/train.py`` would train with these overrides.

    Raises:
        ConfigFault: it cannot be composed, or the schema does not take it.
    """
    tree: DictConfig | None = None
    try:
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            tree = compose(
                CONFIG_NAME, overrides=addable(list(overrides)), return_hydra_config=True
            )
    except HydraException as error:
        refuse(error)
    assert tree is not None
    choices = OmegaConf.to_container(tree.hydra.runtime.choices)
    assert isinstance(choices, dict)
    with open_dict(tree):
        del tree["hydra"]
    config = to_config(tree)
    prepare_root(config)
    return Composed(config, {str(group): str(file) for group, file in choices.items()})


def ranks_of(cluster: ClusterConfig) -> int:
    """Ranks that a job of this cluster has, as far as the configuration tells."""
    return cluster.nodes * (cluster.ranks_per_node or cluster.gpus_per_node or 1)


def compose_all(runs: Iterable[tuple[str, Sequence[str]]]) -> dict[str, Composed]:
    """Compose and check every run before any is trained.

    Args:
        runs: name and overrides of each.

    Raises:
        ConfigFault: with all faults of all of them, those that runs share once.
    """
    found: dict[str, Composed] = {}
    wrong: dict[Fault, list[str]] = {}
    count = 0
    for name, overrides in runs:
        count += 1
        try:
            found[name] = compose_run(overrides)
            validate(found[name].config, ranks_of(found[name].config.cluster))
        except UserFault as error:
            for fault in error.faults:
                wrong.setdefault(fault, []).append(name)
    if wrong:
        raise ConfigFault(
            fault if len(names) == count else _told_of(fault, names)
            for fault, names in wrong.items()
        )
    return found


def _told_of(fault: Fault, names: Sequence[str]) -> Fault:
    """The fault with the runs that have it."""
    first = ", ".join(names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return Fault(f"{fault.where} (run {first}{more})", fault.seen, fault.rule, fault.remedy)
