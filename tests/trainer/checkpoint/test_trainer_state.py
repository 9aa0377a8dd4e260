"""The state beside weights: read as it was written, and refused when it is no state."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.shared_checkpoint import change_json, made_config, made_state
from trainer.checkpoint.folder import STATE, Damaged
from trainer.checkpoint.trainer_state import TrainerState, read_state


def write(folder: Path, state: TrainerState) -> Path:
    (folder / STATE).write_text(state.text(), encoding="utf-8")
    return folder


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = replace(
        made_state(made_config(tmp_path, seed=2**63), 6),
        passed_steps=[2, 5],
        cursors={"metrics.jsonl": 12_345_678_901},
        watches={"negatives": {"sums": {"qa": [0.1 + 0.2, 1e-300]}, "best": float("inf")}},
        frozen=-(2**63),
        adam_step=16_777_216.0,
        reason="Größe 大小 \u2028 \"'\\",
        phase_end=True,
    )
    assert read_state(write(tmp_path, state)) == state
    nan = replace(state, watches={"best": float("nan")})
    assert math.isnan(read_state(write(tmp_path, nan)).watches["best"])


def test_a_configuration_is_plain_enough_for_json(tmp_path: Path) -> None:
    """What is compared with the configuration of a later start must not change on the way."""
    state = made_state(made_config(tmp_path), 6)
    assert json.loads(json.dumps(state.settings)) == state.settings


def put(key: str, value: Any) -> Callable[[Any], None]:
    """Set one dotted key; numbers count into lists."""

    def change(state: Any) -> None:
        *path, last = key.split(".")
        for name in path:
            state = state[int(name)] if isinstance(state, list) else state[name]
        state[last] = value

    return change


MALFORMED: list[tuple[Callable[[Any], object], str]] = [
    (put("version", 2), "is not of version 1"),
    (lambda state: state.pop("version"), "is not of version 1"),
    (lambda state: state.pop("phases"), "is no trainer state"),
    (lambda state: state.pop("frozen"), "is no trainer state"),
    (put("unknown", 1), "is no trainer state"),
    (put("phases", {}), "a checkpoint is of some phase"),
    (put("phases", []), "a checkpoint is of some phase"),
    (put("phases", [7]), "is no trainer state"),
    (put("phases", None), "is no trainer state"),
    (put("phases.0.unknown", 1), "is no trainer state"),
    (put("phases.0.name", 1), "a phase has a name"),
    (put("phases.0.fingerprint", None), "a phase has a name, a fingerprint"),
    (put("phases.0.settings", []), "a phase has a name, a fingerprint and settings"),
    (put("phases.0.first_step", "1"), "a whole number is expected, not '1'"),
    (put("phases.1.last_step", 8.0), "a whole number is expected, not 8.0"),
    (put("phases.1.last_step", 5), "step 6 lies outside of phase 'specialize'"),
    (put("phases.1.first_step", 7), "step 6 lies outside of phase 'specialize'"),
    (put("global_step", 9), "step 9 lies outside of phase 'specialize'"),
    (put("global_step", "6"), "a whole number is expected"),
    (put("global_step", True), "a whole number is expected, not True"),
    (put("global_step", 6.0), "a whole number is expected"),
    (put("frozen", None), "a whole number is expected"),
    (put("world_size", [2]), "a whole number is expected"),
    (put("zero_stage", "2"), "a whole number is expected"),
    (put("settings", []), "a mapping is expected"),
    (put("model", None), "a mapping is expected"),
    (put("watches", 1), "a mapping is expected"),
    (put("cursors", []), "a mapping is expected"),
    (put("cursors.x", -1), "a count is below its least"),
    (put("cursors.x", 1.5), "a whole number is expected"),
    (put("passed_steps", ["1"]), "a whole number is expected"),
    (put("passed_steps", 3), "is no trainer state"),
    (put("adam_step", -1.0), "Adam cannot have counted -1.0 updates"),
    (put("adam_step", float("nan")), "Adam cannot have counted nan updates"),
    (put("adam_step", float("inf")), "Adam cannot have counted inf updates"),
    (put("adam_step", True), "Adam cannot have counted True updates"),
    (put("adam_step", "6"), "Adam cannot have counted '6' updates"),
    (put("parameters.x", [1.5]), "a whole number is expected"),
    (put("parameters.x", 5), "is no trainer state"),
    (put("phase_end", 0), "0 is neither"),
]


@pytest.mark.parametrize(("change", "words"), MALFORMED)
def test_malformed_states_are_refused(
    tmp_path: Path, change: Callable[[Any], object], words: str
) -> None:
    write(tmp_path, made_state(made_config(tmp_path), 6))
    change_json(tmp_path / STATE, change)
    with pytest.raises(Damaged) as caught:
        read_state(tmp_path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(STATE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON"),
        ("[1]", "holds no JSON object"),
        ("[" * 100_000, "is no JSON"),
        ("1" * 10_000, "is no JSON"),
        ('{"version": 1}', "is no trainer state"),
    ],
)
def test_what_is_no_state_at_all_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / STATE).write_text(text)
    with pytest.raises(Damaged, match=f"{STATE} {words}"):
        read_state(tmp_path)


def test_a_state_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=f"{STATE} cannot be read .No such file"):
        read_state(tmp_path)
