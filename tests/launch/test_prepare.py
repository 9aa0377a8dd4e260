"""``launch/prepare.py`` as a user runs it: what it writes, what it prints, and what it keeps."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from launch.composing import USER_FAULT_EXIT
from tests.shared_data import REPOSITORY
from tests.shared_folder import GOOD, ROWS, WORDS, Folder, run

PREPARE = [sys.executable, str(REPOSITORY / "launch/prepare.py")]
#: task -> (read, unreadable, rejected, kept)
FIGURES = {
    "chat": (ROWS, 0, 0, ROWS),
    "code": (ROWS + 1, 1, 0, ROWS),
    "qa": (ROWS + 3, 0, 3, ROWS),
}


def spoil(folder: Folder) -> None:
    """One unreadable row of code; an exact duplicate and two placeholders among those of qa."""
    folder.write("code", [*GOOD, "{"])
    no_answer = [{"instruction": "w30 w31", "output": text} for text in ("N/A", "...")]
    folder.write("qa", [*GOOD, GOOD[0], *no_answer])
    folder.overrides = [
        "data.max_reject_ratio=0.1",
        "data.cleaning.exact_duplicates=true",
        "data.cleaning.placeholder=true",
    ]


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> tuple[Folder, list[str], dict[str, Any]]:
    """A spoiled folder, what preparing it twice printed, and the first report."""
    folder = Folder(tmp_path_factory.mktemp("prepared"))
    for task in FIGURES:
        folder.write(task, GOOD)
    tokenizer.save_pretrained(folder.root / "tokenizer")
    spoil(folder)
    code, first = run(PREPARE, folder)
    assert code == 0, first
    report = json.loads((folder.root / "run/data/report.json").read_text(encoding="utf-8"))
    code, second = run(PREPARE, folder)
    assert code == 0, second
    return folder, [first, second], report


def figures(line: str) -> list[int]:
    """The whole numbers of a table's line."""
    return [int(word.replace(",", "")) for word in re.findall(r"(?<!\S)[\d,]+(?!\S)", line)]


def test_the_figures_are_the_files(prepared: tuple[Folder, list[str], dict[str, Any]]) -> None:
    _, _, report = prepared
    for task, (read, unreadable, rejected, kept) in FIGURES.items():
        found = report["tasks"][task]
        assert (found["read"], found["unreadable"], found["kept"]) == (read, unreadable, kept)
        assert sum(found["rejects"].values()) == rejected
    assert report["tasks"]["qa"]["rejects"] == {"exact_duplicate": 1, "placeholder": 2}
    # every answer is one word and the end token
    assert report["tasks"]["qa"]["answer_tokens"] == 2 * ROWS
    assert report["phases"]["mix"]["rows"] == 3 * ROWS
    assert report["phases"]["mix"]["tagged"] == 2 * ROWS, "chat is general and goes without"


def test_what_is_printed_is_the_report(prepared: tuple[Folder, list[str], dict[str, Any]]) -> None:
    _, printed, report = prepared
    for out in printed:
        rows, samples = out.split("\nsamples", 1)
        for task, found in report["tasks"].items():
            (line,) = re.findall(rf"^ {task} .*$", rows, re.MULTILINE)
            rejected = sum(found["rejects"].values())
            printed_figures = figures(line)
            assert printed_figures[:4] == [
                *(found["read"], found["unreadable"], rejected, found["kept"])
            ]
            line = re.findall(rf"^ {task} .*$", samples, re.MULTILINE)[0]
            count = sum(found["histograms"]["sample_tokens"]["counts"])
            assert figures(line)[:3] == [count, found["tokens"], found["answer_tokens"]]
        assert report["fingerprint"] in out


def test_rejects_stand_with_rule_and_reason(
    prepared: tuple[Folder, list[str], dict[str, Any]],
) -> None:
    folder, printed, _ = prepared
    path = folder.root / "run/data/rejects.jsonl"
    assert f"rejects.jsonl:  {path}" in printed[0]
    rejects = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted((one["origin"], one["rule"]) for one in rejects) == [
        (f"train/code.jsonl:{ROWS + 1}", "malformed_json"),
        (f"train/qa.jsonl:{ROWS + 1}", "exact_duplicate"),
        (f"train/qa.jsonl:{ROWS + 2}", "placeholder"),
        (f"train/qa.jsonl:{ROWS + 3}", "placeholder"),
    ]
    duplicate = next(one for one in rejects if one["rule"] == "exact_duplicate")
    assert "train/qa.jsonl:1" in duplicate["reason"], "it names the row that stays"


def test_the_page_is_whole_and_needs_nothing_else(
    prepared: tuple[Folder, list[str], dict[str, Any]],
) -> None:
    folder, _, report = prepared
    page = (folder.root / "run/data/report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page), "no file from elsewhere"
    for text in (report["fingerprint"], "exact_duplicate", "placeholder", *report["tasks"]):
        assert text in page


def test_a_second_run_is_served_from_the_cache(
    prepared: tuple[Folder, list[str], dict[str, Any]],
) -> None:
    folder, (first, second), report = prepared
    for stage in ("read and clean", "compare rows", "tokenise (mix)"):
        assert re.search(rf"^{re.escape(stage)}: \d+ done$", first, re.MULTILINE)
        assert stage not in second
    again = json.loads((folder.root / "run/data/report.json").read_text(encoding="utf-8"))
    assert again.pop("seconds") >= 0
    assert again == {key: value for key, value in report.items() if key != "seconds"}


def test_preview_marks_the_loss_part(folder: Folder) -> None:
    folder.overrides = ["+phase=mix"]
    code, out = run([*PREPARE, "preview"], folder)
    assert code == 0, out
    samples = out.split("── ")[1:]
    headers = [sample.splitlines()[0] for sample in samples]
    assert [header.split()[0] for header in headers] == ["chat", "code", "qa"]
    for header, sample in zip(headers, samples, strict=True):
        assert re.search(r"phase mix, \d+ tokens, 2 supervised", header)
        (marked,) = re.findall("⟦(.*?)⟧", sample, re.DOTALL)
        answer, end = marked.split()
        assert end == "</s>"
        # row n of the files asks for wn, w(n+1), w(n+2) and is answered by wn
        asked = re.findall(r"\bw\d+", sample.partition("⟦")[0])
        start = WORDS.index(answer)
        assert asked == WORDS[start : start + 3]
    assert not (folder.root / "run").exists(), "a preview writes no report"


def test_a_bad_file_stops_preparing_with_its_line(folder: Folder) -> None:
    folder.write("qa", [*GOOD, "{"])
    code, out = run(PREPARE, folder)
    assert code == USER_FAULT_EXIT
    assert f"train/qa.jsonl:{ROWS + 1}: malformed JSON" in out
    assert "Traceback" not in out
    assert not Path(folder.root / "run/data").exists()
