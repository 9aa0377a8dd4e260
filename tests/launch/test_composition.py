"""The Hydra tree: every file composes the way its header says, and phases select as promised."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from data_modules.config import CleaningConfig
from data_modules.faults import ConfigFault
from launch.composing import addable, checked_config, prepare_root
from tests.shared_data import write_rows
from trainer.config.schema import Config, OptimizerState
from trainer.config.strict_merge import to_config
from trainer.config.validate import validate
from trainer.curriculum import selected

REPOSITORY = Path(__file__).resolve().parents[2]
CONF = REPOSITORY / "conf"
FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.y*ml"))
#: What data=folder asks for besides, in the words of its header.
WITHOUT_GENERAL_TASK = (
    "+phase=[mix,specialize]",
    "curriculum.phases.mix.replay=0",
    "curriculum.phases.specialize.replay=0",
)

#: Groups that neither data nor curriculum touch: they are composed with the smallest of both.
APART_FROM_DATA = {
    *("model", "boundary", "optimizer", "zero", "adaptation", "evaluation", "logging"),
    *("checkpoint", "faults", "cluster", "sweep", "estimate", "debug"),
}


@cache
def composed(*overrides: str) -> tuple[DictConfig, dict[str, str]]:
    """The composed tree, and Hydra's choice of file per config group."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        tree = compose("train", overrides=addable(list(overrides)), return_hydra_config=True)
    choices = {str(key): str(value) for key, value in tree.hydra.runtime.choices.items()}
    with open_dict(tree):
        del tree["hydra"]
    return tree, choices


def config_of(*overrides: str) -> Config:
    return to_config(composed(*overrides)[0])


def header_of(file: str) -> str:
    """The comment lines a file opens with, as one line; the package line left out."""
    lines = (CONF / file).read_text(encoding="utf-8").splitlines()
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comments = [line.lstrip("# ") for line in lines[:first]]
    return " ".join(line for line in comments if not line.startswith("@package"))


def overrides_of(file: str) -> list[str]:
    """The overrides that a file's header names; a file that another one loads takes that one's."""
    if file == "train.yaml":
        return []
    header = header_of(file)
    found = re.search(r"(Select alone|Select|Loaded by|Used by):? (.*)", header)
    assert found, (
        f"conf/{file}: its header must say 'Select: ...', 'Loaded by ...' or 'Used by ...'"
    )
    overrides: list[str] = []
    for word in found[2].split():
        override = word.strip("`'").rstrip(".;,`")
        if not re.fullmatch(r"\+?[\w/@.<>]+=[^=\s]+", override):
            break
        overrides.append(override.replace("<phase>", "mix"))
    assert overrides, f"conf/{file}: no override follows '{found[1]}'"
    if found[1] == "Loaded by":
        group, _, option = overrides[0].partition("=")
        return overrides_of(f"{group}/{option}.yaml")
    needs = re.search(r"Needs ([\w.]+=\w+)\.", header)
    return overrides + ([needs[1]] if needs else [])


def was_chosen(file: str, choices: dict[str, str]) -> bool:
    """Whether Hydra composed ``file``, under whichever package."""
    if file == "train.yaml":
        return True
    folder, _, option = file.removesuffix(".yaml").rpartition("/")
    places = {
        (key.partition("@")[0], one)
        for key, value in choices.items()
        for one in re.findall(r"[\w/.-]+", value)
    }
    # A group's options may lie in sub-folders: experiment/bench/demo is experiment=bench/demo.
    parts = [*folder.split("/"), option]
    return any(
        ("/".join(parts[:depth]), "/".join(parts[depth:])) in places
        for depth in range(1, len(parts))
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory that looks like a Hugging Face model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    return folder


def with_files(config: Config) -> Config:
    """Make the data files that a configuration names exist; the benchmark makes its own."""
    root = Path(config.data.root)
    if config.data.benchmark is None:
        names = list(config.data.tasks) or ["alpha", "beta"]
        for name in names:
            for split in ("train", "eval"):
                (root / split).mkdir(parents=True, exist_ok=True)
                (root / split / f"{name}.jsonl").touch()
        prepare_root(config)
    return config


def test_the_tree_is_found_whole() -> None:
    assert len(FILES) >= 82
    groups = {file.split("/")[0] for file in FILES}
    assert groups >= {
        *("train.yaml", "model", "data", "task", "balance", "boundary", "phase", "curriculum"),
        *("optimizer", "zero", "adaptation", "evaluation", "logging", "checkpoint", "cluster"),
        *("experiment", "debug", "cleaning", "sweep", "estimate"),
    }
    assert {"experiment/bench/demo.yaml", "task/ten_tasks/qa.yaml"} <= set(FILES)
    assert {"curriculum/single.yaml", "experiment/v1_1.yaml"} <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_every_file_composes_as_its_header_says(file: str, model: Path, tmp_path: Path) -> None:
    assert len(header_of(file)) > 20, f"conf/{file} has no header comment"
    overrides = overrides_of(file)
    if file == "data/folder.yaml":
        overrides += WITHOUT_GENERAL_TASK
    if file.split("/")[0] in APART_FROM_DATA:
        overrides += ["data=bench_base", "curriculum=base"]
    places = {"DIR": "here", "DIR_OR_NAME": "here", "FILE": "here"}
    tree, choices = composed(
        *(
            f"{key}={places.get(value, value)}"
            for key, _, value in (one.partition("=") for one in overrides)
        )
    )
    assert was_chosen(file, choices), f"conf/{file} is not part of {overrides}: {choices}"
    tree = tree.copy()
    for key, path in (
        ("data.root", tmp_path / "data"),
        ("model.path", model),
        ("model.tokenizer", model),
        ("cluster.hostfile", model / "config.json"),
    ):
        if OmegaConf.select(tree, key) == "here":
            OmegaConf.update(tree, key, str(path))
    validate(with_files(to_config(tree)), dp_world_size=2)


def test_a_file_that_no_header_selects_is_noticed() -> None:
    _, choices = composed()
    assert was_chosen("data/bench.yaml", choices)
    assert was_chosen("task/bench/qa.yaml", choices)
    assert not was_chosen("data/ten_tasks.yaml", choices)
    assert not was_chosen("task/ten_tasks/qa.yaml", choices)


@pytest.mark.parametrize("name", ["none", "standard", "strict"])
def test_a_cleaning_file_sets_every_rule(name: str) -> None:
    # Else a rule of the group chosen before would stay on.
    values = OmegaConf.load(CONF / f"cleaning/{name}.yaml")
    users = {"keep", "drop", "max_drop_ratio"}
    assert set(values) == {field.name for field in fields(CleaningConfig)} - users


def cleaning_of(name: str) -> CleaningConfig:
    return config_of(f"cleaning@data.cleaning={name}").data.cleaning


def test_cleaning_is_off_at_none_and_stricter_from_group_to_group() -> None:
    assert cleaning_of("none") == CleaningConfig()
    standard, strict = cleaning_of("standard"), cleaning_of("strict")
    assert standard != CleaningConfig()
    for field in fields(CleaningConfig):
        one, other = getattr(standard, field.name), getattr(strict, field.name)
        if isinstance(one, bool):
            assert other or not one, f"{field.name} is on in standard and off in strict"
    assert strict.min_quality > standard.min_quality == 0
    assert strict.near_duplicates < standard.near_duplicates < 1  # type: ignore[operator]
    assert strict.max_repetition < standard.max_repetition < 1  # type: ignore[operator]


@pytest.mark.parametrize(
    ("data", "cleaning"),
    [
        (("data=bench",), "none"),
        (("data=bench_base", "curriculum=base"), "none"),
        (("data=folder", "data.root=x"), "standard"),
        (("data=ten_tasks", "data.root=x"), "standard"),
        (("data=ten_tasks", "data.root=x", "cleaning@data.cleaning=strict"), "strict"),
    ],
)
def test_data_choose_their_cleaning(data: tuple[str, ...], cleaning: str) -> None:
    assert config_of(*data).data.cleaning == cleaning_of(cleaning)


_PHASES = ["mix", "specialize", "hard"]
#: version -> cleaning, phases, strategy and rows of mix, replay, tags, made negatives, their share, cues
VERSIONS: dict[str, tuple[object, ...]] = {
    "v0_1": ("none", ["mix"], "natural", None, 0.0, False, 0.0, 0.0, 0.0),
    "v0_2": ("none", ["mix"], "caps", 1300, 0.0, False, 0.0, 0.0, 0.0),
    "v0_3": ("none", ["mix"], "caps", 1300, 0.0, True, 0.1, 0.1, 0.0),
    "v1_0": ("none", _PHASES, "caps", 1300, 0.2353, True, 0.1, 0.1, 0.0),
    "v1_1": ("strict", _PHASES, "caps", 1285, 0.23739, True, 0.1, 0.1, 0.2),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_versions_of_the_log(version: str) -> None:
    config = config_of(f"experiment={version}", "data.root=x")
    cleaning, names, strategy, rows, replay, tags, made, share, cues = VERSIONS[version]
    phases = config.curriculum.phases
    assert list(phases) == names
    assert config.data.cleaning == cleaning_of(str(cleaning))
    assert phases["mix"].balance.strategy.value == strategy
    assert phases["mix"].balance.rows == rows
    assert {phase.replay for phase in phases.values()} == {replay}
    assert (config.boundary.tag, config.boundary.constraint) == (tags, tags)
    negatives = config.data.negatives
    assert negatives.cross_task + negatives.swapped_instruction == made
    assert {phase.negatives.share for phase in phases.values()} == {share}
    assert {phase.prompts.cue_share for phase in phases.values()} == {cues}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("phase/")])
def test_every_phase_file_can_be_added_to_the_curriculum(file: str) -> None:
    name = Path(file).stem
    needs = re.search(r"Needs ([\w.]+=\w+)\.", header_of(file))
    others = [needs[1], "curriculum=base"] if needs else []
    config = config_of(f"+phase@curriculum.phases.again={name}", *others)
    before = ["cells", "base"] if needs else ["mix", "specialize", "hard"]
    assert list(config.curriculum.phases) == [*before, "again"]
    validate(config, 1)


def test_shipped_curriculum() -> None:
    phases = config_of().curriculum.phases
    assert {name: phase.lr for name, phase in phases.items()} == {
        "mix": 2e-4,
        "specialize": 1e-4,
        "hard": 1e-4,
    }
    assert {name: phase.epochs for name, phase in phases.items()} == {
        "mix": 1,
        "specialize": 1,
        "hard": 0.5,
    }
    assert {name: phase.order.value for name, phase in phases.items()} == {
        "mix": "mixed",
        "specialize": "grouped",
        "hard": "mixed",
    }
    for phase in phases.values():
        assert phase.replay == 0.3
        assert phase.optimizer_state is OptimizerState.keep
        assert (phase.balance.min_rows, phase.balance.max_rows) == (100, 150)
    assert phases["hard"].tasks == ["hard"]
    assert list(selected(config_of())) == ["mix", "specialize", "hard"]


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("+phase=specialize", ["specialize"]),
        ("+phase=[hard,mix]", ["hard", "mix"]),
        ("+phase=[mix,hard]", ["mix", "hard"]),
        ("+phase=[]", ["mix", "specialize", "hard"]),
    ],
)
def test_phase_selects_names_in_the_order_given(override: str, names: list[str]) -> None:
    config = config_of(override)
    assert list(selected(config)) == names
    # A selection changes no setting.
    assert config.curriculum.phases == config_of().curriculum.phases
    validate(config, 1)


def test_a_selected_phase_keeps_the_presets_values() -> None:
    preset = config_of("experiment=bench/demo")
    alone = config_of("experiment=bench/demo", "+phase=hard")
    assert preset.curriculum.phases["hard"].lr != config_of().curriculum.phases["hard"].lr
    assert selected(alone) == {"hard": preset.curriculum.phases["hard"]}


def test_a_command_line_value_reaches_a_selected_phase() -> None:
    config = config_of("experiment=bench/demo", "+phase=hard", "curriculum.phases.hard.lr=7e-4")
    assert selected(config)["hard"].lr == 7e-4


def test_a_phase_file_can_be_swapped() -> None:
    config = config_of("phase@curriculum.phases.mix=hard")
    shipped = config_of().curriculum.phases
    assert list(config.curriculum.phases) == ["mix", "specialize", "hard"]
    assert config.curriculum.phases["mix"] == shipped["hard"] != shipped["mix"]


def test_hard_tasks_found_instead_of_listed() -> None:
    config = config_of("phase@curriculum.phases.hard=hard_auto")
    found, listed = config.curriculum.phases["hard"], config_of().curriculum.phases["hard"]
    assert found.tasks == ["auto_hard"]
    # the same phase but for who says which tasks are hard
    assert replace(found, tasks=listed.tasks) == listed
    validate(config, 1)


def test_a_phase_can_be_dropped() -> None:
    config = config_of("~phase@curriculum.phases.specialize")
    assert list(config.curriculum.phases) == ["mix", "hard"]


def test_the_balance_of_one_phase_can_be_swapped() -> None:
    phases = config_of("balance@curriculum.phases.mix.balance=natural").curriculum.phases
    assert {name: phase.balance.strategy.value for name, phase in phases.items()} == {
        "mix": "natural",
        "specialize": "caps",
        "hard": "caps",
    }


def test_a_key_that_no_file_mentions_needs_no_plus() -> None:
    assert "limits" not in composed()[0]
    config = config_of("limits.steps_per_phase=3", "deterministic=true", "zero=zero3")
    assert (config.limits.steps_per_phase, config.deterministic, config.zero.stage) == (3, True, 3)


def test_a_folder_task_may_be_declared_by_what_its_file_cannot_say(tmp_path: Path) -> None:
    for task in ("qa", "code", "chat"):
        write_rows(tmp_path / f"train/{task}.jsonl", [])
    overrides = [
        "data=folder",
        f"data.root={tmp_path}",
        "data.tasks.chat.general=true",
        "data.tasks.code.constraint=Code only.",
        "data.tasks.code.sources.main.fields.instruction=question",
    ]
    config = config_of(*overrides)
    prepare_root(config)
    tasks = config.data.tasks
    assert {name: task.sources["main"].train for name, task in tasks.items()} == {
        name: f"train/{name}.jsonl" for name in ("chat", "code", "qa")
    }
    assert tasks["code"].sources["main"].fields == {"instruction": "question"}
    boundaries = {name: (task.tag, task.constraint) for name, task in tasks.items()}
    assert boundaries == {"qa": ("[qa]", ""), "code": ("[code]", "Code only."), "chat": ("", "")}
    assert tasks["chat"].general


def test_addable_leaves_groups_and_hydra_alone() -> None:
    untouched = ["data=folder", "experiment=bench/demo", "phase@curriculum.phases.mix=hard"]
    untouched += ["hydra.run.dir=x", "hydra/launcher=basic", "+phase=mix", "~model", "-m"]
    assert addable(untouched) == untouched
    assert addable(["seed=1", "curriculum.phases.mix.lr=1,2"]) == [
        "++seed=1",
        "++curriculum.phases.mix.lr=1,2",
    ]


def test_sweeps_over_phases_and_their_fields() -> None:
    swept = ["+phase=mix,hard", "curriculum.phases.mix.lr=1e-4,3e-4", "experiment=bench/demo"]
    parsed = OverridesParser.create().parse_overrides(addable(swept))
    (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    seen = []
    for overrides in batch:
        config = config_of(*overrides)
        validate(config, 1)
        seen.append((*selected(config), config.curriculum.phases["mix"].lr))
    assert seen == [("mix", 1e-4), ("mix", 3e-4), ("hard", 1e-4), ("hard", 3e-4)]


def hydra_started(*overrides: str) -> DictConfig:
    """The tree as ``@hydra.main`` hands it over, with Hydra's own state in place."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        tree = compose("train", overrides=addable(list(overrides)), return_hydra_config=True)
    HydraConfig.instance().set_config(tree)
    tree = tree.copy()
    with open_dict(tree):
        del tree["hydra"]
    return tree


SWEPT = ("hydra.mode=MULTIRUN", "hydra.job.num=3", "run_name=tried")


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        (("run_name=tried",), "outputs/tried"),
        (SWEPT, "outputs/sweeps/tried/3"),
        ((*SWEPT, "output_dir=mine"), "mine"),
    ],
)
def test_runs_of_a_sweep_get_directories_of_their_own(
    overrides: tuple[str, ...], folder: str, tmp_path: Path
) -> None:
    benchmark = ("data.benchmark.eval_rows=1", f"data.root={tmp_path}/bench")
    assert checked_config(hydra_started(*overrides, *benchmark)).output_dir == folder


def test_an_override_may_interpolate(tmp_path: Path) -> None:
    benchmark = ("data.benchmark.eval_rows=1", f"data.root={tmp_path}/bench")
    lr = "curriculum.phases.mix.lr=${curriculum.phases.hard.lr}"
    config = checked_config(hydra_started(lr, "run_name=seed-${seed}", *benchmark))
    assert config.curriculum.phases["mix"].lr == 1e-4
    assert config.run_name == "seed-0"


def test_settings_of_a_discovered_task_need_no_sources(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("chat", "code", "qa"):
        (tmp_path / f"train/{name}.jsonl").write_text("{}\n", encoding="utf-8")
    settings = ("data.tasks.chat.general=true", "data.tasks.code={tag:'<c>',cues:[' ?']}")
    data = config_of("data=folder", f"data.root={tmp_path}", *settings).data
    config = Config(data=data)
    prepare_root(config)
    sources = {name: task.sources["main"].train for name, task in data.tasks.items()}
    assert sources == {name: f"train/{name}.jsonl" for name in ("chat", "code", "qa")}
    tags = {name: (task.tag, task.general, task.cues) for name, task in data.tasks.items()}
    assert tags == {
        "chat": ("", True, []),  # what users type
        "code": ("<c>", False, [" ?"]),
        "qa": ("[qa]", False, []),
    }


@pytest.mark.parametrize(
    ("overrides", "meant"),
    [
        (["curriculum.select.mix.lr=1"], "curriculum.phases.mix.lr=1"),
        (["+phase=mix", "curriculum.select.mix.lr=1"], "curriculum.phases.mix.lr=1"),
        (["++curriculum.select={mix:{lr:1}}"], "curriculum.phases={mix:{lr:1}}"),
        (["++curriculum={select:{mix:{lr:1}}}"], "curriculum"),
        (
            ["+phase=mix", "balance@curriculum.select.mix.balance=natural"],
            "balance@curriculum.phases.mix.balance=natural",
        ),
        (["+phase@curriculum.select.mix=hard"], "phase@curriculum.phases.mix=hard"),
    ],
)
def test_settings_under_select_are_refused(overrides: list[str], meant: str) -> None:
    with pytest.raises(ConfigFault, match="settings there would be ignored") as caught:
        checked_config(hydra_started(*overrides))
    (fault,) = caught.value.faults
    assert "curriculum.select only names the phases to run" in fault.seen
    assert meant in fault.remedy


def test_phase_without_plus_is_refused_with_the_way_out() -> None:
    with pytest.raises(HydraException, match=r"\+phase=hard"):
        composed("phase=hard")


@pytest.fixture
def own_phase(tmp_path: Path) -> Path:
    """A config folder outside the project with a phase file of the user's own."""
    folder = tmp_path / "own"
    (folder / "phase").mkdir(parents=True)
    (folder / "phase" / "polish.yaml").write_text(
        "# @package curriculum.select.polish\n"
        "defaults:\n  - /balance@balance: natural\n"
        "tasks: [qa]\nsteps: 2\nlr: 5e-5\n",
        encoding="utf-8",
    )
    return folder


def test_own_phase_file_through_the_search_path(own_phase: Path) -> None:
    path = f"hydra.searchpath=[file://{own_phase}]"
    config = config_of(path, "+phase@curriculum.phases.polish=polish", "+phase=polish")
    validate(config, 1)
    assert list(selected(config)) == ["polish"]
    assert (selected(config)["polish"].steps, selected(config)["polish"].lr) == (2, 5e-5)
    # Selected without being part of the curriculum: the message says how to add it.
    with pytest.raises(ConfigFault, match=r"'\+phase@curriculum\.phases\.polish=polish'"):
        validate(config_of(path, "+phase=polish"), 1)


def test_a_real_sweep_with_an_own_phase_file(own_phase: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            *(sys.executable, str(REPOSITORY / "launch/plan.py"), "--config-dir", str(own_phase)),
            *("-m", "model=bench_scratch", "data.benchmark.eval_rows=1", "run_name=swept"),
            *("+phase@curriculum.phases.polish=polish", "+phase=polish"),
            "curriculum.phases.polish.lr=1e-4,3e-4",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert "polish: steps 1-2" in result.stdout
    assert re.findall(r"lr (\S+) ?", result.stdout) == ["0.0001,", "0.0003,"]
    assert not list(tmp_path.rglob("metrics.jsonl"))
    assert not (tmp_path / "outputs" / "swept").exists(), "a plan makes no run directory"
