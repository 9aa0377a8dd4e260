"""What all contenders share: the clock, the evaluation loss outside of it, and the result they leave."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from work import Work, load_rows

#: A contender's folder; its work; when the command was given (seconds since 1970).
WORK, OUT, STARTED = "BENCH_WORK", "BENCH_OUT", "BENCH_STARTED"
#: Evaluate behind every so many steps; 0 never does.
EVALUATE = "BENCH_EVALUATE"


def work_of_environment() -> Work:
    """The work that this process is to do."""
    return Work.load(Path(os.environ[WORK]))


class Clock:
    """Seconds at the end of every optimizer step, without those that evaluations took.

    Every rank makes one and calls :meth:`step_done` behind each step; :meth:`save` leaves
    ``rank_N.json``.
    """

    def __init__(self, work: Work) -> None:
        self._rank = int(os.environ.get("RANK", "0"))
        self._ranks = int(os.environ.get("WORLD_SIZE", "1"))
        self._every = int(os.environ.get(EVALUATE, "0"))
        self._rows = load_rows(work.path("evaluation.npz")) if self._every else []
        self._ends: list[float] = []
        self._tokens: list[int] = []
        self._losses: list[tuple[int, float]] = []
        self._aside = 0.0
        self._first_step_at = 0.0
        self._peak = 0

    def step_done(self, tokens: int, model: Any = None) -> None:
        """An optimizer step has ended.

        Args:
            tokens: that this rank has trained on since the step before, without padding.
            model: the Hugging Face model; evaluated where it is time to.
        """
        now = time.perf_counter()
        if not self._ends:
            self._first_step_at = time.time()
        self._ends.append(now - self._aside)
        self._tokens.append(tokens)
        self._peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if self._every and len(self._ends) % self._every == 0:
            self._losses.append((len(self._ends), self._evaluation_loss(model)))
            self._aside += time.perf_counter() - now

    @torch.no_grad()
    def _evaluation_loss(self, model: Any) -> float:
        """Mean over the supervised tokens of all evaluation rows, in nats; collective."""
        was_training = model.training
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        for ids, supervised in self._rows[self._rank :: self._ranks]:
            tokens = torch.from_numpy(ids.astype("int64"))[None]
            hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
            keep = torch.from_numpy(supervised[1:]).nonzero()[:, 0]
            logits = F.linear(hidden[0, keep], model.get_output_embeddings().weight).float()
            sums[0] += F.cross_entropy(logits, tokens[0, keep + 1], reduction="sum").double()
            sums[1] += len(keep)
        if self._ranks > 1 and dist.is_initialized():
            dist.all_reduce(sums)
        model.train(was_training)
        return float(sums[0] / sums[1])

    def save(self, **more: Any) -> None:
        """Leave the result of this rank."""
        result = {
            "ends": self._ends,
            "tokens": self._tokens,
            "evaluation_losses": self._losses,
            "peak_bytes": self._peak * 1024,
            "startup_seconds": self._first_step_at - float(os.environ[STARTED]),
            **more,
        }
        path = Path(os.environ[OUT]) / f"rank_{self._rank}.json"
        path.write_text(json.dumps(result), encoding="utf-8")


def say(text: str) -> None:
    """A line of the main rank's."""
    if os.environ.get("RANK", "0") == "0":
        print(text, file=sys.stderr, flush=True)
