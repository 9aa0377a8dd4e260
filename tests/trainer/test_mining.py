"""From judged answers to files, figures and the overrides that train on them; with a made-up judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich.console import Console

from data_modules.config import PromptSet, TaskConfig
from data_modules.evaluation_rows import EvalRow
from data_modules.mined_rows import MinedRows, mined_rows
from data_modules.mining_requests import MiningRequest
from data_modules.records import Message, Record
from tests.shared_config import sound_config
from trainer.config.schema import Config, PhaseConfig
from trainer.evaluation.generate import Answer
from trainer.mining import Found, find_leaks, print_mined, summary, write_mined

TASKS = {"qa": TaskConfig(cues=[" ?"]), "code": TaskConfig(cues=[" {}"]), "chat": TaskConfig()}


class WordJudge:
    """An answer shows the task that its first word names, or "none"."""

    tasks: tuple[str, ...] = ("qa", "code", "chat")

    def behaviours(self, asked: str, requests: Sequence[str], answers: Sequence[str]) -> list[str]:
        assert asked in self.tasks
        assert all(request.startswith("ask ") for request in requests)
        known = {*self.tasks, "mixed"}
        return [word if (word := answer.split()[0]) in known else "none" for answer in answers]


def request(number: int, prompt_set: PromptSet, right: str = "qa right") -> MiningRequest:
    user = Message("user", f"ask {number}")
    record = Record("qa", (user, Message("assistant", right)), f"qa:{number}", f"qa:{number}")
    row = EvalRow("qa", [1], [1, 2], np.array([False, True]), right, "", "", "en")
    cued = prompt_set is PromptSet.conflict
    asked = Message("user", f"{user.content} {{}}") if cued else user
    return MiningRequest(record, prompt_set, (asked,), "code" if cued else "", row)


def found() -> Found:
    texts = [
        ("qa right", True, "qa right"),  # its own behaviour
        ("mixed up", True, "qa right"),
        ("none at all", True, "qa right"),
        ("code leaks", True, "qa right"),  # a leak
        ("code is cut", False, "qa right"),
        ("code leaks", True, "code is right here"),  # the judge takes the right answer for code too
        ("chat  alike", True, "chat alike"),  # likewise
        ("chat leaks", True, "qa right"),  # a leak
        ("code \0 leaks", True, "qa right"),  # no reader takes it
    ]
    sets = [PromptSet.conflict, PromptSet.no_tag]
    requests = [request(n, sets[n % 2], right) for n, (_, _, right) in enumerate(texts)]
    answers = [Answer(n, text, finished) for n, (text, finished, _) in enumerate(texts)]
    return find_leaks("qa", requests, answers, WordJudge())


def test_leaks_are_counted_and_those_of_no_use_left_out() -> None:
    one = found()
    assert one.asked == {"conflict": 5, "no_tag": 4}
    assert one.shown == {"no_tag": {"chat": 1, "code": 2}, "conflict": {"chat": 1, "code": 2}}
    assert [(leak.asked, leak.shown, leak.answer) for leak in one.leaks] == [
        ("qa", "code", "code leaks"),
        ("qa", "chat", "chat leaks"),
    ]
    assert one.left_out == {
        "cut at max_new_tokens": 1,
        "the right answer looks alike": 2,
        "no wrong answer that can be read": 1,
    }


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    config = sound_config(tmp_path)
    config.curriculum.phases["hard"] = PhaseConfig(epochs=1.0)
    config.curriculum.phases["hard"].negatives.share = 0.1
    config.data.cleaning.keep = ["qa:7"]
    return config


def mined() -> dict[str, MinedRows]:
    return mined_rows(found().leaks, "mix", TASKS, 0)


def test_files_and_the_overrides_that_use_them(config: Config, tmp_path: Path) -> None:
    folder = Path("run=1, new") / "mined/mix"
    folder.mkdir(parents=True)
    (folder / "code.jsonl").write_text("of an earlier mining\n", encoding="utf-8")
    overrides = write_mined(folder, mined(), config, "mix", right_rows=50)
    assert sorted(one.name for one in folder.iterdir()) == ["keep.txt", "overrides.txt", "qa.jsonl"]
    rows = [json.loads(line) for line in (folder / "qa.jsonl").read_text("utf-8").splitlines()]
    # the first was asked without a cue and brings a contrast row; chat has no cue to bring
    assert [row["id"] for row in rows] == [
        "qa:3#mined_mix_no_tag",
        "qa:3#mined_mix_cue_of_code",
        "qa:7#mined_mix_no_tag",
    ]
    assert (folder / "keep.txt").read_text("utf-8").split() == [row["id"] for row in rows]
    assert (folder / "overrides.txt").read_text("utf-8").splitlines() == overrides
    parsed = OverridesParser.create().parse_overrides(overrides)
    home = tmp_path / folder
    assert {one.key_or_group: one.value() for one in parsed} == {
        "data.tasks.qa.sources.mined_mix.train": f"{home}/qa.jsonl",
        "data.cleaning.keep": ["qa:7", f"@{home}/keep.txt"],
        # two negatives to 50 right rows, beside the share that the phase has
        "curriculum.phases.hard.negatives.share": pytest.approx(0.14),
        "curriculum.phases.hard.negatives.pairs": True,
    }


def test_without_leaks_nothing_is_written(config: Config, tmp_path: Path) -> None:
    assert write_mined(tmp_path / "mined", {}, config, "mix", right_rows=50) == []
    assert list((tmp_path / "mined").iterdir()) == []


def test_behind_the_last_phase_comes_the_same_again(config: Config, tmp_path: Path) -> None:
    overrides = write_mined(tmp_path, mined(), config, "hard", right_rows=50)
    assert "curriculum.phases.hard.negatives.pairs=true" in overrides
    assert overrides[0].startswith("data.tasks.qa.sources.mined_hard.train=")


def test_what_mined_json_says(config: Config) -> None:
    values = summary({"qa": found()}, mined(), config, "mix", "a/model", ["x=1"], {"qa": 0.02})
    assert values == {
        "model": "a/model",
        "phase": "mix",
        "seed": 0,
        "prompt_sets": ["conflict"],
        "rows_per_task": 100,
        "tasks": {
            "qa": {
                "sets": {
                    "conflict": {"asked": 5, "shown": {"chat": 1, "code": 2}, "leak_rate": 0.6},
                    "no_tag": {"asked": 4, "shown": {"chat": 1, "code": 2}, "leak_rate": 0.75},
                },
                "false_alarm_rate": 0.02,
                "left_out": found().left_out,
                "negatives": {"code": 1, "chat": 1},
                "contrasts": {"code": 1},
                "rows": 3,
            }
        },
        "overrides": ["x=1"],
    }


def test_the_table() -> None:
    console = Console(width=150, file=StringIO(), record=True)
    clean = Found({"conflict": 5, "no_tag": 4}, {}, [], {})
    alarms = {"qa": 0.02, "math": 0.01}
    some = {"qa": found(), "math": clean}
    print_mined(console, some, mined(), Path("out"), ["a.b=[@x]"], alarms)
    text = console.export_text()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    rows = {one[0]: one[1:] for one in cells if one}
    assert rows["qa"] == ["3 / 5", "3 / 4", "code 4, chat 2", "2", "1"]
    assert rows["math"] == ["0 / 5", "0 / 4", "", "0", "0"]
    assert "takes for leaks: up to 2.0% of a task's" in text
    assert "3 rows in out" in text
    assert "'a.b=[@x]'" in text
    console = Console(width=150, file=StringIO(), record=True)
    print_mined(console, {"math": clean}, {}, Path("out"), [], {})
    assert "nothing else is written" in console.export_text()
