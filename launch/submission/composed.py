"""A configuration composed in this process, for programs that handle several of them."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from launch.composing import (
    CONFIG_FOLDER,
    CONFIG_NAME,
    addable,
    prepare_root,
    refuse,
    refuse_select_overrides,
)
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config


def compose_config(overrides: Sequence[str]) -> Config:
    """What ``launch/train.py`` would get from these overrides: typed, with tasks discovered.

    Raises:
        ConfigFault: faults of the configuration.
    """
    return compose_with_choices(overrides)[0]


def compose_with_choices(overrides: Sequence[str]) -> tuple[Config, dict[str, str]]:
    """The same, and the file that was chosen of every group of ``conf/``."""
    written = addable(list(overrides))
    try:
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            tree = compose(CONFIG_NAME, overrides=written, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        refuse(error)
    refuse_select_overrides(written)
    choices = OmegaConf.to_container(tree.hydra.runtime.choices)
    assert isinstance(choices, dict)
    with open_dict(tree):
        del tree["hydra"]
    config = to_config(tree)
    prepare_root(config)
    return config, {str(group): str(file) for group, file in choices.items()}
