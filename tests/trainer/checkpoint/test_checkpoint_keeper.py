"""When checkpoints are due, and that no rank waits for one that could not write."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.shared_checkpoint import made_config, made_fragments, made_state
from trainer import distributed
from trainer.checkpoint import keeper as keepers
from trainer.checkpoint import writer as writers
from trainer.checkpoint.folder import newest, step_name
from trainer.checkpoint.keeper import Keeper, model_settings, parameter_shapes
from trainer.checkpoint.trainer_state import read_state
from trainer.checkpoint.writer import SaveFailed
from trainer.distributed import Ranks
from trainer.faults import TrainingFault
from trainer.run_directory import RunDirectory

SETTINGS = {
    "model_type": "qwen2",
    "hidden_size": 16,
    "rope": {"theta": 1e4, "factors": [1, 2.5]},
    "tie_word_embeddings": False,
    "eos_token_id": None,
    "_name_or_path": "models/a",
    "transformers_version": "5.10",
    "dtype": "bfloat16",
    "id2label": {0: "no JSON"},
}


class FakeEngine:
    """As much of an engine as a keeper asks for."""

    def __init__(self) -> None:
        self.stage = 2
        self.module = nn.ParameterDict({"a": torch.zeros(2, 3), "b": torch.zeros(4)})
        self.module["b"].requires_grad_(False)
        self.causal_model = SimpleNamespace(config=SimpleNamespace(to_dict=lambda: SETTINGS))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setattr(keepers, "frozen_checksum", lambda _: 5)
    monkeypatch.setattr(keepers, "adam_step", lambda _: 2.0)
    monkeypatch.setattr(
        keepers, "owned_fragments", lambda _, rank, ranks: made_fragments(rank, ranks)
    )
    return RunDirectory(tmp_path)


def made_keeper(run: RunDirectory, rank: int = 0, world_size: int = 1, **settings: Any) -> Keeper:
    config = made_config(run.root)
    for name, value in settings.items():
        setattr(config.checkpoint, name, value)
    ranks = Ranks(rank, world_size, rank, world_size)
    engine: Any = FakeEngine()
    return Keeper(config, run, ranks, engine, "test")


def save(keeper: Keeper, run: RunDirectory, step: int) -> None:
    phases = made_state(made_config(run.root), step).phases
    keeper.save(step, phases, {"negatives": {"steps": 1}}, False, "it was time to")


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_steps_are_due_by_their_number(run: RunDirectory) -> None:
    due = [step for step in range(1, 10) if made_keeper(run, every_steps=3).step_is_due(step)]
    assert due == [3, 6, 9]
    assert not made_keeper(run).step_is_due(3)
    assert not made_keeper(run, every_steps=3, sharded=False).step_is_due(3)


def test_time_is_up_by_the_clock(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    keepers_of = {minutes: made_keeper(run, every_minutes=minutes) for minutes in (None, 0.5, 10.0)}
    off = made_keeper(run, every_minutes=0.5, sharded=False)
    now += 30.0
    assert [minutes for minutes, one in keepers_of.items() if one.time_is_up()] == [0.5]
    assert not off.time_is_up()


def test_a_checkpoint_restarts_the_clock(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = made_keeper(run, every_minutes=1.0)
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 60)
    assert keeper.time_is_up()
    save(keeper, run, 2)
    assert not keeper.time_is_up()
    keeper.settle()


def test_what_stands_in_it(run: RunDirectory) -> None:
    run.metrics.write_text("12345\n")
    keeper = made_keeper(run)
    keeper.passed_steps.append(1)
    save(keeper, run, 2)
    keeper.settle()
    assert keeper.newest == 2
    state = read_state(keeper.folder(2))
    shaping = ("model_type", "hidden_size", "rope", "tie_word_embeddings", "eos_token_id")
    assert state.model == {name: SETTINGS[name] for name in shaping}
    assert state.parameters == {"a": [2, 3]}, "those that are trained"
    assert (state.frozen, state.adam_step, state.world_size, state.zero_stage) == (5, 2.0, 1, 2)
    assert (state.passed_steps, state.cursors) == ([1], {"metrics.jsonl": 6})
    assert (state.watches, state.reason) == ({"negatives": {"steps": 1}}, "it was time to")


def test_shapes_are_those_of_whole_parameters() -> None:
    engine: Any = FakeEngine()
    engine.module["a"].ds_shape = torch.Size([8, 9])  # what ZeRO-3 leaves of a partitioned one
    assert parameter_shapes(engine) == {"a": [8, 9]}
    assert model_settings(engine)["rope"] == {"theta": 1e4, "factors": [1, 2.5]}


def test_a_failure_is_told_with_what_is_left(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = made_keeper(run)
    monkeypatch.setattr(distributed.socket, "gethostname", lambda: "node7")
    with monkeypatch.context() as patch:
        patch.setattr(writers, "write_shard", full)
        save(keeper, run, 1)
        with pytest.raises(TrainingFault, match="There is none yet") as caught:
            keeper.settle()
    assert "rank 0 on node7: No space left on device." in str(caught.value)
    assert caught.value.exit_code == 3
    assert keeper.failed

    keeper = made_keeper(run)
    save(keeper, run, 1)
    with monkeypatch.context() as patch:
        keeper.settle()
        patch.setattr(writers, "write_shard", full)
        save(keeper, run, 2)
        (run.checkpoints / step_name(3)).mkdir()  # not complete
        began = time.monotonic()
        with pytest.raises(TrainingFault) as caught:
            save(keeper, run, 4)
        assert time.monotonic() - began < 5
    kept = run.checkpoints / step_name(1)
    assert f"The last complete one is {kept}." in str(caught.value)
    assert (newest(run.checkpoints), keeper.newest) == (kept, 2)


class OtherRanks:
    """Stands for ``distributed.gather``: ranks beside this one that say what they are told to."""

    def __init__(self, rank: int, *says: SaveFailed | None) -> None:
        self.rank, self.says = rank, says

    def __call__(self, _: Ranks, value: Any) -> list[tuple[str, Any]]:
        all_say = [("node1", one) for one in self.says]
        all_say.insert(self.rank, ("node0", value))
        return all_say


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_main_rank_is_told_of_anothers_failure_before_it_waits(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    """The other's part will never come, and the patience is half an hour."""
    keeper = made_keeper(run, 0, world_size)
    others: list[SaveFailed | None] = [None] * (world_size - 1)
    monkeypatch.setattr(distributed, "gather", OtherRanks(0, *others))
    save(keeper, run, 2)
    others[-1] = SaveFailed("Disk quota exceeded")
    monkeypatch.setattr(distributed, "gather", OtherRanks(0, *others))
    began = time.monotonic()
    with pytest.raises(TrainingFault) as caught:
        keeper.settle()
    assert time.monotonic() - began < 5
    words = str(caught.value)
    assert f"rank {world_size - 1} on node1: Disk quota exceeded." in words
    assert "rank 0" not in words, "that others waited in vain is not a cause"


def test_every_rank_ends_when_the_main_rank_could_not_write(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = made_keeper(run, 1, 2)
    monkeypatch.setattr(distributed, "gather", OtherRanks(1, None))
    save(keeper, run, 2)
    monkeypatch.setattr(distributed, "gather", OtherRanks(1, SaveFailed("Input/output error")))
    with pytest.raises(TrainingFault, match="rank 0 on node1: Input/output error"):
        keeper.settle()
