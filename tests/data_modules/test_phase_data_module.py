"""The data module: from files to the micro-batches of any rank, and evaluation rows."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_modules import phase_data_module
from data_modules.config import BoundaryConfig, DataConfig, SourceConfig, TaskConfig
from data_modules.faults import DataFault
from data_modules.mixture import BalanceConfig, MixtureConfig, Order, PromptConfig, Strategy
from data_modules.phase_data_module import PhaseDataModule
from data_modules.phase_plan import PhasePlan
from data_modules.plan_bounds import Undecided
from data_modules.roles import hard_candidates, is_automatic, resolve_roles
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_rows, write_task

SIZES = {"code": 9, "math": 5, "qa": 12, "chat": 20}
MIX = MixtureConfig(epochs=1, replay=0.3)
HARD = MixtureConfig(
    tasks=["math"], epochs=2, balance=BalanceConfig(Strategy.caps, max_rows=4), order=Order.grouped
)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    tasks = {task: write_task(tmp_path, task, size, 4) for task, size in SIZES.items()}
    tasks["chat"].general = True
    return data_config(tmp_path, tasks)


def module(data: DataConfig, load: bool = True, **settings: Any) -> PhaseDataModule:
    arguments: dict[str, Any] = {
        "boundary": BoundaryConfig(),
        "mixtures": {"mix": MIX, "hard": HARD},
        "tokenizer": byte_tokenizer(CHATML),
        "seed": 0,
        "global_batch_size": 8,
    }
    made = PhaseDataModule(data=data, **(arguments | settings))
    if load:
        made.prepare()
        made.load()
    return made


# --- roles


def tasks_of(**general: bool) -> DataConfig:
    return DataConfig(tasks={name: TaskConfig(general=flag) for name, flag in general.items()})


def test_groups_resolve_to_tasks_in_declared_order() -> None:
    data = tasks_of(qa=False, code=False, math=False, chat=True)
    data.groups = {"hard": ["qa", "math"]}
    roles = resolve_roles(data, MixtureConfig(tasks=["hard", "code", "math"]))
    assert (roles.main, roles.rest, roles.general) == (("qa", "math", "code"), (), ())
    assert resolve_roles(data, MixtureConfig()).main == ("code", "math", "qa")
    assert resolve_roles(data, MixtureConfig(tasks=["general"])).main == ("chat",)


def test_rest_and_general_come_with_their_shares_only() -> None:
    data = tasks_of(qa=False, code=False, math=False, chat=True)
    roles = resolve_roles(data, MixtureConfig(tasks=["qa"], rest_share=0.1, replay=0.1))
    assert (roles.main, roles.rest, roles.general) == (("qa",), ("code", "math"), ("chat",))


def test_a_group_may_redefine_all() -> None:
    data = tasks_of(qa=False, code=False)
    data.groups = {"all": ["qa"]}
    assert resolve_roles(data, MixtureConfig()).main == ("qa",)


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="maths"):
        resolve_roles(tasks_of(math=False), MixtureConfig(tasks=["maths"]))


# --- prepare and load


def test_task_ids_do_not_depend_on_the_phases(data: DataConfig) -> None:
    whole, one = module(data), module(data, mixtures={"hard": HARD})
    assert whole.tasks == one.tasks == ("chat", "code", "math", "qa")
    assert (whole.trained_tasks, one.trained_tasks) == (("chat", "code", "math", "qa"), ("math",))


def test_one_phase_alone_trains_as_in_the_whole_curriculum(data: DataConfig) -> None:
    whole, one = module(data), module(data, mixtures={"hard": HARD})

    def tokens(made: PhaseDataModule) -> list[list[int]]:
        plan = made.plans["hard"]
        return [plan.store.tokens(int(row))[0].tolist() for row in plan.rows]

    assert tokens(one) == tokens(whole)
    assert one.plans["hard"].fingerprint() == whole.plans["hard"].fingerprint()


def folders(data: DataConfig, kind: str) -> list[Path]:
    return sorted(path for path in (Path(data.cache_dir) / kind).iterdir() if path.is_dir())


def test_samples_are_read_and_tokenised_once(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = module(data)
    assert len(folders(data, "rows")) == 1
    assert len(folders(data, "samples")) == 1, "both phases have the same boundaries: one store"
    assert len(folders(data, "plans")) == 2

    def refuse(what: str) -> Any:
        def work(*_: Any) -> Any:
            raise AssertionError(what)

        return work

    for name in ("run_jobs", "compare_rows"):
        monkeypatch.setattr(f"data_modules.prepare.clean_rows.{name}", refuse("read again"))
    monkeypatch.setattr("data_modules.prepare.tokenise.run_jobs", refuse("tokenised again"))
    monkeypatch.setattr(phase_data_module, "plan_phase", refuse("planned again"))
    again = module(data)
    for phase in ("mix", "hard"):
        assert again.plans[phase].rows.tolist() == made.plans[phase].rows.tolist()
    # Changed bytes are noticed.
    write_rows(Path(data.root) / "train/qa.jsonl", [{"instruction": "a", "output": "b"}])
    with pytest.raises(AssertionError, match="read again"):
        module(data)


def test_another_seed_or_size_is_only_planned_again(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = module(data)
    monkeypatch.setattr("data_modules.prepare.clean_rows.run_jobs", None)
    monkeypatch.setattr("data_modules.prepare.tokenise.run_jobs", None)
    two, three = module(data, seed=1), module(data, global_batch_size=4)
    assert two.plans["mix"].rows.tolist() != one.plans["mix"].rows.tolist()
    # every row of the phase's own tasks once, replay by chance
    right = [
        sorted(row for row in made.plans["mix"].rows if made.store("mix").task_ids[row])
        for made in (one, two)
    ]
    assert one.tasks[0] == "chat"
    assert right[0] == right[1]
    assert len(right[0]) == 26
    assert three.plans["mix"].rows.tolist() == one.plans["mix"].rows.tolist()
    assert three.plans["mix"].steps == 2 * one.plans["mix"].steps


def test_a_plan_saved_and_mapped_is_the_one_made(data: DataConfig) -> None:
    made = module(data)
    for phase in ("mix", "hard"):
        plan, fresh = made.plans[phase], made.make_plan(phase)
        assert isinstance(plan, PhasePlan)
        assert isinstance(plan.rows, np.memmap)
        assert plan.rows.dtype == fresh.rows.dtype
        assert plan.rows.tolist() == fresh.rows.tolist()
        for name in (
            *("name", "row_epochs", "global_batch_size", "asked", "factors"),
            *("epoch_rows", "asked_epoch_rows", "weighted_sources"),
        ):
            assert getattr(plan, name) == getattr(fresh, name), name
        assert plan.use() == fresh.use()
        assert plan.fingerprint() == fresh.fingerprint()


def test_a_plan_of_other_samples_is_refused(data: DataConfig) -> None:
    made = module(data)
    other = module(data, mixtures={"hard": HARD})
    with pytest.raises(DataFault, match="is a plan of another store"):
        PhasePlan.load(made.plan_folder("mix"), other.store("hard"))


def test_phases_without_boundaries_have_their_own_samples(data: DataConfig) -> None:
    plain = MixtureConfig(epochs=1, boundary=False)
    made = module(data, mixtures={"mix": MIX, "plain": plain})

    def texts(phase: str) -> set[str]:
        store = made.plans[phase].store
        row = int(store.rows_of("qa")[0])
        return set(made.tokenizer.decode(store.tokens(row)[0]).splitlines())

    assert {"[qa] qa train ", "Answer as qa.</s>"} <= texts("mix")
    assert "qa train </s>" in texts("plain")
    assert len(folders(data, "samples")) == 2
    assert len(folders(data, "rows")) == 1, "but read once"


def test_phases_that_word_by_chance_have_their_own_samples(data: DataConfig) -> None:
    prompts = PromptConfig(tag_dropout=0.5)
    mixtures = {
        name: MixtureConfig(epochs=1, prompts=one)
        for name, one in (
            ("a", prompts),
            ("b", prompts),
            ("c", PromptConfig()),
            ("d", PromptConfig()),
        )
    }
    made = module(data, mixtures=mixtures)
    places = [made.store_folder(name) for name in mixtures]
    assert len(set(places)) == 3
    assert places[2] == places[3]
    assert made.store("c") is made.store("d")
    assert len(folders(data, "samples")) == 3


def test_rejects_are_kept_and_counted(data: DataConfig) -> None:
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "output": ""}]
    rows += [{"instruction": "x" * 300, "output": "b"}] * 2
    write_rows(Path(data.root) / "train/qa.jsonl", rows)
    data.max_reject_ratio = 0.25
    made = module(data)
    assert made.rejects("mix") == {"qa": {"empty_answer": 1, "overlong": 2}}
    lines = made.rejects_file("mix").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert [(one["origin"], one["rule"]) for one in found] == [
        ("train/qa.jsonl:2", "empty_answer"),
        ("train/qa.jsonl:3", "overlong"),
        ("train/qa.jsonl:4", "overlong"),
    ]
    assert json.loads(found[0]["row"]) == rows[1]
    assert json.loads(found[1]["row"])["messages"][0]["content"] == "x" * 300
    assert made.plans["mix"].use()["qa"].available == 1
    # Counted again from the cache, in another process.
    assert module(data).rejects("mix") == made.rejects("mix")


def test_a_task_of_rejects_only_stops_before_training(data: DataConfig) -> None:
    write_rows(Path(data.root) / "train/qa.jsonl", [{"instruction": "x" * 300, "output": "b"}])
    with pytest.raises(DataFault, match="task 'qa' has no usable training row"):
        module(data, load=False).prepare()


def test_max_steps_and_rows_per_task_reach_the_plans(data: DataConfig) -> None:
    data.rows_per_task = 3
    made = module(data, max_steps=1)
    assert {name: plan.steps for name, plan in made.plans.items()} == {"mix": 1, "hard": 1}
    assert {use.available for use in made.plans["mix"].use().values()} == {5, 9, 12, 20}
    assert max(use.distinct for use in made.plans["mix"].use().values()) <= 3


def test_weights_of_sources_reach_the_plan(data: DataConfig) -> None:
    write_rows(
        Path(data.root) / "train/more.jsonl",
        [{"instruction": f"more {n}", "output": f"m{n}"} for n in range(12)],
    )
    data.tasks["qa"].sources["more"] = SourceConfig(train="train/more.jsonl", weight=3.0)
    balance = BalanceConfig(Strategy.caps, min_rows=48, max_rows=48)
    made = module(data, mixtures={"mix": MixtureConfig(tasks=["qa"], epochs=1, balance=balance)})
    assert made.plans["mix"].use()["qa"].sources == {"main": 12, "more": 36}


# --- batches


def pieces(batch: Any) -> list[tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...]]]:
    """(ids, weights of the tokens, task ids) of every sample in a micro-batch."""
    if batch.cu_seqlens is not None:
        borders = batch.cu_seqlens.tolist()
        spans = [(0, slice(a, b)) for a, b in pairwise(borders)]
    else:
        ends = [int((line != 0).sum()) for line in batch.input_ids]  # <pad> has id 0
        spans = [(line, slice(0, end)) for line, end in enumerate(ends)]
    return [
        (
            tuple(batch.input_ids[line, span].tolist()),
            tuple(batch.loss_weights[line, span].tolist()),
            tuple(batch.task_ids[line, span].tolist()),
        )
        for line, span in spans
    ]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 2])
def test_ranks_together_compute_exactly_the_plan(
    data: DataConfig, packing: bool, world: int, micro: int
) -> None:
    data.packing = packing
    data.max_seq_len = 80
    made = module(data)
    for phase, plan in made.plans.items():
        for step in range(plan.steps):
            rows = plan.step_rows(step)
            # A weight of its own for every row, so that none can be mixed up.
            weights = 1 + np.arange(len(rows)) / 64
            ranks = [
                made.step_batches(phase, step, weights, rank, world, micro) for rank in range(world)
            ]
            assert len({len(batches) for batches in ranks}) == 1
            batches = [batch for batches in ranks for batch in batches]
            expected = Counter(
                (
                    tuple(plan.store.tokens(int(row))[0].tolist()),
                    tuple((plan.store.tokens(int(row))[1] * weight).tolist()),
                    (int(plan.store.task_ids[row]),) * int(plan.store.lengths[row]),
                )
                for row, weight in zip(rows, weights, strict=True)
            )
            got = Counter(piece for b in batches if not b.empty for piece in pieces(b))
            assert got == expected
            assert sum(b.tokens for b in batches) == plan.store.lengths[rows].sum()
            for stand_in in (b for b in batches if b.empty):
                assert stand_in.loss_weights.sum() == 0
                assert (stand_in.labels == -100).all()
            assert all(b.input_ids.numel() <= micro * 80 for b in batches if packing)


def test_a_rank_without_rows_gets_the_shortest_one_as_stand_in(data: DataConfig) -> None:
    made = module(data, global_batch_size=3)
    plan = made.plans["mix"]
    rows = plan.step_rows(0)
    ranks = [made.step_batches("mix", 0, np.ones(3), rank, 4, 1) for rank in range(4)]
    empty = [batch for batches in ranks for batch in batches if batch.empty]
    assert empty, "three rows on four ranks leave one idle"
    assert all(b.input_ids.shape[1] == plan.store.lengths[rows].min() for b in empty)


def test_any_step_is_served_without_the_ones_before(data: DataConfig) -> None:
    one, two = module(data), module(data)
    for step in range(one.plans["mix"].steps):
        one.step_batches("mix", step, np.ones(8), 0, 1, 1)
    last = two.plans["mix"].steps - 1
    for a, b in zip(
        one.step_batches("mix", last, np.ones(8), 0, 1, 1),
        two.step_batches("mix", last, np.ones(8), 0, 1, 1),
        strict=True,
    ):
        assert torch.equal(a.input_ids, b.input_ids)


# --- evaluation rows


def test_evaluation_rows_are_the_first_of_each_file(data: DataConfig) -> None:
    data.tasks["code"].sources["main"].eval = ""
    made = module(data)
    rows, rejects = made.eval_rows("mix", 3)
    assert rejects == []
    assert {task: len(of_task) for task, of_task in rows.items()} == {"chat": 3, "math": 3, "qa": 3}
    assert [row.answer for row in rows["qa"]] == ["qa0", "qa1", "qa2"]
    assert [row.origin for row in rows["qa"]] == [f"eval/qa.jsonl:{line}" for line in (1, 2, 3)]
    everything, _ = made.eval_rows("mix", None)
    assert len(everything["qa"]) == 4


def test_evaluation_prompts_are_what_training_showed(data: DataConfig) -> None:
    plain = MixtureConfig(epochs=1, boundary=False)
    made = module(data, mixtures={"mix": MIX, "plain": plain})
    for phase, prompt in (
        ("mix", "<|user|>\n[qa] qa eval \nAnswer as qa.</s>\n<|assistant|>\n"),
        ("plain", "<|user|>\nqa eval </s>\n<|assistant|>\n"),
    ):
        row = made.eval_rows(phase, 1)[0]["qa"][0]
        assert made.tokenizer.decode(row.prompt_ids) == prompt
        assert row.input_ids[: len(row.prompt_ids)] == row.prompt_ids
        supervised = [i for i, on in zip(row.input_ids, row.supervised, strict=True) if on]
        assert made.tokenizer.decode(supervised) == "qa0</s>"


def test_overlong_and_unusable_evaluation_rows_are_left_out_with_a_reason(
    data: DataConfig,
) -> None:
    path = Path(data.root) / "eval/qa.jsonl"
    rows = [{"instruction": "x" * 300, "output": "b"}, {"instruction": "a", "output": ""}]
    write_rows(path, [*rows, {"instruction": "a", "output": "b"}])
    # found before training, not at the first phase end
    with pytest.raises(DataFault, match="1 of 3 rows are unusable"):
        module(data, load=False).prepare()
    data.max_reject_ratio = 0.5
    found, rejects = module(data).eval_rows("mix", None)
    assert [row.origin for row in found["qa"]] == ["eval/qa.jsonl:3"]
    assert {(one.rule, one.origin) for one in rejects} == {
        ("empty_answer", "eval/qa.jsonl:2"),
        ("overlong", "eval/qa.jsonl:1"),
    }


def test_a_missing_evaluation_file_is_a_user_fault(data: DataConfig) -> None:
    data.tasks["qa"].sources = {
        "main": SourceConfig(train="train/qa.jsonl", eval="eval/none.jsonl")
    }
    with pytest.raises(
        DataFault, match=r"data\.tasks\.qa\.sources\.main\.eval: cannot read .*none\.jsonl"
    ):
        module(data, load=False).prepare()


# --- phases whose tasks are picked later


def test_an_undecided_phase_is_planned_when_its_tasks_are_named(data: DataConfig) -> None:
    every = MixtureConfig(tasks=["code", "math", "qa"], epochs=1)
    made = module(data, mixtures={"mix": MIX, "hard": every}, undecided={"hard": Undecided(1, 2)})
    assert list(made.plans) == ["mix"]
    assert not made.plan_folder("hard").is_dir()
    # 5 rows of math alone, 9 + 12 of code and qa; eight rows a step
    assert made.step_bounds("hard") == (1, 3)
    made.decide("hard", ("qa", "math"))
    made.prepare_plan("hard")
    made.load_plan("hard")
    assert (made.undecided, made.plans["hard"].steps) == ({}, 3)
    listed = MixtureConfig(tasks=["qa", "math"], epochs=1)
    whole = module(data, mixtures={"mix": MIX, "hard": listed})
    assert made.plan_folder("hard") == whole.plan_folder("hard")
    assert np.array_equal(made.plans["hard"].rows, whole.plans["hard"].rows)
    assert made.plans["hard"].fingerprint() == whole.plans["hard"].fingerprint()


def test_preparing_finds_what_an_undecided_phase_could_not_train_on(data: DataConfig) -> None:
    data.tasks["math"].sources["main"].where = "1 == 2"
    every = MixtureConfig(tasks=["code", "math", "qa"], epochs=1)
    mixtures = {"code": MixtureConfig(tasks=["code"], epochs=1), "hard": every}
    with pytest.raises(DataFault, match="task 'math' has no usable training row"):
        module(data, mixtures=mixtures, undecided={"hard": Undecided(1, 2)})


def test_what_can_be_hard() -> None:
    data = tasks_of(math=False, chat=True, code=False, judge=False, silent=False)
    for name in ("math", "chat", "code"):
        data.tasks[name].sources["main"] = SourceConfig(f"{name}.jsonl")
    data.tasks["judge"].sources["main"] = SourceConfig(eval="judge.jsonl")
    data.tasks["silent"].sources["main"] = SourceConfig("silent.jsonl", weight=0.0)
    assert hard_candidates(data) == ("code", "math")
    assert is_automatic(MixtureConfig(tasks=["auto_hard"]))
    assert not is_automatic(MixtureConfig(tasks=["hard"]))
