"""What to do about a report: findings with their figures and the override to try.

An override stands between backticks. Findings of the same kind are one line, however many tasks they
are about, so that fifty tasks give as many lines as five.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from data_modules.report.contents import Report, TaskReport
from data_modules.report.figures import (
    CONTAMINATION,
    NEAR_DUPLICATE,
    is_scored,
    merged,
    most_first,
    next_power_of_two,
    percentile,
    readable_rows,
    rejected_rows,
    sample_rows,
    share,
    shares,
    total,
)

FEW_ROWS = 50  # below, a task is mostly learnt by heart
UNBALANCED = 5.0  # largest / smallest task
TOKEN_SKEW = 2.0  # token share / row share, either way
TOKEN_SKEW_POINTS = 0.05  # and the two shares differ by at least this much
MANY_OVERLONG = 0.05  # of the kept rows
MANY_NEAR_DUPLICATES = 0.05  # of the readable rows
MANY_REJECTED = 0.2  # of the readable rows
LOW_QUALITY = 0.5
LANGUAGE_SHARE = 0.05  # of a task's rows: the task has this language
_NAMED = 5  # tasks named in a line


def advice(report: Report) -> list[str]:
    """Findings that call for a decision, the most consequential first; empty if there are none."""
    return [line for rule in _RULES for line in rule(report)]


def _named(parts: Iterable[str]) -> str:
    """Some names of a list and how many more there are."""
    names = list(parts)
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def _phase(report: Report) -> str:
    """Configuration key of the first phase; a placeholder where the report knows none."""
    return f"curriculum.phases.{next(iter(report['phases']), 'PHASE')}"


def _specialised(report: Report) -> dict[str, TaskReport]:
    return {name: task for name, task in report["tasks"].items() if not task["general"]}


def _unreadable(report: Report) -> Iterator[str]:
    bad = most_first({name: task["unreadable"] for name, task in report["tasks"].items()})
    if bad:
        named = _named(f"{name} {rows:,}" for name, rows in bad.items())
        worst = next(iter(bad))
        sources = report["tasks"][worst]["sources"]
        source = max(sources, key=lambda name: sources[name]["unreadable"])
        yield (
            f"{sum(bad.values()):,} rows could not be read ({named}): mend their lines, listed in "
            f"{report['rejects_file']}, or say which columns to read, such as "
            f"`+data.tasks.{worst}.sources.{source}.fields.instruction=COLUMN`."
        )


def _contamination(report: Report) -> Iterator[str]:
    found = most_first(
        {name: task["rejects"].get(CONTAMINATION, 0) for name, task in report["tasks"].items()}
    )
    if found:
        named = _named(f"{name} {rows:,}" for name, rows in found.items())
        yield (
            f"{sum(found.values()):,} training rows ask what an evaluation row asks ({named}). They "
            "are left out; scores of models that trained on them are too good. Make the split "
            "again, or take them in knowingly with `++data.cleaning.contamination=false`."
        )


def _few_rows(report: Report) -> Iterator[str]:
    few = {
        name: sample_rows(task)
        for name, task in report["tasks"].items()
        if sample_rows(task) < FEW_ROWS
    }
    if few:
        least = min(few, key=lambda name: (few[name], name))
        order = sorted(few, key=lambda name: (few[name], name))
        one = len(few) == 1
        yield (
            f"{'One task has' if one else f'{len(few):,} tasks have'} fewer than {FEW_ROWS} rows "
            f"({_named(f'{name} {few[name]:,}' for name in order)}): give "
            f"{'it' if one else 'them'} more, `+data.tasks.{least}.sources.more.train=FILE`, or "
            "repeat each row at most four times, "
            f"`balance@{_phase(report)}.balance=unimax`."
        )


def _unbalanced(report: Report) -> Iterator[str]:
    rows = {name: sample_rows(task) for name, task in _specialised(report).items()}
    rows = {name: count for name, count in rows.items() if count}
    if not rows:
        return
    most, least = max(rows, key=lambda name: rows[name]), min(rows, key=lambda name: rows[name])
    if rows[most] >= UNBALANCED * rows[least]:
        yield (
            f"Very unbalanced: {most} has {rows[most]:,} rows, {rows[most] / rows[least]:,.0f} times "
            f"as many as {least} ({rows[least]:,}), and is "
            f"{rows[most] / sum(rows.values()):.0%} of an unbalanced epoch. Try "
            f"`balance@{_phase(report)}.balance=temperature`, or caps with "
            f"`balance@{_phase(report)}.balance=caps`."
        )


def _token_shares(report: Report) -> Iterator[str]:
    of_rows = shares(report, sample_rows)
    of_tokens = shares(report, lambda task: task["answer_tokens"])
    skewed = [
        name
        for name in _specialised(report)
        if of_rows[name]
        and abs(of_tokens[name] - of_rows[name]) >= TOKEN_SKEW_POINTS
        and not 1 / TOKEN_SKEW < of_tokens[name] / of_rows[name] < TOKEN_SKEW
    ]
    if skewed:
        skewed.sort(key=lambda name: -abs(of_tokens[name] - of_rows[name]))
        named = _named(
            f"{name} ({of_rows[name]:.1%} of the rows, {of_tokens[name]:.1%} of the answer tokens)"
            for name in skewed
        )
        yield (
            f"Answer lengths decide who is trained on: {named}. A token mean gives long answers "
            f"the gradient; try `{_phase(report)}.loss_normalization=task` (every task alike) or "
            f"`{_phase(report)}.loss_normalization=sample` (every answer alike)."
        )


def _overlong(report: Report) -> Iterator[str]:
    def too_long(task: TaskReport) -> int:
        return task["overlong"] + task["truncated"]

    found = {
        name: share(too_long(task), task["kept"])
        for name, task in report["tasks"].items()
        if share(too_long(task), task["kept"]) > MANY_OVERLONG
    }
    if not found:
        return
    tasks = [report["tasks"][name] for name in found]
    whole = merged(task["histograms"]["sample_tokens"] for task in tasks)
    enough = next_power_of_two(percentile(whole, 0.99) or 0)
    dropped = sum(task["overlong"] for task in tasks)
    order = sorted(found, key=lambda name: -found[name])
    yield (
        f"Longer than data.max_seq_len={report['max_seq_len']:,}: "
        f"{_named(f'{name} {found[name]:.1%}' for name in order)} of the rows; "
        f"{dropped:,} rows are dropped, {sum(task['truncated'] for task in tasks):,} cut short. Try "
        f"`data.max_seq_len={max(enough, 2 * report['max_seq_len'])}`"
        + (", or keep their beginnings with `++data.overlong=truncate`." if dropped else ".")
    )


def _all_masked(report: Report) -> Iterator[str]:
    found = most_first({name: task["all_masked"] for name, task in report["tasks"].items()})
    if found:
        named = _named(f"{name} {rows:,}" for name, rows in found.items())
        yield (
            f"{sum(found.values()):,} rows have no token to train on within "
            f"{report['max_seq_len']:,} tokens ({named}): their requests fill it. Try "
            f"`data.max_seq_len={2 * report['max_seq_len']}`."
        )


def _near_duplicates(report: Report) -> Iterator[str]:
    def part(task: TaskReport) -> float:
        return share(task["rejects"].get(NEAR_DUPLICATE, 0), readable_rows(task))

    found = {
        name: part(task)
        for name, task in report["tasks"].items()
        if part(task) > MANY_NEAR_DUPLICATES
    }
    if found:
        order = sorted(found, key=lambda name: -found[name])
        named = _named(
            f"{name} {report['tasks'][name]['rejects'][NEAR_DUPLICATE]:,} rows, {found[name]:.0%}"
            for name in order
        )
        yield (
            f"Many near duplicates are left out ({named}): rows made from a template teach "
            "little. If the page's examples differ in what matters, compare more strictly with "
            "`++data.cleaning.near_duplicates=0.9`."
        )


def _rejected(report: Report) -> Iterator[str]:
    found = {
        name: share(rejected_rows(task), readable_rows(task))
        for name, task in report["tasks"].items()
        if share(rejected_rows(task), readable_rows(task)) > MANY_REJECTED
    }
    if found:
        order = sorted(found, key=lambda name: -found[name])
        named = _named(
            f"{name} {found[name]:.0%}, mostly {next(iter(most_first(report['tasks'][name]['rejects'])))}"
            for name in order
        )
        yield (
            f"Cleaning leaves out much: {named}. Look at the page's examples; rows that a rule is wrong "
            "about stay with `'++data.cleaning.keep=[@FILE]'`, one id a line."
        )


def _languages(report: Report) -> Iterator[str]:
    tasks = {
        name: task for name, task in report["tasks"].items() if sum(task["languages"].values())
    }
    spoken = {
        name: {
            language
            for language, rows in task["languages"].items()
            if language and rows >= LANGUAGE_SHARE * sum(task["languages"].values())
        }
        for name, task in tasks.items()
    }
    for language in sorted(set().union(*spoken.values())):
        having = [name for name in tasks if language in spoken[name]]
        lacking = [name for name in tasks if not tasks[name]["languages"].get(language)]
        if lacking and len(having) > len(lacking):
            yield (
                f"No {language} rows in {_named(lacking)}; {len(having):,} of {len(tasks):,} tasks "
                f"have them. A {language} request of such a task may be taken for another task: add "
                f"`+data.tasks.{lacking[0]}.sources.{language}.train=FILE`."
            )


def _quality(report: Report) -> Iterator[str]:
    low = [
        name
        for name, task in report["tasks"].items()
        if is_scored(task) and task["quality_mean"] < LOW_QUALITY
    ]
    if not low:
        return
    low.sort(key=lambda name: report["tasks"][name]["quality_mean"])
    whole = merged(report["tasks"][name]["histograms"]["quality"] for name in low)
    floor = int(20 * (percentile(whole, 0.25) or 0)) / 20
    named = _named(f"{name} {report['tasks'][name]['quality_mean']:.2f}" for name in low)
    yield f"Low mean quality: {named}." + (
        f" Leave out about the worst quarter of these rows with `++data.cleaning.min_quality={floor:g}`."
        if floor > 0
        else " Look at the rows with scores near 0 first."
    )


def _general(report: Report) -> Iterator[str]:
    if not any(task["general"] and sample_rows(task) for task in report["tasks"].values()):
        yield (
            "No general task: nothing keeps the model's general ability while it learns the tasks. "
            "Declare one, `++data.tasks.NAME.general=true`, and replay it with "
            f"`{_phase(report)}.replay=0.3`."
        )


def _unknown_ids(report: Report) -> Iterator[str]:
    unknown = report["forced"]["unknown_ids"]
    if unknown:
        yield (
            f"{len(unknown):,} ids of data.cleaning.keep and drop name no row ({_named(unknown)}): "
            "a row's id is its `id` field, else file:line, as in "
            f"{report['rejects_file']}."
        )


def _nothing(report: Report) -> Iterator[str]:
    if not total(report, lambda task: task["read"]):
        yield f"No row was read under {report['root']}: check `data.root` and the tasks' sources."


_RULES = (
    _nothing,
    _unreadable,
    _contamination,
    _few_rows,
    _unbalanced,
    _token_shares,
    _overlong,
    _all_masked,
    _rejected,
    _near_duplicates,
    _languages,
    _quality,
    _general,
    _unknown_ids,
)
