"""Metrics by name, plug-ins, and what is said of names that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.faults import ConfigFault, Fault
from tests.shared_judged import judged
from trainer.evaluation import sandbox
from trainer.evaluation.metrics import Metric, check_metric, figure, metric, metric_names, per_row


def fault_of(name: str) -> Fault:
    with pytest.raises(ConfigFault) as caught:
        metric(name, "data.tasks.qa.metric")
    with pytest.raises(ConfigFault) as checked:
        check_metric(name, "data.tasks.qa.metric", asked=False)
    assert checked.value.faults == caught.value.faults
    (fault,) = caught.value.faults
    assert fault.where == "data.tasks.qa.metric"
    assert fault.seen == (name or "empty")
    return fault


@pytest.mark.parametrize("name", metric_names())
def test_every_built_in_metric_is_one_under_its_own_name(name: str) -> None:
    found = metric(name)
    assert isinstance(found, Metric)
    assert found.name == name
    check_metric(name, "x", asked=False)
    rows = [judged("a", "a"), judged("b", "c")]
    statistics = found.statistics(rows)
    assert statistics.dtype == "float64"
    assert statistics.shape == (2, statistics.shape[1])
    assert len(found.statistics([])) == 0
    assert per_row(found, []) == []


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("exactmatch", "exact_match"),
        ("rouge", "rouge_l"),
        ("sacrebleu", "bleu"),
        ("bench:cod", "bench:code"),
        ("code_test", "code_tests"),
    ],
)
def test_a_misspelt_name_is_answered_with_near_ones(name: str, near: str) -> None:
    fault = fault_of(name)
    assert fault.rule == "no metric has this name"
    assert fault.remedy.startswith("Did you mean")
    assert near in fault.remedy


@pytest.mark.parametrize("name", ["", "zzzzqqq", ":x", "x:"])
def test_a_name_like_none_is_answered_with_all(name: str) -> None:
    remedy = fault_of(name).remedy
    assert "entity_f1" in remedy
    assert "module:attribute" in remedy


PLUGIN = """
import numpy as np
from trainer.evaluation.metrics import RowMetric

class Length(RowMetric):
    name = "length"

    def score(self, row):
        return min(1.0, len(row.answer) / 10)

class Sums:
    name = "sums"

    def statistics(self, rows):
        return np.array([[len(row.answer), 10.0] for row in rows])

    def value(self, sums, n):
        return sums[..., 0] / sums[..., 1]

ready = Sums()
nothing = object()

class Demanding:
    def __init__(self, what):
        pass
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "house_metrics.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "house_metrics"


@pytest.mark.parametrize("attribute", ["Length", "Sums", "ready"])
def test_ones_own_metric(plugin: str, attribute: str) -> None:
    found = metric(f"{plugin}:{attribute}")
    check_metric(f"{plugin}:{attribute}", "x", asked=True)
    rows = [judged("abcde", ""), judged("ab", ""), judged("", "")]
    assert per_row(found, rows) == pytest.approx([0.5, 0.2, 0.0])
    one = figure(found, rows, 500, "x")
    assert one.value == pytest.approx(0.7 / 3)
    assert 0 <= one.low < one.value < one.high <= 0.5


@pytest.mark.parametrize(
    ("name", "rule", "remedy"),
    [
        ("no_such_module:x", "must be importable", "No module named 'no_such_module'"),
        ("{plugin}:gone", "must be importable", "gone"),
        ("{plugin}:nothing", "must be a metric, or make one", "not callable"),
        ("{plugin}:Demanding", "must be a metric, or make one", "what"),
        ("collections:Counter", "a metric has name", "RowMetric"),
    ],
)
def test_what_is_no_metric(plugin: str, name: str, rule: str, remedy: str) -> None:
    fault = fault_of(name.format(plugin=plugin))
    assert rule in fault.rule
    assert remedy in fault.remedy


def test_metrics_that_run_programs_are_refused_where_these_cannot_be_confined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise ConfigFault(Fault("execution", "no seccomp", "programs must be confined"))

    monkeypatch.setattr(sandbox, "check_limits", refuse)
    for name in ("code_tests", "code_output", "code_correct"):
        with pytest.raises(ConfigFault, match="programs must be confined"):
            check_metric(name, "x", asked=True)
        check_metric(name, "x", asked=False)
    check_metric("chrf", "x", asked=True)


@pytest.mark.parametrize("name", [".a:b", "..:x", "broken_metric_module:Metric"])
def test_module_that_fails_as_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever a module of the user's own raises, and names that no module can have."""
    (tmp_path / "broken_metric_module.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigFault) as caught:
        metric(name, "data.tasks.qa.metric")
    (fault,) = caught.value.faults
    assert fault.where == "data.tasks.qa.metric"
    assert "module:attribute must be importable" in fault.rule
