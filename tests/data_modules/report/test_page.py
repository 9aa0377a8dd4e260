"""The page shows the report's figures, escapes what rows say, and loads nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from data_modules.report import Report, TaskReport, advice, render_page
from tests.data_modules.report.made_report import RULES, clean_report, full_report, task_report

EVIL = "<script>alert('x')</script> \"quoted\" & '</pre></main>' javascript:1 {{ 7 * 7 }}"
VOID = {"meta", "rect", "line", "br"}


class Page(HTMLParser):
    """Reads a page back: text by section, table rows, attributes; checks that tags nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.section = ""
        self.texts: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "section":
            self.section = dict(attrs).get("id") or "glance"
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts[self.section] = self.texts.get(self.section, "") + data
        if self.open and {"td", "th"} & set(self.open) and "svg" not in self.open:
            self.rows[self.section][-1][-1] += data

    def line(self, section: str, name: str) -> list[str]:
        """The cells of the first table row of a section that begins with a name."""
        return next(row for row in self.rows[section] if row and row[0] == name)[1:]


def figures(cells: list[str]) -> list[int]:
    """The whole numbers of cells; a dot stands for none."""
    return [0 if cell == "·" else int(cell.replace(",", "")) for cell in cells]


def test_task_figures_are_the_reports() -> None:
    report = full_report()
    page = Page(render_page(report))

    def expected(task: TaskReport) -> list[int]:
        return [
            *(task["read"], task["not_selected"], task["unreadable"]),
            *(sum(task["rejects"].values()), task["kept"], task["negatives"], task["unified"]),
            *(task["tokens"], task["answer_tokens"]),
        ]

    for name, task in report["tasks"].items():
        shown = name + ("general" if task["general"] else "")
        assert figures(page.line("tasks", shown)[:9]) == expected(task)
        assert page.line("tasks", shown)[-1].strip() == f"{task['quality_mean']:.2f}"
    sums = [sum(column) for column in zip(*map(expected, report["tasks"].values()), strict=True)]
    assert figures(page.line("tasks", "all")[:9]) == sums
    assert f"{sums[0]:,}" in page.texts["glance"]


def test_reject_figures_are_the_reports() -> None:
    report = full_report()
    page = Page(render_page(report))
    header = page.rows["rejects"][0][1:]
    assert "truncated" not in header
    assert set(header) <= {"unreadable", "overlong", "all_masked", *RULES}
    for name, task in report["tasks"].items():
        extra = {key: task[key] for key in ("unreadable", "overlong", "all_masked")}  # type: ignore[literal-required]
        counts = {**task["rejects"], **extra}
        assert figures(page.line("rejects", name)) == [counts[column] for column in header]
        assert sum(figures(page.line("rejects", name))) == sum(counts.values())
    totals = [
        sum(task["rejects"].get(rule, 0) for task in report["tasks"].values())
        for rule in header[1:]
    ]
    assert figures(page.line("rejects", "all"))[1:] == totals
    idle = {rule for rule in RULES if rule not in header}
    assert idle
    assert all(rule in page.texts["rejects"].split("Found nothing:")[1] for rule in idle)


def test_other_figures_are_the_reports() -> None:
    report = full_report()
    page = Page(render_page(report))
    for phase, wording in report["phases"].items():
        cues = sum(rows for counts in wording["cues"].values() for rows in counts.values())
        assert figures(page.line("wording", phase)) == [
            *(wording["rows"], wording["tagged"], wording["untagged"], wording["paraphrased"]),
            cues,
        ]
    for task, counts in report["phases"]["mix"]["cues"].items():
        assert sum(figures(page.line("wording", task))) == sum(counts.values())
    for line in advice(report):
        assert line.replace("`", "") in page.texts["advice"]
    assert report["fingerprint"] in page.texts["settings"]
    assert "12 kept, 3 dropped; 2 ids name no row: qa-0017, qa-0018" in page.texts["settings"]
    for name, task in report["tasks"].items():
        assert f"{task['kept']:,} rows" in page.texts["lengths"].split(name)[1]


def test_stacked_bars_hold_every_row_once() -> None:
    report = clean_report()
    report["tasks"] = {
        "qa": task_report(
            read=200,
            kept=120,
            overlong=15,
            all_masked=5,
            not_selected=30,
            unreadable=10,
            rejects={"exact_duplicate": 8, "near_duplicate": 12, "contamination": 6, "refusal": 14},
        )
    }
    page = render_page(report)
    bar = page.split('id="fates"')[1].split('class="stack"')[1].split("</div>")[0]
    assert re.findall(r'width:([\d.]+)%" title="([^"]+)"', bar) == [
        ("50.0", "trained on: 100"),
        ("10.0", "too long: 20"),
        ("10.0", "duplicates: 20"),
        ("3.0", "contamination: 6"),
        ("7.0", "other rules: 14"),
        ("5.0", "unreadable: 10"),
        ("15.0", "not selected: 30"),
    ]


def evil_report() -> Report:
    """Every text of the report is hostile."""
    report = full_report()
    task = task_report(examples=[{"row_id": EVIL, "request": EVIL, "answer": EVIL}])
    task["sources"] = {EVIL: task["sources"]["main"]}
    task["rejects"] = {EVIL: 1}
    task["languages"] = {EVIL: 200}
    example = {"task": EVIL, "row_id": EVIL, "origin": EVIL + "1", "reason": EVIL, "row": EVIL}
    report["tasks"] = {EVIL: task, "chat": task_report()}
    report["phases"] = {EVIL: {**report["phases"]["mix"], "cues": {EVIL: {EVIL: 3}}}}
    report["examples"] = {EVIL: [example]}  # type: ignore[list-item]
    report["forced"]["unknown_ids"] = [EVIL]
    for key in ("name", "root", "fingerprint", "tokenizer", "rejects_file"):
        report[key] = EVIL  # type: ignore[literal-required]
    return report


def test_what_rows_say_is_escaped() -> None:
    text = render_page(evil_report())
    assert "<script" not in text.lower()
    page = Page(text)
    assert "script" not in page.tags
    assert {name for name, _ in page.attributes} == {
        name for name, _ in Page(render_page(full_report())).attributes
    }
    assert EVIL in page.texts["kept"]
    assert EVIL in page.texts["rejects"]


def test_invisible_and_broken_characters_are_named() -> None:
    report = clean_report()
    row = "a\u200bb\x00c\u202ed\ud83d一🙂"
    report["examples"] = {
        "encoding": [{"task": "qa", "row_id": "1", "origin": "1", "reason": "r", "row": row}]
    }
    page = render_page(report)
    page.encode("utf-8")
    assert "a⟨U+200B⟩b⟨U+0000⟩c⟨U+202E⟩d⟨U+D83D⟩一🙂" in page


def test_a_long_row_is_cut_with_its_length_said() -> None:
    report = clean_report()
    long = "长" * 10_000_000
    report["examples"] = {
        "too_long": [{"task": "qa", "row_id": long, "origin": "1", "reason": long, "row": long}]
    }
    page = render_page(report)
    assert len(page) < 60_000
    assert f"{'长' * 700} … [700 of 10,000,000 characters]" in page


@pytest.mark.parametrize("report", [clean_report(), full_report(), full_report(50), evil_report()])
def test_nothing_is_loaded(report: Report) -> None:
    text = render_page(report)
    style = text.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    page = Page(text)
    assert not page.tags & {"link", "script", "img", "iframe", "object", "embed", "base", "image"}
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            assert value.startswith("#")
        if name == "style":
            assert "url" not in value
    targets = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for name, value in page.attributes if name == "href"} <= targets


def test_fifty_tasks_all_show() -> None:
    report = full_report(50)
    page = Page(render_page(report))
    assert len(report["tasks"]) == 50
    for name, task in report["tasks"].items():
        shown = name + ("general" if task["general"] else "")
        assert figures(page.line("tasks", shown)[:1]) == [task["read"]]
        assert all(name in page.texts[part] for part in ("fates", "shares", "lengths"))


def test_a_clean_report_says_so() -> None:
    page = Page(render_page(clean_report()))
    assert "advice" not in page.texts
    assert "No row was rejected." in page.texts["rejects"]
    assert "None found." in page.texts["duplicates"]
    assert "None to show." in page.texts["kept"]


def test_nothing_at_all() -> None:
    report = clean_report()
    report["tasks"] = {}
    Page(render_page(report))
    report["tasks"] = {"empty": task_report(0)}
    Page(render_page(report))


def test_a_report_read_from_its_file_gives_the_same_page() -> None:
    report = full_report()
    assert render_page(json.loads(json.dumps(report))) == render_page(report)
