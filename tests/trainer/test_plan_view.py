"""The plan as it is shown, and every warning with its figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from data_modules.config import DataConfig, SourceConfig, TaskConfig
from data_modules.mixture import AutoHardConfig, BalanceConfig, NegativesConfig, Order, Strategy
from data_modules.phase_plan import PhasePlan
from data_modules.plan import plan_phase
from data_modules.prepare.tokeniser import TokenStats
from data_modules.roles import resolve_roles
from data_modules.samples import Sample, SampleStore
from tests.shared_evaluation import evaluation
from trainer.config.schema import Config, PhaseConfig, ScheduleConfig
from trainer.course import Course
from trainer.curriculum import Phase, place
from trainer.plan_view import plan_json, print_plan, wording_words
from trainer.plan_warnings import warnings_of

SIZES = {"code": 40, "qa": 120, "chat": 60}


@dataclass
class Data:
    """What the plan view asks of the data module."""

    plans: dict[str, PhasePlan] = field(default_factory=dict)

    def step_bounds(self, _phase: str) -> tuple[int, int]:
        return 3, 12

    def rejects(self, _phase: str) -> dict[str, dict[str, int]]:
        return {}

    def token_stats(self, _phase: str) -> TokenStats:
        return TokenStats()

    def rejects_file(self, _phase: str) -> Path:
        return Path("rejects.jsonl")


def config_of(**settings: Any) -> Config:
    tasks = {
        task: TaskConfig({"main": SourceConfig(f"{task}.jsonl")}, general=task == "chat")
        for task in SIZES
    }
    data = DataConfig(name="test", root="data", tasks=tasks, max_seq_len=64)
    config = Config(run_name="test", output_dir="x", data=data, global_batch_size=8)
    config.optimizer.beta2 = 0.9  # ten steps
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def store_of(sizes: dict[str, int]) -> SampleStore:
    """Answers of ``code`` have six tokens, the others' two; every fourth row of qa is a negative's."""

    def sample(task: str, index: int, sign: int = 1) -> Sample:
        answer = 6 if task == "code" else 2
        mask = np.arange(4 + answer) >= 4
        source = "rare" if task == "qa" and index % 4 == 0 else "main"
        return Sample(task, range(4 + answer), mask, sign, source)

    rows = [sample(task, i) for task in sorted(sizes) for i in range(sizes[task])]
    rows += [sample("qa", i, -1) for i in range(30)]
    return SampleStore.build(tuple(sorted(sizes)), rows)


def made(
    phase: PhaseConfig, config: Config | None = None, **sizes: int
) -> tuple[dict[str, Any], list[Phase], Config]:
    config = config or config_of()
    config.data.tasks["qa"].sources.setdefault("rare", SourceConfig("rare.jsonl"))
    weights = {
        f"{task}/{name}": source.weight
        for task, one in config.data.tasks.items()
        for name, source in one.sources.items()
    }
    plan = plan_phase(
        "mix",
        phase,
        resolve_roles(config.data, phase),
        store_of(SIZES | sizes),
        config.global_batch_size,
        0,
        source_weights=weights,
    )
    phases = place({"mix": phase}, {"mix": plan.steps})
    ranks = config.sequence_parallel_size  # one group
    return plan_json(Data({"mix": plan}), phases, config, ranks), phases, config  # type: ignore[arg-type]


def warned(*args: Any, **sizes: int) -> list[str]:
    return warnings_of(*made(*args, **sizes))


def shown(*args: Any) -> str:
    console = Console(width=250, record=True, file=StringIO())
    print_plan(console, *made(*args))
    return console.export_text()


def test_a_sound_plan_has_no_warning() -> None:
    assert warned(PhaseConfig(epochs=1.0, replay=0.3)) == []


def test_asked_and_realised_shares() -> None:
    balance = BalanceConfig(Strategy.weights, weights={"code": 1.0, "qa": 1.0})
    plan, *_ = made(PhaseConfig(epochs=1.0, balance=balance, negatives=NegativesConfig(share=0.1)))
    tasks = plan["phases"]["mix"]["tasks"]
    assert [tasks[task]["asked_share"] for task in ("code", "qa")] == [0.5, 0.5]
    assert [tasks[task]["rows"] for task in ("code", "qa")] == [80, 80]
    assert [tasks[task]["row_share"] for task in ("code", "qa")] == [0.5, 0.5]
    # Six supervised tokens a row against two; the negatives' are not among them.
    assert [tasks[task]["answer_token_share"] for task in ("code", "qa")] == [0.75, 0.25]
    assert [tasks[task]["negatives"] for task in ("code", "qa")] == [0, 16]


def test_the_table_shows_shares_negatives_and_factors() -> None:
    balance = BalanceConfig(Strategy.axes, importance={"qa": 3.0})
    text = shown(PhaseConfig(epochs=1.0, balance=balance, negatives=NegativesConfig(share=0.1)))
    for column in ("asked share", "row share", "token share", "negatives"):
        assert column in text
    for axis in ("quantity", "quality", "difficulty", "importance"):
        assert axis in text
    # importance 3 and 1 over their mean; (40, 120) ** .5 over theirs
    (line,) = (line for line in text.splitlines() if "│ qa " in line)
    assert [part for part in line.split("│") if " x " in part][-1].split() == ["x", "1.50"]
    assert "x 1.27" in line
    plain = shown(PhaseConfig(epochs=1.0))
    assert "negatives" not in plain
    assert "importance" not in plain


def test_ranks_that_share_sequences_are_packed_as_one() -> None:
    phase, shared = PhaseConfig(epochs=1.0), config_of(sequence_parallel_size=4)
    assert "derived: 1 rank(s), " in shown(phase)
    assert "derived: 4 rank(s) in groups of 4, " in shown(phase, shared)
    alone = config_of(micro_batch_size=4)
    shared.micro_batch_size = 4
    alone.data.packing = shared.data.packing = False
    one, four = (made(phase, config)[0] for config in (alone, shared))
    assert (one["sequence_parallel_size"], four["sequence_parallel_size"]) == (1, 4)
    efficiency = [plan["phases"]["mix"]["packing_efficiency"] for plan in (one, four)]
    assert efficiency[0] == efficiency[1] < 1


def test_the_table_shows_sources_of_different_weight() -> None:
    config = config_of()
    config.data.tasks["qa"].sources["rare"] = SourceConfig("rare.jsonl", weight=3.0)
    assert "by source: rare 60, main 60" in shown(PhaseConfig(epochs=1.0), config)


def test_negatives_are_shown_by_source() -> None:
    negatives = NegativesConfig(share=0.1)
    plan, *_ = made(PhaseConfig(epochs=1.0, negatives=negatives))
    tasks = plan["phases"]["mix"]["tasks"]
    # 160 rows: 16 negatives, all of them qa's, which has 8 of the rare source and 22 of main
    assert tasks["qa"]["sources"] == {"rare": 30, "main": 90}
    assert tasks["qa"]["negative_sources"] == {"rare": 6, "main": 10}
    assert (tasks["code"]["sources"], tasks["code"]["negative_sources"]) == ({}, {})
    text = shown(PhaseConfig(epochs=1.0, negatives=negatives))
    assert "mix: qa by source: rare 30, main 90; negatives by source: rare 6, main 10" in text
    assert "by source" not in shown(PhaseConfig(epochs=1.0))


def test_warm_up_longer_than_the_phase() -> None:
    phase = PhaseConfig(epochs=1.0, lr=1e-3, schedule=ScheduleConfig(warmup_steps=40))
    (line,) = warned(phase)
    assert "40 warm-up steps, but the phase has 20" in line
    assert "peaks at 0.0005 instead of 0.001" in line


def test_a_phase_shorter_than_the_second_moments_memory() -> None:
    config = config_of()
    config.optimizer.beta2 = 0.95
    assert warned(PhaseConfig(epochs=1.0), config) == [], "20 steps are just enough"
    config.optimizer.beta2 = 0.98
    (line,) = warned(PhaseConfig(epochs=1.0), config)
    assert line.startswith("curriculum.phases.mix: 20 steps, but optimizer.beta2 0.98")
    assert "about 50" in line


def test_sequential_forgets() -> None:
    (line,) = warned(PhaseConfig(epochs=1.0, order=Order.sequential))
    assert line.startswith("curriculum.phases.mix.order: sequential")
    assert "82-90 %" in line
    assert ".08" in line
    assert warned(PhaseConfig(epochs=1.5, tasks=["qa"], order=Order.sequential)) == []


def test_rows_that_come_too_often() -> None:
    balance = BalanceConfig(Strategy.weights, weights={"code": 9.0, "qa": 1.0})
    (line,) = warned(PhaseConfig(epochs=3.0, balance=balance))
    # 160 rows an epoch, nine tenths code: 432 of 40
    assert "more often than data.repeats_warning=8: code 11 (432 rows from 40)." in line
    config = config_of()
    config.data.repeats_warning = 11
    assert warned(PhaseConfig(epochs=3.0, balance=balance), config) == []


def test_a_task_that_contributes_nothing() -> None:
    lines = warned(PhaseConfig(steps=1), code=1)
    (line,) = (line for line in lines if "contributes" in line)
    assert "code contributes no row and no supervised token; the phase has 8 rows" in line


def test_a_step_that_cannot_hold_all_tasks() -> None:
    config = config_of(global_batch_size=2)
    (line,) = warned(PhaseConfig(epochs=1.0, replay=0.3), config)
    assert "3 tasks are mixed, but a step has 2 rows" in line
    assert warned(PhaseConfig(epochs=1.0, order=Order.grouped), config) == []


def test_a_source_without_rows() -> None:
    config = config_of()
    config.data.tasks["qa"].sources["lost"] = SourceConfig("lost.jsonl")
    config.data.tasks["qa"].sources["silenced"] = SourceConfig("silenced.jsonl", weight=0.0)
    config.data.tasks["qa"].sources["judge"] = SourceConfig(eval="judge.jsonl")
    (line,) = warned(PhaseConfig(epochs=1.0), config)
    assert line.startswith("no row is left of qa/lost:")


def test_an_epoch_that_caps_cannot_fill() -> None:
    balance = BalanceConfig(Strategy.caps, max_rows=40, rows=500)
    lines = warned(PhaseConfig(epochs=1.0, balance=balance))
    (line,) = (line for line in lines if ".balance" in line)
    assert (
        "an epoch has 80 rows instead of 500: every task has its min_rows or its max_rows" in line
    )


def test_an_epoch_that_unimax_shortened() -> None:
    balance = BalanceConfig(Strategy.unimax, max_repeats=2.0)
    (line,) = warned(PhaseConfig(epochs=4.0, balance=balance))
    assert "an epoch has 80 rows instead of 160" in line
    assert "more than 2 times" in line
    assert warned(PhaseConfig(epochs=2.0, balance=balance)) == []


def test_rejects_are_named_once() -> None:
    plan, phases, config = made(PhaseConfig(epochs=1.0))
    plan["phases"]["mix"]["rejects"] = {"qa": {"overlong": 2}}
    (line,) = warnings_of(plan, phases, config)
    assert line == (
        "training rows left out or truncated: qa 2 (2 overlong); each is listed in rejects.jsonl"
    )


def test_samples_longer_than_the_model_was_made_for() -> None:
    plan, phases, config = made(PhaseConfig(epochs=1.0))
    for positions in (None, 64, 65):
        assert warnings_of(plan, phases, config, positions) == []
    assert warnings_of(plan, phases, config, 63) == [
        "data.max_seq_len is 64, but the model's max_position_embeddings is 63: it was made for no "
        "longer samples. Set data.max_seq_len=63, or choose a model with a longer context."
    ]


@pytest.mark.parametrize("key", ["asked_shares", "factors", "epoch_rows", "sources_without_rows"])
def test_the_file_has_the_figures(key: str) -> None:
    plan, *_ = made(PhaseConfig(epochs=1.0))
    assert key in plan["phases"]["mix"]


def test_how_rows_are_worded() -> None:
    plain = {"rows": 10, "tagged": 10, "paraphrased": 0, "cues": {}}
    assert wording_words({"qa": plain}) == ""
    cued = {"rows": 20, "tagged": 18, "paraphrased": 3, "cues": {"qa": 4, "code": 1}}
    assert wording_words({"qa": plain, "math": cued}) == (
        "of 30 rows 28 carry tag or constraint, 5 another task's cue, 3 a rephrased instruction"
    )


# --- phases that pick their tasks


def on_course(waiting: bool) -> tuple[dict[str, Any], str]:
    """Phase mix; hard, which picks one task; and polish, of as many rows as mix."""
    config = config_of()
    hard = PhaseConfig(epochs=1.0, tasks=["auto_hard"], auto_hard=AutoHardConfig(most=1))
    polish = PhaseConfig(epochs=1.0, lr=7e-4)
    phases = {"mix": PhaseConfig(epochs=1.0), "hard": hard, "polish": polish}
    config.curriculum.phases = dict(phases)
    course = Course(config, phases, waiting={"hard": ("mix", "initial")})
    course.phases["hard"] = replace(hard, tasks=["code", "qa"])
    if not waiting:
        course.take("hard", course.choose("hard", {"mix": evaluation(code=0.25, qa=0.5)}))
    plans = {
        name: plan_phase(
            *(name, phase, resolve_roles(config.data, phase), store_of(SIZES)),
            *(config.global_batch_size, 0),
        )
        for name, phase in course.phases.items()
        if name not in course.waiting
    }
    placed = course.placed({name: plan.steps for name, plan in plans.items()}, 0)
    plan = plan_json(Data(plans), placed, config, 1, course)  # type: ignore[arg-type]
    console = Console(width=250, record=True, file=StringIO())
    print_plan(console, plan, placed, config, course)
    return plan, console.export_text()


def test_a_phase_that_picks_its_tasks_later_is_shown_with_its_bounds() -> None:
    plan, text = on_course(waiting=True)
    assert list(plan["phases"]) == ["mix"]
    assert list(plan["later"]) == ["hard", "polish"]
    assert plan["later"]["hard"]["steps"] == [3, 12]
    words = (
        "3 to 12 steps, tasks picked at its start from the evaluation of phase 'mix', by score, at "
        "most 1"
    )
    assert plan["later"]["hard"]["waiting"] == words
    assert f"hard: {words}" in text
    # what is listed is planned, but not numbered yet
    polish = plan["later"]["polish"]
    assert (polish["steps"], polish["tasks"]["qa"]["rows"]) == ([20, 20], 120)
    assert not {"first_step", "last_step"} & set(polish)
    assert "polish: 20 steps behind the phase before, 160 rows, mixed, lr 0.0007" in text
    assert "20 and 23 to 32 later steps of 8 rows" in text


def test_a_phase_that_picked_its_tasks_says_why() -> None:
    plan, text = on_course(waiting=False)
    assert "later" not in plan
    numbers = [(one["first_step"], one["last_step"]) for one in plan["phases"].values()]
    assert numbers == [(1, 20), (21, 25), (26, 45)]
    said = plan["phases"]["hard"]["auto_hard"]
    assert (said["picked"], said["figures"]) == (["code"], {"code": 0.25, "qa": 0.5})
    assert list(plan["phases"]["hard"]["tasks"]) == ["code"]
    assert f"hard: tasks {said['words']}" in text
    assert "auto_hard" not in plan["phases"]["polish"]
    assert "45 steps of 8 rows" in text
