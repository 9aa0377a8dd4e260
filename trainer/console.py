"""Log files and the console: one file per rank, the console for the main rank only."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from data_modules.masking import masked_text
from data_modules.report.visible import visible

LOGGER = logging.getLogger("polyphase")


class PlainConsole(Console):
    """Prints texts as they are: brackets are no markup, what is invisible is named, secrets masked.

    Names, rows and answers come from files and models: ``[red]`` would vanish, ``[/]`` raise, and an
    escape sequence rule the terminal. Styles are given as :class:`rich.text.Text`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        settings |= {"markup": False, "emoji": False}
        return super().render_str(safe_text(text), **settings)


def make_console() -> Console:
    """A console as wide as the terminal; a fixed, roomy width when output is piped."""
    console = PlainConsole()
    return console if console.is_terminal else PlainConsole(width=120)


def safe_text(text: str) -> str:
    """A text for terminal or log: secrets masked, what is invisible named; line breaks stay."""
    return visible(masked_text(text))


def start_logging(log_file: Path, is_main: bool, goes_on: bool = False) -> None:
    """Send our messages to the rank's file and, on the main rank, to the console.

    Args:
        goes_on: keep what an earlier start wrote into the file.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    LOGGER.handlers.clear()
    to_file = logging.FileHandler(log_file, mode="a" if goes_on else "w", encoding="utf-8")
    to_file.setFormatter(_FileFormatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.addHandler(to_file)
    if is_main:
        to_console = logging.StreamHandler(sys.stdout)
        to_console.setFormatter(_ConsoleFormatter())
        LOGGER.addHandler(to_console)


class _ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return safe_text(prefix + record.getMessage())


class _FileFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return safe_text(super().format(record))


def quieten_libraries() -> None:
    """Keep library chatter off the console; it would drown the few lines that matter."""
    for name in ("DeepSpeed", "deepspeed", "transformers", "torch.distributed", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # DeepSpeed calls torch.distributed functions that newer PyTorch renamed.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    warnings.filterwarnings("ignore", message=".*is deprecated.*", category=FutureWarning)
    import transformers

    transformers.utils.logging.disable_progress_bar()


class PhaseProgress:
    """One progress bar per phase on a terminal, plain lines every few seconds elsewhere."""

    def __init__(
        self, phase: str, steps: int, every_seconds: float, is_main: bool, done: int = 0
    ) -> None:
        self._phase, self._steps, self._every, self._done = phase, steps, every_seconds, done
        self._last = time.monotonic()
        self._start = self._last
        self._bar: Progress | None = None
        self._shown = is_main
        console = make_console()
        if is_main and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}  {task.fields[figures]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                safe_text(phase), total=steps, completed=done, figures=""
            )

    def update(self, step: int, loss: float, tokens_per_second: float, lr: float) -> None:
        """Show the figures of the phase's step ``step`` (1-based)."""
        figures = f"loss {loss:.4f}  lr {lr:.2e}  {tokens_per_second:,.0f} tokens/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=figures)
        elif self._shown:
            now = time.monotonic()
            if step == self._steps or now - self._last >= self._every:
                left = (now - self._start) / (step - self._done) * (self._steps - step)
                LOGGER.info(
                    "%s %d/%d  %s  %s left", self._phase, step, self._steps, figures, _clock(left)
                )
                self._last = now

    def close(self) -> None:
        """Leave the finished bar on the screen."""
        if self._bar is not None:
            self._bar.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
