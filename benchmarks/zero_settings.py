"""Which of ZeRO's settings pay: the same training under each, in turns, with the time of a step by part.

python benchmarks/zero_settings.py --folder /tmp/zero --rounds 3

Two ranks and the work of the speed benchmark (``benchmarks/speed``), polyphase alone. A setting's ratio is
its step against that of the stage's own file in ``conf/zero``, within the same round. Two ranks on one CPU
say nothing of links between hosts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "speed"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compare import Contender, run
from work import Work, make_work, overrides

EXTRA = "zero.extra.zero_optimization"
#: stage -> settings -> overrides; the first of each stage is what the others are compared with.
SETTINGS: dict[str, dict[str, list[str]]] = {
    "zero0": {"as it is": []},
    "zero1": {
        "as it is": [],
        "buckets of 5 million": ["zero.reduce_bucket_size=5_000_000"],
        "buckets of 1 million": ["zero.reduce_bucket_size=1_000_000"],
        "reduce to owners": [f"{EXTRA}.use_multi_rank_bucket_allreduce=false"],
    },
    "zero2": {
        "as it is": [],
        "no overlap": ["zero.overlap_comm=false"],
        "buckets of 5 million": ["zero.reduce_bucket_size=5_000_000"],
        "buckets of 1 million": ["zero.reduce_bucket_size=1_000_000"],
        "reduce to owners": [f"{EXTRA}.use_multi_rank_bucket_allreduce=false"],
        "micro-batches twice as large": ["micro_batch_size=4"],
    },
    "zero3": {
        "as it is": [],
        "buckets of 5 million": ["zero.reduce_bucket_size=5_000_000"],
        "keeps up to a million whole": [f"{EXTRA}.stage3_max_live_parameters=1000000"],
    },
}


def seconds_by_part(metrics: Path) -> dict[str, float]:
    """Mean seconds of a step behind the warm-up, by part."""
    steps = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [one for one in steps if "loss" in one][2:]
    parts = [name for name in steps[0] if name.startswith("time/")]
    return {part[5:]: statistics.mean(one[part] for one in steps) for part in parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--stages", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--data")
    parser.add_argument("--tokenizer")
    options = parser.parse_args()
    folder = options.folder.resolve()
    work = Work(str(folder / "work"), 2, options.data, options.tokenizer, options.steps)
    make_work(work)
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for number in range(options.rounds):
        for stage in options.stages:
            settings = SETTINGS[stage]
            for name, more in settings.items():
                given = [*overrides(work), f"zero={stage}", *more]
                one = Contender(f"{stage} {name}", "polyphase_run.py", tuple(given))
                run(one, work, folder / f"round_{number}" / one.name.replace(" ", "_"))
                parts = seconds_by_part(work.path("run/metrics.jsonl"))
                found.setdefault(stage, {}).setdefault(name, []).append(parts)
                print(f"round {number + 1}  {one.name:36} {sum(parts.values()):.3f} s", flush=True)
    (folder / "zero_settings.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(f"\n{'':40}{'ratio':>8}{'step s':>9}{'communication s':>17}")
    for stage, settings in found.items():
        base = next(iter(settings.values()))
        for name, rounds in settings.items():
            totals = [sum(one.values()) for one in rounds]
            ratio = statistics.median(
                mine / sum(other.values()) for mine, other in zip(totals, base, strict=True)
            )
            sent = statistics.median(one["communication"] for one in rounds)
            step = statistics.median(totals)
            print(f"{stage + ' ' + name:40}{ratio:8.3f}{step:9.3f}{sent:17.3f}")


if __name__ == "__main__":
    main()
