"""The same work through polyphase, what a user would pick instead, and two bare loops: the speed benchmark.

make bench
python benchmarks/speed/compare.py --folder outputs/bench --rounds 3 --data DIR --tokenizer DIR

Every contender trains the same model on the same rows with the same optimizer, precision, maximum length
and DeepSpeed settings, in processes of its own, started by the same launcher. They take turns, so that
whatever else the machine does meets them alike; figures are compared within a round. Of TRL's and
Hugging Face's settings (micro-batch, sorting by length, packing) all run in the first round, and the best
of each go on.

Without ``--data`` and ``--tokenizer`` it is the built-in benchmark's data, whose rows are short.

Leaves ``results.json`` and ``speed.png`` in the folder, and prints the table. ``--check`` ends with 1 if
the ratio to a bare loop is more than 5 % below that of ``baseline.json``; ``--write-baseline`` sets it
anew. ``--until LOSS`` also measures the seconds that each needs until the evaluation loss is down at LOSS.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from contender import EVALUATE, OUT, STARTED, WORK
from work import Work, load_rows, make_work, overrides

HERE = Path(__file__).resolve().parent
#: Steps that warm up: caches fill, threads start.
WARM_UP = 2
#: Steps of the runs that are trained until a loss is reached, and after how many it is looked at.
UNTIL_STEPS, UNTIL_EVERY = 18, 2
BASELINE = HERE / "baseline.json"
TOLERANCE = 0.05
LIMITS = ("PyTorch loop", "DeepSpeed loop")
OURS = "polyphase"


@dataclass(frozen=True)
class Contender:
    """A program and its arguments; of one ``family`` only the fastest goes on behind the first round."""

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    family: str = ""
    communicates: bool = True


def contenders(work: Work) -> list[Contender]:
    """All that take part."""
    trl = [
        Contender(
            f"TRL, {batch} a micro-batch{', by length' if by_length else ''}",
            "hugging_face_run.py",
            ("--trainer=trl", f"--batch={batch}", *(["--by-length"] if by_length else [])),
            "TRL unpacked",
        )
        for batch, by_length in ((1, False), (2, True), (4, True), (4, False), (8, True))
    ]
    packed = [
        Contender(
            f"TRL packed, {batch} a micro-batch",
            "hugging_face_run.py",
            ("--trainer=trl", "--packing", f"--batch={batch}"),
            "TRL packed",
        )
        for batch in (1, 2)
    ]
    return [
        Contender(OURS, "polyphase_run.py", tuple(overrides(work))),
        Contender("PyTorch loop", "torch_loop.py", communicates=False),
        Contender("DeepSpeed loop", "deepspeed_loop.py"),
        *trl,
        *packed,
        *(
            Contender(
                f"HF Trainer, padded, {batch} a micro-batch",
                "hugging_face_run.py",
                ("--trainer=hf", f"--batch={batch}"),
                "HF Trainer",
            )
            for batch in (8, 4)  # its default, and what is faster here
        ),
    ]


@dataclass(frozen=True)
class Result:
    """One run of a contender.

    Attributes:
        seconds: of a step, in the mean behind the warm-up; the slowest rank's (of loops that do not wait
            for each other, the mean over ranks).
        tokens: per second behind the warm-up, on all ranks, without padding.
        startup: from the command to the end of the first step.
        peak: bytes of the largest process.
        losses: (training seconds, evaluation loss) where it was evaluated.
    """

    seconds: float
    tokens: float
    startup: float
    peak: int
    losses: list[tuple[float, float]]


def run(contender: Contender, work: Work, out: Path, evaluate: int = 0) -> Result:
    """Run a contender once.

    Raises:
        RuntimeError: it failed; its output is shown.
    """
    out.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        WORK: work.folder,
        OUT: str(out),
        EVALUATE: str(evaluate),
        STARTED: str(time.time()),
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // work.ranks)),
    }
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(work.ranks), str(HERE / contender.program)),
        *contender.arguments,
    ]
    log = out / "log"
    with log.open("w") as file:
        code = subprocess.run(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        raise RuntimeError(f"{contender.name}: exit code {code}\n{log.read_text()[-8000:]}")
    ranks = [json.loads((out / f"rank_{rank}.json").read_text()) for rank in range(work.ranks)]
    spans = [
        (one["ends"][-1] - one["ends"][WARM_UP - 1]) / (len(one["ends"]) - WARM_UP) for one in ranks
    ]
    first = ranks[0]
    return Result(
        seconds=max(spans) if contender.communicates else statistics.mean(spans),
        tokens=_rate(ranks, spans, contender.communicates),
        startup=first["startup_seconds"],
        peak=max(one["peak_bytes"] for one in ranks),
        losses=[
            (first["ends"][n - 1] - first["ends"][0], x) for n, x in first["evaluation_losses"]
        ],
    )


def _rate(ranks: list[dict[str, Any]], seconds: list[float], together: bool) -> float:
    """Tokens per second of all ranks: of those that wait for each other, by the slowest one's clock."""
    means = [sum(one["tokens"][WARM_UP:]) / (len(one["tokens"]) - WARM_UP) for one in ranks]
    if together:
        return sum(means) / max(seconds)
    return sum(mean / span for mean, span in zip(means, seconds, strict=True))


def rounds(work: Work, count: int, names: list[str], folder: Path) -> dict[str, list[Result]]:
    """All contenders in turns; behind the first round the fastest of each family."""
    field = [one for one in contenders(work) if not names or one.name in (OURS, *names)]
    results: dict[str, list[Result]] = {one.name: [] for one in field}
    for number in range(count):
        for one in field:
            result = run(one, work, folder / f"round_{number}" / one.name.replace(" ", "_"))
            results[one.name].append(result)
            print(f"round {number + 1}  {one.name:34} {result.tokens:7,.0f} tokens/s", flush=True)
        field = _best(field, results)
    return results


def _best(field: list[Contender], results: dict[str, list[Result]]) -> list[Contender]:
    def rate(one: Contender) -> float:
        return max(result.tokens for result in results[one.name])

    return [
        one
        for one in field
        if not one.family or one is max((x for x in field if x.family == one.family), key=rate)
    ]


def summary(work: Work, results: dict[str, list[Result]]) -> dict[str, Any]:
    """The figures of all contenders, and our rate as a multiple of theirs."""
    rows = load_rows(work.path("rows.npz"))
    tokens = float(np.mean([len(ids) for ids, _ in rows]))
    supervised = float(np.mean([mask.sum() for _, mask in rows]))
    table = {}
    for name, runs in results.items():
        rates = [one.tokens for one in runs]
        ours = [one.tokens for one in results[OURS]]
        ratios = [mine / other for mine, other in zip(ours, rates, strict=False)]
        table[name] = {
            "rounds": len(runs),
            "tokens_per_second": statistics.median(rates),
            "supervised_tokens_per_second": statistics.median(rates) * supervised / tokens,
            "polyphase_is": statistics.median(ratios),
            "polyphase_is_by_round": ratios,
            "peak_bytes": statistics.median(one.peak for one in runs),
            "startup_seconds": statistics.median(one.startup for one in runs),
        }
    return {
        "work": {
            "rows": len(rows),
            "tokens_per_row": tokens,
            "supervised_per_row": supervised,
            "vocabulary": _vocabulary(work),
            "steps": work.steps,
            "rows_per_step": work.rows_per_step,
            "max_length": work.max_length,
            "ranks": work.ranks,
            "zero_stage": work.zero_stage,
        },
        "contenders": table,
    }


def _vocabulary(work: Work) -> int:
    described = json.loads(work.path("model/config.json").read_text(encoding="utf-8"))
    return int(described["vocab_size"])


def until(work: Work, names: list[str], loss: float, folder: Path) -> dict[str, Any]:
    """Training seconds of each until the evaluation loss is at most ``loss``; None if it never is."""
    work = replace(work, folder=str(folder / "long_work"), steps=UNTIL_STEPS)
    make_work(work)
    seconds: dict[str, float | None] = {}
    curves: dict[str, list[tuple[float, float]]] = {}
    for one in contenders(work):
        if one.name in names and one.communicates:
            losses = run(
                one, work, folder / "until" / one.name.replace(" ", "_"), UNTIL_EVERY
            ).losses
            seconds[one.name] = next((at for at, seen in losses if seen <= loss), None)
            curves[one.name] = losses
            print(f"{one.name:32} loss {losses[-1][1]:.3f}, {loss} after {seconds[one.name]} s")
    return {"loss": loss, "seconds": seconds, "seconds_and_loss": curves}


def print_table(results: dict[str, Any]) -> None:
    """The results for people."""
    print(f"\n{results['work']}\n")
    head = ("supervised tokens/s", "tokens/s", "polyphase is", "peak MB", "start-up s")
    print(f"{'':34}" + "".join(f"{one:>21}" for one in head))
    for name, one in results["contenders"].items():
        print(
            f"{name:34}{one['supervised_tokens_per_second']:21,.0f}{one['tokens_per_second']:21,.0f}"
            f"{one['polyphase_is']:20.2f}x{one['peak_bytes'] / 1e6:21,.0f}{one['startup_seconds']:21.1f}"
        )


def regressions(results: dict[str, Any]) -> list[str]:
    """Where the ratio to a bare loop is more than 5 % below the baseline's."""
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    if baseline["work"] != results["work"]:
        return [f"{BASELINE} is of other work: {baseline['work']}, and this was {results['work']}"]
    kept = baseline["polyphase_is"]
    return [
        f"polyphase is {seen:.3f} of the {name}; the baseline is {kept[name]:.3f}"
        for name in LIMITS
        if (seen := results["contenders"][name]["polyphase_is"]) < kept[name] * (1 - TOLERANCE)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench"))
    parser.add_argument("--data", help="folder of the ten tasks (data=ten_tasks)")
    parser.add_argument("--tokenizer", help="folder of a tokenizer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--zero-stage", type=int, default=1, choices=[1, 2])
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--until", type=float, metavar="LOSS")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write-baseline", action="store_true")
    options = parser.parse_args()
    folder = options.folder.resolve()
    work = Work(
        folder=str(folder / "work"),
        ranks=options.ranks,
        data=options.data and str(Path(options.data).resolve()),
        tokenizer=options.tokenizer and str(Path(options.tokenizer).resolve()),
        steps=options.steps,
        zero_stage=options.zero_stage,
    )
    make_work(work)
    results = summary(work, rounds(work, options.rounds, options.only, folder))
    if options.until is not None:
        best = [
            name for name, one in results["contenders"].items() if one["rounds"] == options.rounds
        ]
        results["until"] = {
            "loss": options.until,
            "seconds": until(work, best, options.until, folder),
        }
    (folder / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print_table(results)
    from picture import draw

    draw(results, folder / "speed.png")
    if options.write_baseline:
        ratios = {name: round(results["contenders"][name]["polyphase_is"], 3) for name in LIMITS}
        kept = {"work": results["work"], "polyphase_is": ratios}
        BASELINE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if options.check:
        worse = regressions(results)
        if worse:
            sys.exit("\n".join(worse))


if __name__ == "__main__":
    main()
