"""Meters of whole runs: parts add up, a trace shows its steps, and neither changes what is trained."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from launching import composed, steps_of, without_clocks
from rank_processes import NO_REPORT, RankProcesses
from test_run import overrides

STEPS, FIRST, TRACED = 6, 3, 2
QUICK = ("+phase=mix", "evaluation=none", "checkpoint=none", f"limits.steps_per_phase={STEPS}")
PARTS = ("data", "forward", "backward", "optimizer", "communication", "other")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("meters")
    composed(overrides(made, "unused"))  # generates the data once
    return made


def run(server: RankProcesses, root: Path, name: str, *more: str) -> Path:
    outcome = server.run([*overrides(root, name, *QUICK), *more], act=NO_REPORT)
    assert set(outcome.codes.values()) == {0}, str(outcome)
    return root / name


def log_of(run: Path) -> str:
    return (run / "log/rank_0.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(server: RankProcesses, root: Path) -> Path:
    late = ("profile=trace", "profile.first_step=50", "gc_every_steps=1000")
    return run(server, root, "plain", "zero=zero3", *late)


@pytest.fixture(scope="module")
def traced(server: RankProcesses, root: Path) -> Path:
    window = (f"profile.first_step={FIRST}", f"profile.steps={TRACED}", "profile.ranks=[1]")
    kinds = ("profile.memory=true", "profile.stacks=true", "profile.shapes=true")
    more = ("logging.matmul_peak=false", "gc_every_steps=2")
    return run(server, root, "traced", "zero=zero3", "profile=trace", *window, *kinds, *more)


def test_parts_add_up_to_the_step(plain: Path) -> None:
    steps = steps_of(plain)
    assert len(steps) == STEPS
    for entry in steps:
        parts = {name: entry[f"time/{name}"] for name in PARTS}
        assert {name for name in entry if name.startswith("time/")} == {f"time/{p}" for p in PARTS}
        seconds = entry["tokens"] / entry["tokens_per_second"]
        assert sum(parts.values()) == pytest.approx(seconds, rel=1e-6)
        assert all(parts[name] > 0 for name in PARTS)  # two ranks gather weights
        assert parts["other"] < 0.5 * seconds
        assert entry["data_wait_seconds"] <= parts["data"]


def test_rates_are_of_the_step(plain: Path) -> None:
    for entry in steps_of(plain):
        supervised = sum(value for name, value in entry.items() if name.startswith("tokens/"))
        share = entry["supervised_tokens_per_second"] / entry["tokens_per_second"]
        assert share == pytest.approx(supervised / entry["tokens"])
        assert 0 < entry["mfu_of_matmul"] < 1
        assert "mfu" not in entry  # there is no data sheet of a CPU
        assert entry["memory/resident"] > 100e6
    assert "no data sheet's peak is known of this CPU" in log_of(plain)


def test_a_trace_and_collections_change_nothing(plain: Path, traced: Path) -> None:
    assert [without_clocks(one) for one in steps_of(traced)] == [
        without_clocks(one) for one in steps_of(plain)
    ]


def test_a_trace_has_its_steps_and_their_parts(traced: Path) -> None:
    files = sorted(path.name for path in (traced / "profile").iterdir())
    assert files == ["rank_1.json.gz", "rank_1.txt"]
    with gzip.open(traced / "profile/rank_1.json.gz", "rt", encoding="utf-8") as file:
        events: list[dict[str, Any]] = json.load(file)["traceEvents"]
    whole = [one for one in events if one.get("ph") == "X"]
    assert all({"name", "ts", "dur", "pid", "tid"} <= one.keys() for one in whole)
    named = {one["name"]: one for one in whole if one.get("cat") == "user_annotation"}
    wanted = {f"step {step}" for step in range(FIRST, FIRST + TRACED)}
    assert {name for name in named if name.startswith("step ")} == wanted
    assert set(PARTS) - {"other"} <= named.keys()
    step = named[f"step {FIRST + TRACED - 1}"]
    for part in ("data", "forward", "backward", "optimizer"):
        one = named[part]  # the last of its name
        assert step["ts"] <= one["ts"] <= one["ts"] + one["dur"] <= step["ts"] + step["dur"]
    assert any(one["name"] == "aten::mm" and one["args"].get("Input Dims") for one in whole)
    table = (traced / "profile/rank_1.txt").read_text(encoding="utf-8")
    assert "aten::mm" in table
    log = (traced / "log/rank_1.log").read_text(encoding="utf-8")
    assert f"profile: steps {FIRST} to {FIRST + TRACED - 1} are in {traced}/profile/rank_1" in log


def test_a_run_that_ends_before_says_so(plain: Path, traced: Path) -> None:
    assert "profile: the steps from 50 on were not traced" in log_of(plain)
    assert not (plain / "profile").exists()
    assert "not traced" not in log_of(traced)


def test_the_end_of_a_phase_cuts_a_trace(server: RankProcesses, root: Path) -> None:
    cut = run(server, root, "cut", "profile=trace", f"profile.first_step={STEPS}")
    assert f"profile: steps {STEPS} to {STEPS} are in {cut}/profile/rank_0.json.gz" in log_of(cut)
    for entry in steps_of(cut):
        assert entry["time/communication"] > 0  # ZeRO-2
