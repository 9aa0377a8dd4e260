"""Examples of leaks: answers that show another task's behaviour than the one asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence

from data_modules.benchmark import World
from data_modules.seeding import seed_of
from trainer.evaluation.results import MIXED, NONE


def leaks(
    asked: str,
    prompt_set: str,
    behaviours: Sequence[str],
    *,
    requests: Sequence[str],
    answers: Sequence[str],
    golds: Sequence[str],
    origins: Sequence[str],
    per_pair: int,
) -> list[dict[str, str]]:
    """Up to ``per_pair`` examples of every behaviour that a task's answers should not show.

    Which ones is decided by a hash of their origin: the same rows in every phase and on every
    machine, from all over the file.

    Args:
        behaviours, requests, answers, golds, origins: of each row, in the same order.

    Returns:
        Objects with asked, shown, prompt_set, request, answer, gold and origin, by shown and origin.
    """
    of_pair: dict[str, list[dict[str, str]]] = defaultdict(list)
    rows = zip(behaviours, requests, answers, golds, origins, strict=True)
    for shown, request, answer, gold, origin in rows:
        if shown not in (asked, MIXED, NONE):
            of_pair[shown].append(
                {
                    "asked": asked,
                    "shown": shown,
                    "prompt_set": prompt_set,
                    "request": request,
                    "answer": answer,
                    "gold": gold,
                    "origin": origin,
                }
            )
    kept: list[dict[str, str]] = []
    for shown in sorted(of_pair):
        drawn = sorted(of_pair[shown], key=lambda one: seed_of(0, "leak", one["origin"]))
        kept += sorted(drawn[:per_pair], key=lambda one: one["origin"])
    return kept


def semantic_leaks(
    asked: str,
    behaviours: Sequence[str],
    contents: Sequence[Hashable],
    gold_contents: Sequence[Mapping[str, Hashable]],
) -> dict[str, float]:
    """Share of answers in the asked task's format that say what another task would have said.

    A row counts for a pair of tasks only where their right answers differ in content.

    Args:
        behaviours: behaviour of each answer.
        contents: content of each answer, the format taken off; such as :func:`bench_content`.
        gold_contents: task -> content of its right answer, for the input of each row.

    Returns:
        Every other task -> share; tasks without a row that tells them apart are left out.
    """
    told_apart: dict[str, int] = defaultdict(int)
    leaked: dict[str, int] = defaultdict(int)
    for behaviour, content, golds in zip(behaviours, contents, gold_contents, strict=True):
        for task, gold in golds.items():
            if gold != golds[asked]:
                told_apart[task] += 1
                leaked[task] += behaviour == asked and content == gold
    return {task: leaked[task] / rows for task, rows in told_apart.items()}


def bench_content(answer: str, constants: World) -> tuple[str, ...]:
    """What an answer of the built-in benchmark says, whatever format it says it in.

    Its letters in order, capitals translated back; without letters its digits; without either its
    words.
    """
    small = {capital: letter for letter, capital in constants.capitals.items()}
    symbols = answer.split()
    letters = tuple(small.get(one, one) for one in symbols if len(one) == 1 and one.isalpha())
    return letters or _digits(symbols) or tuple(symbols)


def _digits(symbols: Collection[str]) -> tuple[str, ...]:
    return tuple(one for one in symbols if one.isdigit())
