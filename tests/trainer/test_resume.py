"""Which checkpoint a run continues from, and every difference that it must not continue with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from data_modules.config import SourceConfig, TaskConfig
from data_modules.faults import ConfigFault, DataFault, Fault
from tests.shared_checkpoint import (
    PHASES,
    SHAPES,
    STEPS_PER_PHASE,
    change_json,
    check_all,
    fingerprint,
    made_config,
    made_state,
    write_checkpoint,
)
from tests.shared_config import put
from trainer import distributed
from trainer.checkpoint.folder import COMPLETE, STATE, Damaged, read_marker, step_name
from trainer.config.schema import (
    AdaptationKind,
    Config,
    CurriculumConfig,
    Init,
    ModelConfig,
    OptimizerState,
    PhaseConfig,
    Precision,
    ScheduleConfig,
    Shape,
)
from trainer.curriculum import Phase, place, selected
from trainer.distributed import Ranks
from trainer.resume import (
    Resumed,
    find_resumed,
    frozen_faults,
    model_faults,
    plan_faults,
    verified_together,
)
from trainer.run_directory import RunDirectory

Change = Callable[[Config], None]
SHARD = "shard_00001_of_00002.safetensors"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "outputs" / "one")


def write(run: RunDirectory, *steps: int, config: Config | None = None) -> None:
    for step in steps:
        write_checkpoint(run.checkpoints, made_state(config or made_config(run.root), step))


def found(config: Config, run: RunDirectory) -> Resumed:
    resumed = find_resumed(config, run, check_all)
    assert resumed is not None
    return resumed


def faults_of(config: Config, run: RunDirectory) -> list[Fault]:
    with pytest.raises(ConfigFault) as caught:
        find_resumed(config, run, check_all)
    return caught.value.faults


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


# --- which one


def test_there_is_nothing_to_continue(run: RunDirectory) -> None:
    assert find_resumed(made_config(run.root), run, check_all) is None
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "step_000004.tmp-1a2b3c4d").mkdir()
    assert find_resumed(made_config(run.root), run, check_all) is None


def test_the_newest_is_continued(run: RunDirectory) -> None:
    write(run, 2, 6)
    resumed = found(made_config(run.root), run)
    assert resumed.folder == run.checkpoints / step_name(6)
    assert (resumed.global_step, resumed.steps_before, resumed.earlier_phases) == (6, 0, ())
    assert (resumed.notes, resumed.source) == ((), run)
    assert resumed.marker == read_marker(resumed.folder)
    assert resumed.state == made_state(made_config(run.root), 6)
    assert resumed.words == (
        f"Resumes behind step 6 (2 of 4 steps of phase 'specialize') from {resumed.folder}."
    )


def test_never_looks_at_none(run: RunDirectory) -> None:
    write(run, 2)
    (run.checkpoints / step_name(2) / COMPLETE).unlink()
    assert find_resumed(made_config(run.root, resume="never"), run, check_all) is None


NAMED = {
    "checkpoint": ("checkpoints/step_000002", 2),
    "run directory": ("", 6),
    "its checkpoints": ("checkpoints", 6),
    "with a slash": ("checkpoints/step_000006/", 6),
}


@pytest.mark.parametrize(("path", "step"), list(NAMED.values()), ids=list(NAMED))
def test_a_path_names_one(run: RunDirectory, tmp_path: Path, path: str, step: int) -> None:
    write(run, 2, 6)
    other = RunDirectory(tmp_path / "outputs" / "other")
    config = made_config(other.root, resume=f"{run.root}/{path}")
    resumed = found(config, other)
    assert (resumed.global_step, resumed.source) == (step, run)


def test_a_copy_under_another_name_is_continued(run: RunDirectory, tmp_path: Path) -> None:
    write(run, 2)
    shutil.copytree(run.checkpoints / step_name(2), tmp_path / "kept")
    config = made_config(run.root, resume=str(tmp_path / "kept"))
    assert found(config, RunDirectory(tmp_path / "new")).folder == tmp_path / "kept"


@pytest.mark.parametrize("make", ["", "folder", "file", "checkpoints", "step_000002"])
def test_a_path_that_names_none_is_a_fault(run: RunDirectory, tmp_path: Path, make: str) -> None:
    place = tmp_path / "elsewhere"
    if make == "file":
        place.write_text("{}")
    elif make:
        (place / ("" if make == "folder" else make)).mkdir(parents=True)
    write(run, 2)  # what this run has itself is not taken instead
    (fault,) = faults_of(made_config(run.root, resume=str(place)), run)
    assert fault.where == "resume"
    assert f"{place}" in fault.seen
    assert "it names a complete checkpoint" in fault.rule
    assert "resume=auto" in fault.remedy


@pytest.mark.parametrize("spelling", ["relative", "absolute", "dots", "link"])
def test_a_checkpoint_of_this_run_is_one_however_it_is_written(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    write(run, 2, 6)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(run.root)
    path = {
        "relative": "outputs/one",
        "absolute": str(run.root),
        "dots": "./outputs/../outputs/one",
        "link": "link",
    }[spelling]
    for root in (run.root, Path("outputs/one")):
        here = RunDirectory(root)
        for suffix, step in (("", 6), ("/checkpoints", 6), ("/checkpoints/step_000002", 2)):
            resumed = found(made_config(root, resume=path + suffix), here)
            assert resumed.folder == here.checkpoints / step_name(step)
            assert resumed.source == here, "it would take itself for another run"


def test_the_same_command_goes_on_from_its_own(run: RunDirectory, tmp_path: Path) -> None:
    """A job that is requeued with resume=PATH must not go back to PATH each time."""
    write(run, 2)
    new = RunDirectory(tmp_path / "outputs" / "new")
    config = made_config(new.root, resume=str(run.root))
    write(new, 9)  # of an earlier run under this name, started with resume=auto
    assert found(config, new).folder == run.checkpoints / step_name(2)
    write(new, 3, 5, config=config)
    assert found(config, new).folder == new.checkpoints / step_name(5)
    flip(new.checkpoints / step_name(5) / SHARD)
    assert found(config, new).folder == new.checkpoints / step_name(3)
    # Another path is another command.
    again = made_config(new.root, resume=str(run.checkpoints / step_name(2)))
    assert found(again, new).folder == run.checkpoints / step_name(2)


# --- damage


@pytest.mark.parametrize("name", [COMPLETE, STATE, SHARD])
@pytest.mark.parametrize("harm", [flip, lambda path: os.truncate(path, 9), Path.unlink])
def test_a_damaged_one_is_passed_over_with_a_note(
    run: RunDirectory, name: str, harm: Callable[[Path], object]
) -> None:
    write(run, 2, 3, 6)
    harm(run.checkpoints / step_name(6) / name)
    flip(run.checkpoints / step_name(3) / SHARD)
    resumed = found(made_config(run.root), run)
    assert resumed.global_step == 2
    newest, next_one = resumed.notes
    assert newest.startswith(f"{run.checkpoints / step_name(6)} cannot be used: {name}")
    assert next_one == (
        f"{run.checkpoints / step_name(3)} cannot be used: {SHARD} is not what was written: its "
        "checksum differs"
    )


def test_a_plan_looks_at_sizes_alone(run: RunDirectory) -> None:
    write(run, 2, 6)
    flip(run.checkpoints / step_name(6) / SHARD)
    resumed = find_resumed(made_config(run.root), run)
    assert resumed is not None
    assert resumed.global_step == 6
    os.truncate(run.checkpoints / step_name(6) / SHARD, 3)
    resumed = find_resumed(made_config(run.root), run)
    assert resumed is not None
    assert resumed.global_step == 2


def test_all_damaged_is_a_fault_of_the_data(run: RunDirectory) -> None:
    write(run, 2, 6)
    (run.checkpoints / step_name(6) / COMPLETE).unlink()
    state = run.checkpoints / step_name(2) / STATE
    text = state.read_text(encoding="utf-8")
    assert '"seed": 0' in text
    state.write_text(text.replace('"seed": 0', '"seed": 1'), encoding="utf-8")  # of the same size
    with pytest.raises(DataFault) as caught:
        find_resumed(made_config(run.root), run, check_all)
    (fault,) = caught.value.faults
    assert fault.where == str(run.checkpoints)
    assert f"{step_name(6)} cannot be used: {COMPLETE} cannot be read" in fault.seen
    assert f"{step_name(2)} cannot be used: {STATE} is not what was written" in fault.seen
    assert "resume=never" in fault.remedy


@pytest.mark.parametrize("key", ["global_step", "phase_end"])
def test_a_marker_and_its_state_must_tell_the_same(run: RunDirectory, key: str) -> None:
    write(run, 2, 4)
    value = {"global_step": 5, "phase_end": False}[key]
    change_json(
        run.checkpoints / step_name(4) / COMPLETE, lambda marker: marker.update({key: value})
    )
    resumed = found(made_config(run.root), run)
    assert resumed.global_step == 2
    assert f"{STATE} is of step 4, a phase end, {COMPLETE} of step" in resumed.notes[0]


def test_ranks_share_the_files_and_what_they_find(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(run, 2)
    folder = run.checkpoints / step_name(2)
    marker = read_marker(folder)
    flip(folder / SHARD)
    told: list[str] = []

    def gather(_: Ranks, value: str) -> list[tuple[str, str]]:
        told.append(value)
        return [("node", one) for one in told]

    monkeypatch.setattr(distributed, "gather", gather)
    check_of = [verified_together(Ranks(rank, 3, rank, 3)) for rank in range(3)]
    check_of[0](folder, marker)
    for check in check_of[1:]:  # one rank's file is damaged; those asked later hear of it
        with pytest.raises(Damaged, match=f"^{SHARD} is not what was written"):
            check(folder, marker)
    assert sorted(map(bool, told)) == [False, False, True], "each file is read once"


# --- what may not change


def both(*changes: Change) -> Change:
    def change(config: Config) -> None:
        for one in changes:
            one(config)

    return change


def reordered(config: Config) -> None:
    phases = config.curriculum.phases
    config.curriculum.phases = {name: phases[name] for name in ("specialize", "mix", "hard")}


def without(phase: str) -> Change:
    return lambda config: config.curriculum.phases.pop(phase)  # type: ignore[func-returns-value]


MIX, SPECIALIZE, HARD = (f"curriculum.phases.{name}" for name in PHASES)
WARMUP = put(f"{SPECIALIZE}.schedule", ScheduleConfig(warmup_ratio=0.1))
RESET = put(f"{SPECIALIZE}.optimizer_state", OptimizerState.reset)

#: change, dotted key, value now, value before
DIFFERENCES: list[tuple[Change, str, str, str]] = [
    (put("seed", 1), "seed", "1", "0"),
    (put("global_batch_size", 32), "global_batch_size", "32", "64"),
    (put("precision", Precision.fp32), "precision", "fp32", "bf16"),
    (put("init_from", "a/hf"), "init_from", "a/hf", "None"),
    (put("adaptation.kind", AdaptationKind.lora), "adaptation.kind", "lora", "full"),
    (put("adaptation.rank", 16), "adaptation.rank", "16", "8"),
    (put("optimizer.beta2", 0.99), "optimizer.beta2", "0.99", "0.95"),
    (put("optimizer.weight_decay", 0.1), "optimizer.weight_decay", "0.1", "0.0"),
    (put("optimizer.max_grad_norm", 0.5), "optimizer.max_grad_norm", "0.5", "1.0"),
    (put("model.init", Init.random), "model.init", "random", "pretrained"),
    (
        put("model.architecture", {"hidden_size": 8}),
        "model.architecture.hidden_size",
        "8",
        "(absent)",
    ),
    (put(f"{MIX}.lr", 2e-4), f"{MIX}.lr", "0.0002", "0.0001"),
    (put(f"{SPECIALIZE}.lr", 2e-4), f"{SPECIALIZE}.lr", "0.0002", "0.0001"),
    (WARMUP, f"{SPECIALIZE}.schedule.warmup_ratio", "0.1", "0.0"),
    (put(f"{MIX}.schedule.shape", Shape.wsd), f"{MIX}.schedule.shape", "wsd", "constant"),
    (put(f"{MIX}.loss_weights", {"qa": 2.0}), f"{MIX}.loss_weights.qa", "2.0", "(absent)"),
    (put(f"{MIX}.tasks", ["qa", "code"]), f"{MIX}.tasks", "['qa', 'code']", "['qa']"),
    (RESET, f"{SPECIALIZE}.optimizer_state", "reset", "keep"),
]


@pytest.mark.parametrize(("change", "key", "now", "before"), DIFFERENCES)
def test_a_difference_is_spelled_out(
    run: RunDirectory, change: Change, key: str, now: str, before: str
) -> None:
    write(run, 2, 6)
    config = made_config(run.root)
    change(config)
    (fault,) = faults_of(config, run)
    assert (fault.where, fault.seen) == (key, now)
    assert fault.rule == f"it was {before} in what has been trained"
    folder = run.checkpoints / step_name(6)
    assert fault.remedy.startswith(f"{folder} cannot be continued with this.")
    assert all(way in fault.remedy for way in ("run_name", "resume=never", "resume=CHECKPOINT"))


def test_all_differences_are_listed_at_once(run: RunDirectory) -> None:
    write(run, 6)
    config = made_config(run.root)
    changes = [DIFFERENCES[number] for number in (0, 6, 11, 12, 15)]
    for change, *_ in changes:
        change(config)
    faults = faults_of(config, run)
    assert {fault.where for fault in faults} == {key for _, key, *_ in changes}
    assert [bool(fault.remedy) for fault in faults] == [False] * 4 + [True]


def test_a_newer_difference_does_not_go_back_to_an_older_checkpoint(run: RunDirectory) -> None:
    """Step 2 would fit, but 6 is what was trained: the user must decide."""
    write(run, 2, 6)
    config = made_config(run.root)
    put(f"{SPECIALIZE}.lr", 3e-4)(config)
    assert len(faults_of(config, run)) == 1
    config.resume = str(run.checkpoints / step_name(2))
    assert found(config, run).global_step == 2


ORDERS: list[tuple[Change, list[str]]] = [
    (without("mix"), [MIX]),
    (without("specialize"), ["+phase", SPECIALIZE]),
    (reordered, ["+phase"]),
    (put("curriculum.select", {"hard": None}), ["+phase"]),
    (put("curriculum.select", {"mix": None, "hard": None}), ["+phase"]),
    (put("curriculum.select", {"hard": None, "mix": None}), ["+phase"]),
]


@pytest.mark.parametrize(("change", "places"), ORDERS)
def test_phases_follow_one_another_as_they_did(
    run: RunDirectory, change: Change, places: list[str]
) -> None:
    write(run, 6)
    config = made_config(run.root)
    change(config)
    faults = faults_of(config, run)
    assert [fault.where for fault in faults] == places
    trained = "this run has trained mix, specialize up to step 6"
    expected = {
        "+phase": (", ".join(selected(config)), trained),
        MIX: ("no such phase", "it was trained in steps up to 4"),
        SPECIALIZE: ("no such phase", "it was trained in steps up to 8"),
    }
    for fault in faults:
        assert (fault.seen, fault.rule) == expected[fault.where]


# --- what may change

FREE: list[Change] = [
    put(f"{HARD}.lr", 9.0),
    put(f"{HARD}.optimizer_state", OptimizerState.reset),
    without("hard"),
    put("curriculum.phases.more", PhaseConfig()),
    put("curriculum.select", {"mix": None, "specialize": None}),
    put("micro_batch_size", 8),
    put("zero.stage", 3),
    put("deterministic", True),
    put("evaluation.every_steps", 5),
    put("evaluation.before_training", False),
    put("interference.every_steps", 7),
    put("logging.tensorboard", True),
    put("checkpoint.keep_last", 7),
    put("checkpoint.every_steps", 3),
    put("cluster.threads_per_rank", 4),
    put("limits.wall_time", "1-00:00:00"),
    put("run_name", "renamed"),
    put("model.path", "/mnt/models/qwen"),
    put("model.activation_checkpointing", True),
    put("data.cache_dir", "/tmp/cache"),
]


@pytest.mark.parametrize("change", FREE)
def test_all_else_may_change(run: RunDirectory, change: Change) -> None:
    write(run, 6)
    config = made_config(run.root)
    change(config)
    assert found(config, run).global_step == 6


def test_ranks_may_change(run: RunDirectory) -> None:
    write_checkpoint(run.checkpoints, made_state(made_config(run.root), 2), world_size=7)
    assert found(made_config(run.root), run).global_step == 2


# --- phases that the command does not select


@pytest.mark.parametrize(
    ("step", "select", "earlier", "before"),
    [
        (4, ["specialize"], ("mix",), 4),
        (4, ["specialize", "hard"], ("mix",), 4),
        (6, ["specialize"], ("mix",), 4),
        (8, ["hard"], ("mix", "specialize"), 8),
        (6, ["mix", "specialize"], (), 0),
        (12, ["mix"], (), 0),  # done long ago
        (12, ["specialize"], ("mix",), 4),
    ],
)
def test_phases_behind_it(
    run: RunDirectory, step: int, select: list[str], earlier: tuple[str, ...], before: int
) -> None:
    write(run, step)
    resumed = found(made_config(run.root, *select), run)
    assert (resumed.earlier_phases, resumed.steps_before) == (earlier, before)


def test_a_later_phase_needs_the_end_of_the_one_before(run: RunDirectory) -> None:
    write(run, 3)
    (fault,) = faults_of(made_config(run.root, "specialize"), run)
    assert (fault.where, fault.seen) == ("+phase", "specialize")
    assert fault.rule == "this run has trained mix up to step 3"


def test_a_phase_is_not_trained_twice(run: RunDirectory) -> None:
    write(run, 8)
    for select in (["hard", "mix"], ["specialize", "mix"], ["specialize", "hard", "mix"]):
        (fault,) = faults_of(made_config(run.root, *select), run)
        assert (fault.where, fault.seen) == ("+phase", ", ".join(select))


def test_steps_before_a_phase_that_began_with_weights_alone(run: RunDirectory) -> None:
    config = made_config(run.root, "specialize")
    write_checkpoint(run.checkpoints, made_state(config, 9, steps_before=7))
    resumed = found(config, run)
    assert (resumed.steps_before, resumed.earlier_phases) == (7, ())
    write_checkpoint(run.checkpoints, made_state(config, 11, steps_before=7))
    resumed = found(made_config(run.root, "hard"), run)
    assert (resumed.steps_before, resumed.earlier_phases) == (11, ("specialize",))


# --- the plan and the model, which are known later


@pytest.fixture
def resumed(run: RunDirectory) -> Resumed:
    write(run, 6)
    return found(made_config(run.root), run)


def placed(config: Config, steps: int = STEPS_PER_PHASE) -> list[Phase]:
    return place(selected(config), dict.fromkeys(PHASES, steps))


FINGERPRINTS = {name: fingerprint(name) for name in PHASES}


def test_the_same_plan_is_none_to_complain_of(run: RunDirectory, resumed: Resumed) -> None:
    config = made_config(run.root)
    assert plan_faults(config, resumed, placed(config), FINGERPRINTS) == []
    future = FINGERPRINTS | {"hard": "f" * 64}
    assert plan_faults(config, resumed, placed(config)[:2], future) == []


def test_another_plan_names_what_shapes_it(run: RunDirectory, resumed: Resumed) -> None:
    config = made_config(run.root)
    config.data.max_seq_len += 1
    config.data.cache_dir = "elsewhere"
    config.data.tasks["qa"] = TaskConfig({"main": SourceConfig("a.jsonl")})
    faults = plan_faults(config, resumed, placed(config), FINGERPRINTS | {"mix": "f" * 64})
    assert faults[0].where == MIX
    assert {fault.where for fault in faults[1:]} == {"data.tasks.qa", "data.max_seq_len"}
    assert faults[0].seen == "its plan is ffffffffffff"
    assert faults[0].rule == (
        f"it was trained by plan {fingerprint('mix')[:12]}, other rows or another order"
    )
    assert faults[-1].remedy.startswith(str(resumed.folder))
    length = next(fault for fault in faults if fault.where == "data.max_seq_len")
    assert length.seen == str(config.data.max_seq_len)
    assert length.rule == f"it was {config.data.max_seq_len - 1} in what has been trained"


def test_other_rows_under_the_same_settings(run: RunDirectory, resumed: Resumed) -> None:
    config = made_config(run.root)
    faults = plan_faults(config, resumed, placed(config), FINGERPRINTS | {"specialize": "0" * 64})
    assert [fault.where for fault in faults] == [SPECIALIZE, "data"]
    assert "so the data files or the tokenizer are not what they were" in faults[1].rule


def test_another_number_of_steps(run: RunDirectory, resumed: Resumed) -> None:
    config = made_config(run.root)
    config.limits.steps_per_phase = 3
    faults = plan_faults(config, resumed, placed(config, 3), FINGERPRINTS)
    assert [fault.where for fault in faults] == [MIX, SPECIALIZE, "limits.steps_per_phase"]
    assert (faults[0].seen, faults[0].rule) == ("steps 1 to 3", "it was trained as steps 1 to 4")
    assert (faults[1].seen, faults[1].rule) == ("steps 4 to 6", "it was trained as steps 5 to 8")
    assert (faults[2].seen, faults[2].rule) == ("3", "it was None in what has been trained")


def test_another_model(resumed: Resumed) -> None:
    model = dict(resumed.state.model)
    assert model_faults(resumed, model, SHAPES) == []
    changed = model | {"hidden_size": 32, "rope": {"theta": 5.0}}
    shapes = {"model.a.weight": [4, 3], "model.scale": [], "model.new": [2]}
    faults = model_faults(resumed, changed, shapes)
    assert [(fault.where, fault.seen) for fault in faults] == [
        ("model.hidden_size", "32"),
        ("model.rope.theta", "5.0"),
        ("model: model.a.weight", "shape [4, 3]"),
    ]
    assert faults[2].rule == "the checkpoint has [3, 4]; 3 trained parameters differ"
    (fault,) = model_faults(resumed, model, {**SHAPES, "model.new": [2]})
    assert (fault.where, fault.seen) == ("model: model.new", "shape [2]")
    assert "the checkpoint has (absent)" in fault.rule


def test_other_frozen_weights(resumed: Resumed) -> None:
    assert frozen_faults(resumed, resumed.state.frozen) == []
    (fault,) = frozen_faults(resumed, resumed.state.frozen + 1)
    assert fault.where == "model.path"


def test_an_untouched_configuration_is_never_refused(tmp_path: Path) -> None:
    """All kinds of values that a configuration may have survive the way through JSON."""
    config = made_config(
        tmp_path,
        model=ModelConfig(
            init=Init.random, architecture={"rope": {"a": [1, 2.5, None, True]}, "eps": 1e-06}
        ),
        seed=2**40,
    )
    config.curriculum = CurriculumConfig(
        phases={
            "mix": PhaseConfig(
                lr=1e-05 / 3,
                loss_weights={"qa": 1e-300},
                schedule=ScheduleConfig(Shape.wsd, warmup_steps=3),
                optimizer_state=OptimizerState.reset,
            )
        }
    )
    run = RunDirectory(tmp_path)
    state = replace(made_state(config, 2), watches={"x": float("nan")})
    write_checkpoint(run.checkpoints, state)
    assert found(config, run).global_step == 2
