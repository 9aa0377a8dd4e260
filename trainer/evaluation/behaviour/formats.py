"""Which task's behaviour an answer shows, where the tasks declare output formats."""

from __future__ import annotations

import re
from collections.abc import Mapping

from data_modules.config import TaskConfig
from data_modules.faults import ConfigFault, Fault
from trainer.evaluation.results import MIXED


class Formats:
    """The output formats that task files declare (``TaskConfig.format``).

    Attributes:
        tasks: the tasks that have one, in the order of the task files.

    Raises:
        ConfigFault: a format that is no regular expression.
    """

    def __init__(self, tasks: Mapping[str, TaskConfig]) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}
        faults: list[Fault] = []
        for name, task in tasks.items():
            if not task.format:
                continue
            try:
                self._patterns[name] = re.compile(task.format)
            except re.error as error:
                rule = f"it must be a regular expression ({error})"
                faults.append(Fault(f"data.tasks.{name}.format", task.format, rule))
        if faults:
            raise ConfigFault(faults)
        self.tasks = tuple(self._patterns)

    def behaviour_of(self, answer: str, asked: str = "") -> str | None:
        """The task whose format an answer has, or ``mixed``; None where no format tells.

        ``mixed`` means that the answer as a whole has no format, but begins with a complete answer
        of one task and, after it, ends with a complete answer of another. It is cut at blanks only.

        Args:
            asked: the task that was asked for; where formats overlap, its own counts first.
        """
        symbols = answer.split()
        whole = self._whole(" ".join(symbols), asked)
        if whole is not None or not self._patterns:
            return whole
        heads: set[str] = set()
        # A tail may only begin where a head has ended: walk the cut to the right and collect heads
        # on the way.
        for cut in range(1, len(symbols)):
            head = self._whole(" ".join(symbols[:cut]), asked)
            if head is not None:
                heads.add(head)
            if heads:
                tail = self._whole(" ".join(symbols[cut:]), asked)
                if tail is not None and heads - {tail}:
                    return MIXED
        return None

    def _whole(self, text: str, asked: str) -> str | None:
        own = self._patterns.get(asked)
        if own is not None and own.fullmatch(text):
            return asked
        return next((name for name, one in self._patterns.items() if one.fullmatch(text)), None)
