"""Metrics by name: those that are built in, and ``module:attribute`` of one's own."""

from __future__ import annotations

import importlib
from functools import lru_cache

from rapidfuzz import process

from data_modules.benchmark import ALL_TASKS
from data_modules.faults import ConfigFault, Fault
from trainer.evaluation.metrics.base import Metric

# Named, not imported: some of the libraries behind them take a second to load.
_HERE = "trainer.evaluation.metrics"
_BUILT_IN = {
    "exact_match": f"{_HERE}.matching:ExactMatch",
    "token_f1": f"{_HERE}.matching:TokenF1",
    "bleu": f"{_HERE}.translation:Bleu",
    "chrf": f"{_HERE}.translation:ChrF",
    "rouge_l": f"{_HERE}.rouge:RougeL",
    "label_accuracy": f"{_HERE}.labels:LabelAccuracy",
    "answer_accuracy": f"{_HERE}.reasoning:AnswerAccuracy",
    "code_tests": f"{_HERE}.code:CodeTests",
    "code_output": f"{_HERE}.code:CodeOutput",
    "code_correct": f"{_HERE}.code:CodeCorrect",
    "entity_f1": f"{_HERE}.entities:EntityF1",
    "list_validity": f"{_HERE}.lists:ListValidity",
    "edit_gain": f"{_HERE}.rewriting:EditGain",
    "chat_form": f"{_HERE}.chat:ChatForm",
}
#: Stands for no metric in ``TaskConfig.metric``.
NO_METRIC = "none"
#: Judges a task of the built-in benchmark: ``bench:code``.
_BENCH = "bench:"
_NEAR = 60.0


def metric_names() -> list[str]:
    """Names of the built-in metrics."""
    return [*_BUILT_IN, *(f"{_BENCH}{task}" for task in ALL_TASKS)]


@lru_cache(maxsize=256)
def metric(name: str, where: str = "metric") -> Metric:
    """The metric of a name, or of one's own as ``module:attribute``.

    The attribute is a metric or what makes one when called without arguments, such as a subclass of
    ``RowMetric``; its module is found as Python finds modules, from the directory of the command too.

    Args:
        where: configuration key that names it, for the fault.

    Raises:
        ConfigFault: there is none of that name, or what there is is no metric.
    """
    if name.startswith(_BENCH) and name.removeprefix(_BENCH) in ALL_TASKS:
        from trainer.evaluation.metrics.bench import BenchAnswer

        return BenchAnswer(name.removeprefix(_BENCH))
    if name in _BUILT_IN:
        return _load(_BUILT_IN[name], where)
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute or name.startswith(_BENCH):
        raise ConfigFault(Fault(where, name or "empty", "no metric has this name", _nearest(name)))
    return _load(name, where)


def check_metric(name: str, where: str, asked: bool) -> None:
    """Whether :func:`metric` will find it, without loading the libraries behind those built in.

    Args:
        asked: it will judge answers: a metric with a method ``check_machine()``, which raises
            ConfigFault, is asked whether it can work here.

    Raises:
        ConfigFault: as :func:`metric`, or as the method says.
    """
    if name in metric_names() and not _BUILT_IN.get(name, "").startswith(f"{_HERE}.code:"):
        return
    check_machine = getattr(metric(name, where), "check_machine", None)
    if asked and check_machine is not None:
        check_machine()


def _nearest(name: str) -> str:
    names = [*metric_names(), NO_METRIC]
    near = [one for one, _, _ in process.extract(name, names, limit=3, score_cutoff=_NEAR)]
    listed = f"Did you mean {' or '.join(near)}?" if near else f"There are {', '.join(names)}."
    return f"{listed} One's own is module:attribute."


def _load(place: str, where: str) -> Metric:
    module, _, attribute = place.partition(":")
    try:
        found: object = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # any: a module of the user's own runs as it is imported
        rule = "module:attribute must be importable"
        remedy = f"Python says: {error}. Is its folder on PYTHONPATH?"
        raise ConfigFault(Fault(where, place, rule, remedy)) from error
    try:
        made = found() if isinstance(found, type) or not isinstance(found, Metric) else found  # type: ignore[operator]
    except TypeError as error:
        rule = "it must be a metric, or make one when called without arguments"
        raise ConfigFault(Fault(where, place, rule, f"Python says: {error}.")) from error
    if not isinstance(made, Metric):
        rule = "a metric has name, statistics(rows) and value(sums, n)"
        remedy = "Derive it from trainer.evaluation.metrics.RowMetric."
        raise ConfigFault(Fault(where, place, rule, remedy))
    return made
