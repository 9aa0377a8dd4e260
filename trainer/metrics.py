"""Metrics: ``metrics.jsonl`` always, Weights & Biases and TensorBoard where asked for."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from data_modules.faults import ConfigFault, Fault
from data_modules.masking import masked_arguments
from trainer.config.schema import LoggingConfig
from trainer.run_directory import RunDirectory


class Sink(Protocol):
    """Somewhere metrics go."""

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Record the values of one step."""

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        """Keep PNG files, by name; a sink of numbers leaves them where they lie."""

    def close(self) -> None:
        """Flush and release."""


class JsonlSink:
    """One JSON object per line: ``{"step": ..., name: value, ...}``."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)  # a line is on disk at once

    def write(self, step: int, values: dict[str, Any]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        """They lie in the run directory already."""

    def close(self) -> None:
        self._file.close()


class WandbSink:
    """Weights & Biases, online or offline; a run that is continued is one run there."""

    def __init__(
        self, config: LoggingConfig, run_name: str, run: RunDirectory, settings: Any, goes_on: bool
    ) -> None:
        import wandb

        if not goes_on or not run.wandb_id.is_file():
            run.wandb_id.write_text(secrets.token_hex(8), encoding="utf-8")
        command = sys.argv
        sys.argv = masked_arguments(command)  # it keeps the command line with the run
        try:
            self._run = wandb.init(
                project=config.wandb_project,
                group=config.wandb_group,
                name=run_name,
                dir=str(run.root),
                id=run.wandb_id.read_text(encoding="utf-8"),
                resume="allow",
                mode=config.wandb_mode.value,
                config=settings,
            )
        except wandb.errors.Error as error:
            raise ConfigFault(
                Fault(
                    "logging.wandb_mode",
                    f"{config.wandb_mode.value}: {next(iter(str(error).splitlines()), '')}",
                    "Weights & Biases must accept the run",
                    "Run `wandb login` once, or set logging.wandb_mode=offline.",
                )
            ) from error
        finally:
            sys.argv = command

    def write(self, step: int, values: dict[str, Any]) -> None:
        self._run.log(values, step=step)

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        import wandb

        images = {f"charts/{name}": wandb.Image(str(path)) for name, path in files.items()}
        self._run.log(images, step=step)

    def close(self) -> None:
        self._run.finish()


class TensorBoardSink:
    """TensorBoard event files under ``<run>/tensorboard``; numbers only."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, step: int, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        from matplotlib.image import imread

        for name, path in files.items():
            self._writer.add_image(f"charts/{name}", imread(path), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Metrics:
    """Fans out to all sinks; only the main rank has any."""

    def __init__(self, sinks: list[Sink]) -> None:
        self._sinks = sinks

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Record one step's values everywhere."""
        for sink in self._sinks:
            sink.write(step, values)

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        """Hand PNG files to every sink that keeps pictures."""
        for sink in self._sinks:
            sink.pictures(step, files)

    def close(self) -> None:
        """Close every sink."""
        for sink in self._sinks:
            sink.close()


def open_metrics(
    config: LoggingConfig,
    run_name: str,
    run: RunDirectory,
    settings: Any,
    goes_on: bool,
    is_main: bool,
) -> Metrics:
    """The sinks that the configuration asks for; none on other ranks.

    Args:
        settings: the configuration as plain values.
        goes_on: the run has steps behind it, which the sinks keep.
    """
    if not is_main:
        return Metrics([])
    sinks: list[Sink] = [JsonlSink(run.metrics)]
    if config.wandb:
        sinks.append(WandbSink(config, run_name, run, settings, goes_on))
    if config.tensorboard:
        sinks.append(TensorBoardSink(run.root / "tensorboard"))
    return Metrics(sinks)
