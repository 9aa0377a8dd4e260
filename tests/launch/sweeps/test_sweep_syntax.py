"""What a sweep varies, read from its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.faults import ConfigFault
from launch.sweeps.members import grid, name_of, titles_of
from launch.sweeps.syntax import Axis, Kind, read
from tests.shared_data import REPOSITORY

NUMBER, INTEGER, CHOICE = Kind.number, Kind.integer, Kind.choice


def grid_axis(override: str) -> tuple[str, tuple[str, ...]]:
    (axis,) = read([override], search=False).axes
    assert axis.kind is CHOICE
    return axis.key, axis.choices


@pytest.mark.parametrize(
    ("override", "key", "choices"),
    [
        ("optimizer.beta2=0.95,0.98", "optimizer.beta2", ("0.95", "0.98")),
        ("seed=choice(0,1,2)", "seed", ("0", "1", "2")),
        ("seed=range(3)", "seed", ("0", "1", "2")),
        ("seed=range(7,1,-2)", "seed", ("7", "5", "3")),
        # Hydra's own range() ends with 0.30000000000000004 and 0.4
        ("optimizer.eps=range(0.1,0.4,0.1)", "optimizer.eps", ("0.1", "0.2", "0.3")),
        ("run.tags=[a,b],[c]", "run.tags", ("[a,b]", "[c]")),
        ("model.path='my model',other", "model.path", ("'my model'", "other")),
        ("+phase=mix,[mix,hard]", "phase", ("mix", "[mix,hard]")),
        ("zero=zero1,zero2,zero1", "zero", ("zero1", "zero2")),
        ("optimizer.beta1=sort(0.9,0.8)", "optimizer.beta1", ("0.8", "0.9")),
        (
            "balance@curriculum.phases.mix.balance=caps,natural",
            "balance@curriculum.phases.mix.balance",
            ("caps", "natural"),
        ),
    ],
)
def test_values_of_a_grid(override: str, key: str, choices: tuple[str, ...]) -> None:
    assert grid_axis(override) == (key, choices)


def test_glob_names_the_files_of_a_group() -> None:
    files = sorted(path.stem for path in (REPOSITORY / "conf/balance").glob("*.yaml"))
    key, choices = grid_axis("balance@curriculum.phases.mix.balance=glob(*)")
    assert list(choices) == files
    assert grid_axis("zero=glob(zero?)")[1] == ("zero0", "zero1", "zero2", "zero3")
    assert key == "balance@curriculum.phases.mix.balance"


@pytest.mark.parametrize(
    ("override", "axis"),
    [
        ("a.b=interval(1,3)", Axis("++a.b", NUMBER, (), 1.0, 3.0)),
        ("a.b=int(interval(1,3))", Axis("++a.b", INTEGER, (), 1, 3, 1)),
        ("a.b=tag(log,interval(1e-5,1e-3))", Axis("++a.b", NUMBER, (), 1e-5, 1e-3, None, True)),
        ("a.b=tag(log,int(interval(1,64)))", Axis("++a.b", INTEGER, (), 1, 64, 1, True)),
        ("a.b=range(2,9,2)", Axis("++a.b", INTEGER, (), 2, 8, 2)),
        ("a.b=range(0.0,1.0,0.25)", Axis("++a.b", NUMBER, (), 0.0, 0.75, 0.25)),
        ("a.b=tag(log,range(1,9))", Axis("++a.b", INTEGER, (), 1, 8, None, True)),
        ("zero=zero1,zero2", Axis("zero", CHOICE, ("zero1", "zero2"))),
    ],
)
def test_the_space_of_a_search(override: str, axis: Axis) -> None:
    assert read([override], search=True).axes == (axis,)


@pytest.mark.parametrize(
    ("override", "search", "words"),
    [
        ("a.b=interval(1,3)", False, "no end of values"),
        ("a.b=interval(3,1)", True, "from low to high"),
        ("a.b=tag(log,interval(0,1))", True, "numbers above 0"),
        ("a.b=tag(fast,interval(0,1))", True, "the one tag is log"),
        ("a.b=tag(log,choice(1,2))", True, "have a scale"),
        ("a.b=tag(log,range(1,9,2))", True, "one by one"),
        ("a.b=shuffle(1,2,3)", False, "fixed order"),
        ("a.b=range(5,5)", False, "ends before stop"),
        ("a.b=range(1,2)", True, "needs a choice"),
        ("zero=glob(nothing*)", False, "picks files of a group"),
        ("output_dir=a,b", False, "sweep.directory"),
        ("output_dir=a", False, "sweep.directory"),
        ("run_name=a,b", False, "in common"),
        ("sweep.at_once=1,2", False, "in common"),
        ("cluster.nodes=1,2", False, "in common"),
        ("resume=never", False, "another sweep.directory"),
        ("hydra.sweep.dir=here", False, "launch/submit.py"),
        ("a.b=[1", False, "a configuration must be composed of it"),
    ],
)
def test_what_cannot_be_swept_is_refused(override: str, search: bool, words: str) -> None:
    with pytest.raises(ConfigFault, match=words) as caught:
        read([override], search)
    assert len(caught.value.faults) == 1


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ConfigFault) as caught:
        read(["a.b=interval(1,2)", "output_dir=x", "c.d=1,2", "c.d=3,4", "run_name=a,b"], False)
    assert [one.where for one in caught.value.faults] == [
        *("a.b=interval(1,2)", "output_dir=x", "run_name=a,b", "c.d"),
    ]


def test_what_all_runs_begin_from() -> None:
    asked = read(["resume=outputs/base", "seed=1,2", "precision=fp32"], search=False)
    assert (asked.resume, asked.fixed) == ("outputs/base", ("++precision=fp32",))
    assert read(["resume=auto", "seed=1,2"], search=False).resume is None


def test_every_combination_is_a_run_with_a_name_of_its_own() -> None:
    given = ["seed=0,1", "curriculum.phases.hard.lr=1e-4,2e-4", "optimizer.beta2=0.9"]
    members = grid(read(given, search=False))
    assert [one.name for one in members] == [
        *("lr-0.0001-seed0", "lr-0.0002-seed0", "lr-0.0001-seed1", "lr-0.0002-seed1"),
    ]
    assert members[1].values == {"seed": "0", "curriculum.phases.hard.lr": "0.0002"}
    assert members[1].overrides == (
        *("++optimizer.beta2=0.9", "++seed=0", "++curriculum.phases.hard.lr=0.0002"),
    )


def test_names_that_would_be_the_same_are_numbered() -> None:
    members = grid(read(["model.path=a/b,a_b,'a b'"], search=False))
    assert [one.name for one in members] == ["path-a_b", "path-a_b-2", "path-a_b-3"]


def test_titles_are_as_short_as_they_can_be() -> None:
    keys = [
        "curriculum.phases.mix.lr",
        "curriculum.phases.hard.lr",
        "zero",
        "balance@a.mix.balance",
    ]
    assert list(titles_of(keys).values()) == ["mix.lr", "hard.lr", "zero", "balance"]


def test_long_names_end_in_a_digest() -> None:
    long, other = ({"x": "a" * 200 + end} for end in "bc")
    assert len(name_of(long)) <= 80
    assert name_of(long) != name_of(other)
    assert name_of(long) == name_of(dict(long))
    assert Path(name_of({"x": "../../etc"})).parts == ("x-.._.._etc",)
