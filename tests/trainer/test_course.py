"""Where hard tasks come from: an evaluation of an earlier phase, a file, or one that is yet to be made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_modules.config import DataConfig, SourceConfig, TaskConfig
from data_modules.faults import ConfigFault, DataFault, Fault
from data_modules.mixture import AutoHardConfig, HardBy
from data_modules.plan_bounds import Undecided
from tests.shared_checkpoint import STEPS_PER_PHASE, made_state, write_checkpoint
from tests.shared_evaluation import evaluation, judged
from trainer.config.schema import Config, CurriculumConfig, PhaseConfig
from trainer.course import Course, course_of, listed_course
from trainer.evaluation.results import Evaluation, save
from trainer.run_directory import INITIAL, RunDirectory, write_json, write_text
from trainer.start import find_start

NAMES = ("code", "json", "math", "qa")
AFTER_MIX = evaluation(code=0.4, json=0.9, math=0.1, qa=0.3)
HARD = "curriculum.phases.hard.auto_hard"


def config_of(*select: str, hard: AutoHardConfig | None = None, **settings: Any) -> Config:
    """Three phases, the last of which picks two of four specialised tasks."""
    tasks = {
        name: TaskConfig(
            {"main": SourceConfig(f"train/{name}.jsonl", f"eval/{name}.jsonl")},
            metric="exact",
            general=name == "chat",
        )
        for name in (*NAMES, "chat")
    }
    phases = {name: PhaseConfig(epochs=1.0) for name in ("mix", "specialize", "hard")}
    phases["hard"].tasks = ["auto_hard"]
    phases["hard"].auto_hard = hard or AutoHardConfig(most=2)
    made = Config(data=DataConfig(tasks=tasks), **settings)
    made.curriculum = CurriculumConfig(phases, dict.fromkeys(select))
    return made


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def finish(run: RunDirectory, **columns: Evaluation | None) -> None:
    """Leave what finished phases leave, ten steps each; None is not evaluated."""
    phases = [name for name in columns if name != INITIAL]
    for number, name in enumerate(phases, start=1):
        write_json(run.phase(name) / "phase.json", {"phase": name, "last_step": 10 * number})
        run.export(name).mkdir(parents=True)
    for name, found in columns.items():
        if found is not None:
            save(run.evaluation(name), found)
    lines = [json.dumps({"step": step, "phase": name, "loss": 1.0}) + "\n"
             for step, name in enumerate(phases, start=1)]  # fmt: skip
    write_text(run.metrics, "".join(lines))


def course(config: Config, run: RunDirectory) -> Course:
    return course_of(config, find_start(config, run), run)


def fault_of(config: Config, run: RunDirectory, kind: type[ConfigFault] | type[DataFault]) -> Fault:
    with pytest.raises(kind) as caught:
        course(config, run)
    (fault,) = caught.value.faults
    return fault


def test_listed_phases_are_the_selected_ones(run: RunDirectory) -> None:
    config = config_of("specialize", "mix")
    made = course(config, run)
    assert list(made.phases) == ["specialize", "mix"]
    assert all(made.phases[name] is config.curriculum.phases[name] for name in made.phases)
    assert (made.choices, made.waiting, made.later, made.undecided()) == ({}, {}, [], {})
    placed = made.placed({"specialize": 4, "mix": 6}, 10)
    assert [(phase.first_step, phase.last_step) for phase in placed] == [(11, 14), (15, 20)]


def test_behind_a_finished_phase_the_choice_is_made_at_once(run: RunDirectory) -> None:
    finish(run, initial=evaluation(qa=0.0), mix=evaluation(qa=0.1, math=0.2), specialize=AFTER_MIX)
    made = course(config_of("hard"), run)
    assert made.phases["hard"].tasks == ["math", "qa"]
    assert made.choices["hard"].source == str(run.evaluation("specialize"))
    assert f"in {run.evaluation('specialize')}, 2 of 4 tasks" in made.choices["hard"].words
    assert (made.waiting, made.later) == ({}, [])


def test_a_choice_changes_nothing_else(run: RunDirectory) -> None:
    finish(run, specialize=AFTER_MIX)
    config = config_of("hard")
    config.curriculum.phases["hard"].lr = 7e-4
    picked = course(config, run).phases["hard"]
    assert config.curriculum.phases["hard"].tasks == ["auto_hard"]
    assert picked.lr == 7e-4
    assert picked.auto_hard == config.curriculum.phases["hard"].auto_hard


def test_init_from_a_phase_of_another_run(run: RunDirectory, tmp_path: Path) -> None:
    finish(run, mix=AFTER_MIX)
    here = RunDirectory(tmp_path / "other")
    made = course(config_of("hard", init_from=str(run.export("mix"))), here)
    assert made.phases["hard"].tasks == ["math", "qa"]
    assert made.choices["hard"].source == str(run.evaluation("mix"))


def test_the_evaluation_is_that_of_the_run_that_is_continued(
    run: RunDirectory, tmp_path: Path
) -> None:
    finish(run, mix=AFTER_MIX)
    here = RunDirectory(tmp_path / "other")
    finish(here, mix=evaluation(code=0.0, json=0.0, math=1.0, qa=1.0))  # of a run that is replaced
    config = config_of("hard", resume=str(run.root))
    before = replace(config, curriculum=CurriculumConfig(config.curriculum.phases, {"mix": None}))
    config.curriculum.phases = {name: config.curriculum.phases[name] for name in ("mix", "hard")}
    write_checkpoint(run.checkpoints, made_state(before, STEPS_PER_PHASE))
    made = course(config, here)
    assert made.choices["hard"].source == str(run.evaluation("mix"))
    assert made.phases["hard"].tasks == ["math", "qa"]


def test_a_waiting_phase_whose_evaluation_is_lost(run: RunDirectory) -> None:
    made = course(config_of("mix", "hard"), run)
    with pytest.raises(DataFault) as caught:
        made.choose("hard", {})
    (fault,) = caught.value.faults
    assert (fault.where, fault.seen) == (HARD, "no evaluation of phase 'mix'")
    assert "phases/" in fault.remedy


def test_a_named_evaluation_wins(run: RunDirectory, tmp_path: Path) -> None:
    finish(run, specialize=evaluation(code=0.0, json=0.0, math=1.0, qa=1.0))
    path = tmp_path / "evaluation.json"
    save(path, AFTER_MIX)
    settings = AutoHardConfig(most=1, evaluation=str(path))
    assert course(config_of("hard", hard=settings), run).phases["hard"].tasks == ["math"]
    # and needs no waiting in the middle of a run
    made = course(config_of("mix", "hard", hard=settings), run)
    assert made.phases["hard"].tasks == ["math"]
    assert made.waiting == {}
    assert made.choices["hard"].source == str(path)


def test_a_later_phase_waits(run: RunDirectory) -> None:
    config = config_of()
    config.curriculum.phases["polish"] = PhaseConfig(epochs=1.0)
    made = course(config, run)
    assert made.waiting == {"hard": ("specialize", "mix")}
    assert made.later == ["hard", "polish"]
    assert made.undecided() == {"hard": Undecided(2, 2)}
    assert made.phases["hard"].tasks == list(NAMES)  # without the general one
    assert made.waiting_words("hard", (3, 9)) == (
        "3 to 9 steps, tasks picked at its start from the evaluation of phase 'specialize', by score, "
        "at most 2"
    )
    assert made.waiting_words("hard", (3, 3)).startswith("3 steps, tasks picked at its start")
    steps = {"mix": 5, "specialize": 6, "polish": 7}
    assert [phase.name for phase in made.placed(steps, 0)] == ["mix", "specialize"]

    choice = made.choose("hard", {INITIAL: evaluation(qa=0.0), "specialize": AFTER_MIX})
    assert (choice.picked, choice.source) == (("math", "qa"), "specialize")
    assert "in the evaluation of phase 'specialize', 2 of 4 tasks" in choice.words
    made.take("hard", choice)
    assert (made.waiting, made.later, made.undecided()) == ({}, [], {})
    placed = made.placed(steps | {"hard": 3}, 0)
    assert [(phase.name, phase.first_step) for phase in placed[2:]] == [
        ("hard", 12),
        ("polish", 15),
    ]
    assert placed[2].config.tasks == ["math", "qa"]


def test_how_few_tasks_a_waiting_phase_may_get(run: RunDirectory) -> None:
    config = config_of()
    config.data.tasks["qa"].metric = "none"
    config.data.tasks["json"].sources["main"].eval = ""
    config.data.tasks["math"].target = 0.5
    for by, fewest in ((HardBy.score, 2), (HardBy.gap, 1), (HardBy.loss_fall, 3)):
        config.curriculum.phases["hard"].auto_hard = AutoHardConfig(by, most=3)
        assert course(config, run).undecided() == {"hard": Undecided(fewest, 3)}


@pytest.mark.parametrize(
    ("select", "columns"),
    [
        (("mix", "hard"), ("mix", INITIAL)),
        (("mix", "specialize", "hard"), ("specialize", "mix")),
    ],
)
def test_a_fall_is_over_the_phase_before(
    run: RunDirectory, select: tuple[str, ...], columns: tuple[str, str]
) -> None:
    made = course(config_of(*select, hard=AutoHardConfig(HardBy.loss_fall, 1)), run)
    assert made.waiting == {"hard": columns}
    after, before = columns
    found = {
        after: Evaluation({name: judged(0.0, loss=1.0) for name in NAMES}),
        before: Evaluation({name: judged(0.0, loss=2.0) for name in NAMES}),
    }
    found[before].tasks["json"] = judged(0.0, loss=1.25)
    choice = made.choose("hard", found)
    assert choice.picked == ("json",)
    assert choice.figures == pytest.approx({"json": 0.2, "code": 0.5, "math": 0.5, "qa": 0.5})


def test_a_fall_behind_finished_phases(run: RunDirectory) -> None:
    def losses(**values: float) -> Evaluation:
        return Evaluation({name: judged(0.0, loss) for name, loss in values.items()})

    fall = AutoHardConfig(HardBy.loss_fall, 1)
    start = losses(code=4.0, json=4.0, math=4.0, qa=4.0)
    mix = losses(code=2.0, json=2.0, math=2.0, qa=1.0)
    special = losses(code=1.0, json=1.5, math=1.0, qa=0.5)
    finish(run, initial=start, mix=mix, specialize=special)
    made = course(config_of("hard", hard=fall), run)
    assert made.phases["hard"].tasks == ["json"]
    assert made.choices["hard"].figures["json"] == 0.25
    # specialize trains again: what it starts from is mix's evaluation
    made = course(config_of("specialize", "hard", hard=fall), run)
    assert made.waiting == {"hard": ("specialize", "mix")}
    # the first phase's own fall is from the weights that the run started from
    named = AutoHardConfig(HardBy.loss_fall, 1, str(run.evaluation("mix")))
    made = course(config_of("hard", hard=named), run)
    assert made.choices["hard"].figures == {"code": 0.5, "json": 0.5, "math": 0.5, "qa": 0.75}


def test_the_first_phase_of_a_run_needs_a_source(run: RunDirectory) -> None:
    config = config_of("hard", "mix")
    fault = fault_of(config, run, ConfigFault)
    assert (fault.where, fault.seen) == (HARD, f"no finished phase 'specialize' in {run.root}")
    assert f"set {HARD}.evaluation" in fault.remedy
    config.curriculum.phases = {"hard": config.curriculum.phases["hard"]}
    config.curriculum.select = {}
    assert fault_of(config, run, ConfigFault).seen == "no phase before it"


def test_a_finished_phase_that_was_not_evaluated(run: RunDirectory, tmp_path: Path) -> None:
    finish(run, mix=AFTER_MIX, specialize=None)
    fault = fault_of(config_of("hard"), run, ConfigFault)
    assert (fault.where, fault.seen) == (HARD, f"no file {run.evaluation('specialize')}")
    fault = fault_of(config_of("hard", init_from=str(tmp_path / "model")), run, ConfigFault)
    assert fault.seen == f"no file {tmp_path / 'evaluation.json'}"


def test_a_fall_without_an_evaluation_before(run: RunDirectory, tmp_path: Path) -> None:
    fall = AutoHardConfig(HardBy.loss_fall, 1)
    config = config_of("mix", "hard", hard=fall)
    config.evaluation.before_training = False
    fault = fault_of(config, run, ConfigFault)
    assert fault.where == f"{HARD}.by"
    assert "Set evaluation.before_training=true" in fault.remedy

    finish(run, mix=None, specialize=AFTER_MIX)
    fault = fault_of(config_of("hard", hard=fall), run, ConfigFault)
    assert (
        fault.seen == f"loss_fall, but there is no evaluation before {run.evaluation('specialize')}"
    )
    # mix was not evaluated, and nothing evaluates it now
    fault = fault_of(config_of("specialize", "hard", hard=fall), run, ConfigFault)
    assert "the weights that the phase before starts from are not evaluated" in fault.seen
    loose = tmp_path / "evaluation.json"
    save(loose, AFTER_MIX)
    named = AutoHardConfig(HardBy.loss_fall, 1, str(loose))
    fault = fault_of(config_of("hard", hard=named), run, ConfigFault)
    assert fault.seen == f"loss_fall, but there is no evaluation before {loose}"


@pytest.mark.parametrize("text", ["", "[]", '{"tasks": {"qa": {"accuracy": 0.5}}}'])
def test_a_file_that_is_no_evaluation(run: RunDirectory, tmp_path: Path, text: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text, encoding="utf-8")
    config = config_of("hard", hard=AutoHardConfig(most=1, evaluation=str(path)))
    fault = fault_of(config, run, DataFault)
    assert fault.where == HARD
    assert fault.seen.startswith(f"{path} cannot be read as an evaluation (")


def test_every_fault_is_named_at_once(run: RunDirectory) -> None:
    config = config_of("hard", "again")
    settings = AutoHardConfig(HardBy.loss_fall, 1)
    config.curriculum.phases["again"] = PhaseConfig(tasks=["auto_hard"], auto_hard=settings)
    config.evaluation.before_training = False
    with pytest.raises(ConfigFault) as caught:
        course(config, run)
    wheres = [fault.where for fault in caught.value.faults]
    assert wheres == [HARD, "curriculum.phases.again.auto_hard.by"]


def test_without_a_run_all_candidates_stand() -> None:
    made = listed_course(config_of("hard"))
    assert made.phases["hard"].tasks == list(NAMES)
    assert made.undecided() == {}
