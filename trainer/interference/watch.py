"""The task x task gradient-cosine matrix, measured every so many steps beside training.

Of every task that the phase trains on, a fixed sample of its training rows is dealt into two halves. The
gradient of each half's mean loss per answer token is sketched as it comes out of autograd, rank by rank;
sketches are linear, so one all-reduce of tasks x 2 x sketch numbers gives those of the whole. Training
never notices: the same weights, moments, gradients and random numbers follow.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from data_modules.collate import Batch
from data_modules.phase_data_module import PhaseDataModule
from data_modules.probe_rows import probe_rows
from trainer import watchdog
from trainer.config.schema import Config
from trainer.engine import ZeroEngine
from trainer.interference.conflict import Conflict, conflict_of
from trainer.interference.sketch import CountSketch


@dataclass(frozen=True)
class _Probe:
    """One task's rows, as this rank's micro-batches.

    Attributes:
        halves: micro-batches of each half; the weights of a half's answer tokens sum to 1 over ranks.
        tokens: answer tokens of both halves.
    """

    task: str
    halves: tuple[list[Batch], list[Batch]]
    tokens: int


@dataclass(frozen=True)
class Measurement:
    """Gradients of the tasks at one moment.

    Attributes:
        loss: [K], mean nll of the sampled rows' answer tokens, in nats.
    """

    tasks: list[str]
    conflict: Conflict
    loss: list[float]


class GradientProbe:
    """Measures on the live model of a run; collective."""

    def __init__(
        self, engine: ZeroEngine, data: PhaseDataModule, config: Config, rank: int
    ) -> None:
        self.engine, self.data, self.config, self.rank = engine, data, config, rank
        self._sketch = CountSketch(config.interference.sketch_size, config.seed, engine.device)
        self._probes: dict[str, list[_Probe]] = {}

    def measure(self, phase: str) -> Measurement:
        """Measure on the sampled rows of a phase; the same on every rank.

        Tasks with a single row in the phase are left out: nothing tells their gradient from noise.
        """
        if phase not in self._probes:
            self._probes = {phase: self._make(phase)}
        probes, engine = self._probes[phase], self.engine
        # sketches of both halves and, behind them, the summed nll
        sums = torch.zeros(
            len(probes), 2 * self._sketch.buckets + 1, dtype=torch.float64, device=engine.device
        )
        with engine.aside():
            for number, probe in enumerate(probes):
                watchdog.at(f"gradient conflict: task '{probe.task}'")
                halves = sums[number, :-1].view(2, -1)
                for half, batches in zip(halves, probe.halves, strict=True):

                    def add(name: str, gradient: torch.Tensor, half: torch.Tensor = half) -> None:
                        self._sketch.add(half, name, gradient)

                    for batch in batches:
                        sums[number, -1] += engine.visit_gradients(batch, add).sum()
        if engine.world_size > 1:
            dist.all_reduce(sums)
        found = sums.cpu().numpy()
        return Measurement(
            [probe.task for probe in probes],
            conflict_of(found[:, :-1].reshape(len(probes), 2, self._sketch.buckets)),
            [float(one) / probe.tokens for one, probe in zip(found[:, -1], probes, strict=True)],
        )

    def _make(self, phase: str) -> list[_Probe]:
        plan = self.data.plans[phase]
        per_task = self.config.interference.rows_per_task
        sample = probe_rows(plan, per_task, self.config.seed, "interference")
        return [
            self._probe(phase, task, found.rows)
            for task, found in sample.items()
            if len(found.rows) > 1
        ]

    def _probe(self, phase: str, task: str, rows: np.ndarray) -> _Probe:
        store = self.data.plans[phase].store
        # Rows alike in length on both sides, so that neither half is noisier.
        rows = rows[np.argsort(store.lengths_of(rows), kind="stable")]
        first, second = (self._batches(phase, rows[start::2]) for start in (0, 1))
        return _Probe(task, (first, second), int(np.asarray(store.answer_tokens)[rows].sum()))

    def _batches(self, phase: str, rows: np.ndarray) -> list[Batch]:
        tokens = int(np.asarray(self.data.plans[phase].store.answer_tokens)[rows].sum())
        return self.data.rank_batches(
            phase,
            rows,
            np.full(len(rows), 1 / tokens),
            self.rank,
            self.engine.world_size,
            self.config.micro_batch_size,
            self.config.sequence_parallel_size,
        )


class InterferenceWatch:
    """Measures after every ``interference.every_steps`` steps, and writes down what it took."""

    def __init__(
        self, engine: ZeroEngine, data: PhaseDataModule, config: Config, rank: int, path: Path
    ) -> None:
        self._every, self._path, self._rank, self._engine = (
            config.interference.every_steps,
            path,
            rank,
            engine,
        )
        self._probe = None if self._every is None else GradientProbe(engine, data, config, rank)
        self._began = time.perf_counter()
        self._spent = 0.0

    def after_step(self, phase: str, global_step: int) -> None:
        """Measure if it is time to; every rank calls this after every step."""
        if self._probe is None or self._every is None or global_step % self._every:
            return
        if self._engine.device.type == "cuda":
            torch.cuda.synchronize(self._engine.device)  # what the step still does is not our time
        start = time.perf_counter()
        found = self._probe.measure(phase)
        seconds = time.perf_counter() - start
        self._spent += seconds
        if self._rank == 0:
            share = self._spent / (time.perf_counter() - self._began)
            entry = entry_of(found, phase, global_step) | {
                "seconds": seconds,
                "share_of_time": share,
            }
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def entry_of(found: Measurement, phase: str, global_step: int) -> dict[str, Any]:
    """A line of ``interference.jsonl``, without what the measurement took."""
    return {
        "step": global_step,
        "phase": phase,
        "tasks": found.tasks,
        "cosine": found.conflict.cosine,
        "self_cosine": found.conflict.self_cosine,
        "norm": found.conflict.norm,
        "conflict_rate": found.conflict.rate,
        "loss": found.loss,
    }
