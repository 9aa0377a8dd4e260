"""Half an hour of train, kill, go on: ``PYTHONPATH=. python tests/integration/soak.py [MINUTES]``.

Two ranks train a run of three phases; at random times one of them is killed (-9), or all get SIGTERM as
from a scheduler, and the same command starts again. Where the run comes to its end, its result is
compared with that of the straight run, bit for bit, and the next one begins. Memory of every rank is read
once a second; a leak would show as a rise over minutes, behind a warm-up in which allocators settle.
"""

from __future__ import annotations

import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from kill_matrix import PHASES, Result, overrides, result_of
from launching import composed
from rank_processes import NO_REPORT, Launched, RankProcesses

STEPS_PER_PHASE = 700
_WARM_UP_S = 60.0
_MEGABYTE = 1 << 20


@dataclass
class Life:
    """One start of the ranks.

    Attributes:
        memory: rank -> (seconds since the start, unique set size in MB), about once a second.
    """

    launched: Launched
    began: float = field(default_factory=time.monotonic)
    memory: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    def sample(self) -> None:
        """Read the memory of the ranks that live."""
        for rank, pid in self.launched.pids.items():
            try:
                # what is this process's own: it shares the imported libraries with the fork server
                used = psutil.Process(pid).memory_full_info().uss / _MEGABYTE
            except psutil.Error:
                continue
            self.memory.setdefault(rank, []).append((time.monotonic() - self.began, used))

    def rise(self, rank: int) -> float | None:
        """MB between the medians of the first and last third behind warm-up; None for short lives."""
        late = [used for at, used in self.memory.get(rank, []) if at > _WARM_UP_S]
        if len(late) < 15:
            return None
        third = len(late) // 3
        return statistics.median(late[-third:]) - statistics.median(late[:third])


def given(root: Path, name: str) -> list[str]:
    """The run: one in a few hundred steps is saved, so that kills cost work."""
    return overrides(
        root,
        name,
        "zero=zero2",
        "precision=bf16",
        "model.architecture.attention_dropout=0.1",
        "limits.steps_per_phase=null",
        *(f"curriculum.phases.{phase}.steps={STEPS_PER_PHASE}" for phase in PHASES),
        *(f"curriculum.phases.{phase}.epochs=null" for phase in PHASES),
        "checkpoint.every_steps=50",
        "evaluation.every_steps=300",
        "interference.every_steps=200",
        "data.benchmark.multiplier=3",
    )


def live(
    server: RankProcesses, command: list[str], seconds: float | None, rng: random.Random
) -> Life:
    """Start; after ``seconds`` kill or stop the ranks; None lets them come to their end."""
    life = Life(server.start(command, act=NO_REPORT, launcher_like=True, grace=20))
    until = None if seconds is None else life.began + seconds
    while len(life.launched.codes) < 2:
        if until is not None and time.monotonic() >= until:
            if rng.random() < 0.7:
                life.launched.kill(rng.randrange(2), signal.SIGKILL)
            else:
                life.launched.kill_all(signal.SIGTERM)
            life.launched.wait(120)
            break
        life.sample()
        server.pump(1.0)
    return life


def main() -> None:
    """Soak, and say what came of it; 1 where a result differs or a rank failed by itself."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    rng = random.Random(0)
    failed = False
    with (
        tempfile.TemporaryDirectory() as scratch,
        RankProcesses(Path(scratch) / "server") as server,
    ):
        root = Path(scratch)
        composed(given(root, "unused"))
        straight = live(server, given(root, "straight"), None, rng)
        assert straight.launched.codes == {0: 0, 1: 0}, str(straight.launched.outcome)
        want: Result = result_of(root / "straight")
        length = time.monotonic() - straight.began
        rises = {rank: round(straight.rise(rank) or 0.0, 1) for rank in (0, 1)}
        print(f"straight run: {length:.0f} s, memory rose by {rises} MB", flush=True)
        began, kills, finished, lives = time.monotonic(), 0, 0, []
        while time.monotonic() - began < 60 * minutes:
            name = f"soaked{finished}"
            life = live(server, given(root, name), rng.uniform(5, 0.8 * length), rng)
            lives.append(life)
            codes = set(life.launched.codes.values())
            if codes == {0}:
                same = result_of(root / name) == want
                failed = failed or not same
                finished += 1
                print(f"{name}: {'no difference' if same else 'DIFFERENT'}", flush=True)
                continue
            kills += 1
            # killed, stopped and told to go on, brought down by the launcher, or told of a lost rank
            if not codes <= {0, -signal.SIGKILL, -signal.SIGTERM, 99, 4, 1}:
                failed = True
                print(life.launched.outcome, flush=True)
        rises = [rise for life in lives for rank in (0, 1) if (rise := life.rise(rank)) is not None]
        rises = rises or [float("nan")]
        print(
            f"{kills} kills, {finished} runs finished in {(time.monotonic() - began) / 60:.0f} min; "
            f"memory behind the first {_WARM_UP_S:.0f} s of {len(rises)} lives rose by "
            f"{statistics.median(rises):.1f} MB (median), {max(rises):.1f} MB (most)"
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()
