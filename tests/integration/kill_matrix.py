"""Kill -9 at random moments, start again, and compare with the run that nobody disturbed.

``PYTHONPATH=. python tests/integration/kill_matrix.py [KILLS]`` runs every variant with 20 kills each and
prints the table of docs/reliability.md; test_kill_matrix runs some.

A variant is one run of three phases on two ranks, with dropout, evaluations between and behind phases,
and a checkpoint every other step. A rank is killed at a moment; the launcher's habit brings the other
one down; the same command starts again, and is killed again. Where a run comes to its end before all
kills have been tried, the next one begins.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launching import composed, metrics_of, without_clocks
from rank_processes import Act, RankProcesses

from trainer.checkpoint.folder import checkpoints, read_marker
from trainer.checkpoint.shard_file import hash_file
from trainer.run_directory import read_json_lines

STEPS_PER_PHASE = 7
PHASES = ("mix", "specialize", "hard")


@dataclass(frozen=True)
class Moment:
    """Where a rank is killed: at one of the first ``calls`` calls of ``target``.

    Attributes:
        main: only the main rank comes there.
    """

    name: str
    target: str
    calls: int
    main: bool = False


MOMENTS = (
    Moment("in a forward", "trainer.engine:ZeroEngine._forward", 12),
    Moment("in a backward", "deepspeed.runtime.engine:DeepSpeedEngine.backward", 8),
    Moment("in an update", "deepspeed.runtime.engine:DeepSpeedEngine.step", 6),
    Moment("copying the state", "trainer.checkpoint.writer:Writer._copied", 3),
    Moment("writing a shard", "trainer.checkpoint.shard_file:sync", 3),
    Moment("completing a checkpoint", "trainer.checkpoint.folder:complete", 3, main=True),
    Moment("renaming a checkpoint", "trainer.checkpoint.folder:sync_folder", 4, main=True),
    Moment("deleting an old checkpoint", "trainer.checkpoint.folder:remove", 2, main=True),
    Moment("restoring", "trainer.checkpoint.reader:ShardReader.read_into", 9),
    Moment("generating for an evaluation", "trainer.evaluation.evaluate:generate", 9),
    Moment("judging answers", "trainer.evaluation.evaluate:judge_set", 9, main=True),
    Moment("at a phase's end", "trainer.run:Run._finish_phase", 1),
    Moment("at a phase's start", "trainer.phase_steps:PhaseSteps.train", 2),
    Moment("exporting weights", "trainer.export:_write_model", 1, main=True),
    Moment("exporting the tokenizer", "trainer.export:bounded_tokenizer", 1, main=True),
    Moment("writing the report", "trainer.run:close_run", 1, main=True),
)


@dataclass(frozen=True)
class Variant:
    """A kind of run."""

    name: str
    overrides: tuple[str, ...]


_DROPOUT = "model.architecture.attention_dropout=0.1"
_LORA = ("adaptation=lora", "adaptation.dropout=0.1")
VARIANTS = (
    Variant("ZeRO-0, fp32, full", ("zero=zero0", "precision=fp32", _DROPOUT)),
    Variant("ZeRO-1, bf16, full", ("zero=zero1", "precision=bf16", _DROPOUT)),
    Variant("ZeRO-2, fp32, full", ("zero=zero2", "precision=fp32", _DROPOUT)),
    Variant("ZeRO-2, bf16, LoRA", ("zero=zero2", "precision=bf16", *_LORA)),
    Variant("ZeRO-3, bf16, full", ("zero=zero3", "precision=bf16", _DROPOUT)),
    Variant("ZeRO-3, fp32, LoRA", ("zero=zero3", "precision=fp32", *_LORA)),
)


def overrides(root: Path, name: str, *more: str) -> list[str]:
    """A run that is small in every respect, but for what can be killed in it."""
    return [
        "model=bench_scratch",
        "model.architecture.hidden_size=32",
        "model.architecture.intermediate_size=64",
        "model.architecture.num_hidden_layers=2",
        "global_batch_size=8",
        "micro_batch_size=1",
        f"limits.steps_per_phase={STEPS_PER_PHASE}",
        f"data.root={root}/data",
        f"data.cache_dir={root}/cache",
        "data.benchmark.multiplier=0.5",
        "data.benchmark.general_rows=60",
        "data.benchmark.eval_rows=2",
        "data.max_seq_len=96",
        "evaluation.every_steps=5",
        "evaluation.before_training=false",
        "evaluation.soft_crosstalk_rows=0",
        "evaluation.train_rows=2",
        "evaluation.behaviours=false",
        "evaluation.bootstrap_samples=10",
        "evaluation.rows_per_task=1",
        "interference.every_steps=4",
        "interference.rows_per_task=2",
        "cluster.threads_per_rank=1",
        "checkpoint.every_steps=2",
        "logging.console_seconds=1000",
        f"output_dir={root}/{name}",
        *more,
    ]


@dataclass
class Result:
    """What a run left, but for times.

    Attributes:
        metrics: all lines of ``metrics.jsonl``; interference: of ``interference.jsonl``.
        state: shards of the last checkpoint -> sha256: weights and moments.
        exports: files of the exported weights -> sha256.
        evaluations: files -> their content.
    """

    metrics: list[dict[str, Any]]
    interference: list[dict[str, Any]]
    state: dict[str, str]
    exports: dict[str, str]
    evaluations: dict[str, Any]


def result_of(run: Path) -> Result:
    """Read what a finished run left."""

    def timeless(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [without_clocks(one) for one in entries]

    marker = read_marker(checkpoints(run / "checkpoints")[0])
    return Result(
        timeless(metrics_of(run)),
        timeless(read_json_lines(run / "interference.jsonl")),
        {name: marker.files[name].sha256 for name in marker.shards},
        {
            str(path.relative_to(run)): hash_file(path).sha256
            for path in sorted(run.glob("phases/*/hf/*.safetensors"))
        },
        {
            str(path.relative_to(run)): json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(run.rglob("evaluation.json"))
        },
    )


@dataclass
class Kill:
    """One kill and what came of it."""

    moment: str
    rank: int
    call: int
    resumed: str = ""


@dataclass
class Outcome:
    """A variant's kills, and how its killed runs differ from the straight one: not at all."""

    variant: Variant
    kills: list[Kill] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    runs: int = 0


def run_variant(
    server: RankProcesses, root: Path, variant: Variant, kills: int, seed: int
) -> Outcome:
    """Run a variant undisturbed, then with so many kills at random moments."""
    rng = random.Random(f"{seed}/{variant.name}")
    composed(overrides(root, "unused"))  # generates the data once
    slug = "".join(one if one.isalnum() else "-" for one in variant.name)
    want = _finish(server, overrides(root, f"{slug}-straight", *variant.overrides))
    outcome = Outcome(variant)
    todo = _moments(rng, kills)
    while todo or not outcome.runs:
        name = f"{slug}-killed{outcome.runs}"
        outcome.runs += 1
        given = overrides(root, name, *variant.overrides)
        ended = False
        while todo and not ended:
            moment = todo.pop(0)
            kill = Kill(moment.name, 0 if moment.main else rng.randrange(2), 0)
            kill.call = rng.randint(1, moment.calls)
            act = {"target": moment.target, "rank": kill.rank, "call": kill.call}
            ended = not _killed(server, given, kill, ("acts:kill_at", act))
            if ended:
                todo.append(moment)  # the run came to its end first
            else:
                outcome.kills.append(kill)
        got = _finish(server, given)
        outcome.differences += [
            f"{name}: {part}"
            for part in ("metrics", "interference", "state", "exports", "evaluations")
            if getattr(got, part) != getattr(want, part)
        ]
    return outcome


def _moments(rng: random.Random, kills: int) -> list[Moment]:
    """All moments in random order, again and again, until there are enough."""
    drawn: list[Moment] = []
    while len(drawn) < kills:
        drawn += rng.sample(MOMENTS, len(MOMENTS))
    return drawn[:kills]


def _killed(server: RankProcesses, given: list[str], kill: Kill, act: Act) -> bool:
    """Start, and see whether the kill came before the end."""
    outcome = server.run(given, act=act, timeout=300, launcher_like=True, grace=2)
    kill.resumed = _origin(outcome.outputs[0])
    if outcome.codes[kill.rank] == -9:
        return True
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    return False


def _finish(server: RankProcesses, given: list[str]) -> Result:
    """Let a run come to its end."""
    outcome = server.run(given, timeout=300, launcher_like=True)
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    folder = next(one for one in given if one.startswith("output_dir=")).removeprefix("output_dir=")
    return result_of(Path(folder))


def _origin(output: str) -> str:
    for line in output.splitlines():
        if "Resumes behind step" in line:
            return "step " + line.split("Resumes behind step ")[1].split(" ")[0]
        if "Starts from the model" in line:
            return "the start"
    return "not reached"


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: kills by moment and variant, and whether the results are the same."""
    heads = ["killed", *(one.variant.name for one in outcomes)]
    rows = [heads, ["---"] * len(heads)]
    for moment in MOMENTS:
        counts = [sum(kill.moment == moment.name for kill in one.kills) for one in outcomes]
        rows.append([moment.name, *(str(count) for count in counts)])
    rows.append(["**kills**", *(str(len(one.kills)) for one in outcomes)])
    same = ["no difference" if not one.differences else "DIFFERENT" for one in outcomes]
    rows.append(["**against the straight run**", *same])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Run all variants and print the table."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    outcomes = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        RankProcesses(Path(scratch) / "server") as server,
    ):
        for variant in VARIANTS:
            outcome = run_variant(server, Path(scratch), variant, kills, seed=0)
            outcomes.append(outcome)
            print(f"{variant.name}: {len(outcome.kills)} kills in {outcome.runs} runs", flush=True)
            for kill in outcome.kills:
                where = f"{kill.moment} (call {kill.call}), started from {kill.resumed}"
                print(f"  rank {kill.rank} {where}", flush=True)
            print("  differences:", outcome.differences or "none", flush=True)
    print(table(outcomes))
    sys.exit(any(one.differences for one in outcomes))


if __name__ == "__main__":
    main()
