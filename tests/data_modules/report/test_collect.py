"""The report of a prepared module: its figures are those of the units and of the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_modules.config import CleaningConfig, NegativeRowsConfig, Overlong, SourceConfig
from data_modules.mixture import MixtureConfig, PromptConfig
from data_modules.phase_data_module import PhaseDataModule
from data_modules.report import LENGTH_EDGES, QUALITY_EDGES, Report, TaskReport
from data_modules.report.collect import prepare_report
from data_modules.report.figures import readable_rows, rejected_rows, sample_rows
from tests.data_modules.prepare.made_data import lines_of, prepared, row, write_data
from tests.shared_data import write_rows

RANDOM = PromptConfig(tag_dropout=0.5, cue_share=0.5, paraphrase_share=0.5)
MIXTURES = {
    "plain": MixtureConfig(tasks=["all", "general"], epochs=1),
    "random": MixtureConfig(tasks=["all", "general"], epochs=1, prompts=RANDOM),
}


@pytest.fixture(scope="module", params=[Overlong.drop, Overlong.truncate])
def module(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PhaseDataModule:
    """Rows of every fate, two sources, negatives of every kind, two phases."""
    root = tmp_path_factory.mktemp("report")
    rows = [row(n, lang="en", quality=n / 40) for n in range(40)]
    rows[3] |= {"output": "N/A"}
    rows[4] |= {"output": ""}
    rows[5] |= {"lang": "de"}
    rows[6] |= {"id": "out"}
    rows[7] |= {"id": "in", "output": "TODO"}
    rows[8] = rows[0]
    rows[9] |= {"output": "y" * 600}
    rows[10] |= {"instruction": "z" * 600}
    rows[11] |= {"rejected": "not so"}
    rows[12] |= {"instruction": "请用中文回答这个问题"}
    data = write_data(
        root,
        {"qa": rows, "code": [row(n + 100) for n in range(10)], "chat": [row(200)] * 2},
        cleaning=CleaningConfig(
            placeholder=True,
            exact_duplicates=True,
            contamination=True,
            keep=["in", "nobody"],
            drop=["out"],
        ),
        max_reject_ratio=0.5,
        max_seq_len=400,
        overlong=request.param,
        negatives=NegativeRowsConfig(cross_task=0.5),
    )
    data.tasks["chat"].general = True
    data.tasks["qa"].sources["main"].where = "lang == 'en'"
    for name in ("x", "y"):
        write_rows(root / f"more/{name}.jsonl", [row(300 + ord(name))])
    data.tasks["qa"].sources["more"] = SourceConfig(train="more/*.jsonl")
    data.tasks["code"].cues = [" code?"]
    data.tasks["qa"].paraphrases = {"any": ["Please. {instruction}"]}
    return prepared(data, MIXTURES)


@pytest.fixture(scope="module")
def report(module: PhaseDataModule) -> Report:
    return prepare_report(module, 1.5)


def test_rows_add_up_by_task_and_source(report: Report) -> None:
    for task in report["tasks"].values():
        assert task["read"] == (
            task["not_selected"] + task["unreadable"] + rejected_rows(task) + task["kept"]
        )
        for figure in ("read", "not_selected", "unreadable"):
            assert task[figure] == sum(one[figure] for one in task["sources"].values())
    qa = report["tasks"]["qa"]
    assert (qa["read"], qa["not_selected"], qa["unreadable"], qa["kept"]) == (42, 1, 1, 37)
    assert qa["rejects"] == {"placeholder": 1, "forced_drop": 1, "exact_duplicate": 1}
    assert readable_rows(qa) == 40
    assert qa["sources"] == {
        "main": {"files": 1, "read": 40, "not_selected": 1, "unreadable": 1, "kept": 36},
        "more": {"files": 2, "read": 2, "not_selected": 0, "unreadable": 0, "kept": 2},
    }
    assert report["tasks"]["chat"]["rejects"] == {"exact_duplicate": 1}
    assert [task["general"] for task in report["tasks"].values()] == [True, False, False]
    assert list(report["tasks"]) == ["chat", "code", "qa"]


def test_figures_are_those_of_the_samples(module: PhaseDataModule, report: Report) -> None:
    store = module.store("plain")
    for name, task in report["tasks"].items():
        rows = store.rows_of(name)
        lengths = store.lengths[rows]
        answers = np.asarray(store.answer_tokens)[rows]
        quality = np.asarray(store.quality)[rows]
        assert (task["tokens"], task["answer_tokens"]) == (lengths.sum(), answers.sum())
        assert task["negatives"] == len(store.rows_of(name, sign=-1))
        for kind, values, edges in (
            ("prompt_tokens", lengths - answers, LENGTH_EDGES),
            ("answer_tokens", answers, LENGTH_EDGES),
            ("sample_tokens", lengths, LENGTH_EDGES),
            ("quality", quality, QUALITY_EDGES),
        ):
            histogram = task["histograms"][kind]
            assert histogram["edges"] == edges
            # as the store has them: an edge itself must not fall to the other side
            inner = np.array(edges[1:-1], dtype=values.dtype)
            bins = np.searchsorted(inner, values, side="right")
            assert histogram["counts"] == np.bincount(bins, minlength=len(edges) - 1).tolist()
            assert sum(histogram["counts"]) == len(rows)
        assert task["quality_mean"] == pytest.approx(quality.mean())
        assert sum(task["languages"].values()) == len(rows)
    assert report["tasks"]["qa"]["languages"]["zh"] == 1
    negatives = {name: task["negatives"] for name, task in report["tasks"].items()}
    # one brought by a row; half as many as rows are made of every special task
    assert negatives["chat"] == 0
    assert negatives["code"] == 5
    assert negatives["qa"] in (18, 19, 20)


def test_what_is_too_long_is_told(module: PhaseDataModule, report: Report) -> None:
    qa = report["tasks"]["qa"]
    found = module.token_stats("plain").rejects["qa"]
    if module.data.overlong is Overlong.drop:
        assert (qa["overlong"], qa["truncated"], qa["all_masked"]) == (found["overlong"], 0, 0)
        assert found["overlong"] >= 2
    else:
        assert qa["overlong"] == 0
        assert (qa["truncated"], qa["all_masked"]) == (found["truncated"], found["all_masked"])
        assert min(found.values()) >= 1


def test_wording_of_every_phase(module: PhaseDataModule, report: Report) -> None:
    assert list(report["phases"]) == ["plain", "random"]
    plain, random = report["phases"]["plain"], report["phases"]["random"]
    for phase, figures in report["phases"].items():
        assert figures["rows"] == len(module.store(phase))
        assert figures["tagged"] + figures["untagged"] == figures["rows"]
    assert (plain["untagged"], plain["cues"], plain["paraphrased"]) == (0, {}, 0)
    counts = module.token_stats("random").wording
    assert random["cues"] == {task: dict(cues) for task, cues in counts.cues.items()}
    assert random["cues"]["qa"]["code"] > 5
    assert random["paraphrased"] == counts.paraphrased.total() > 5
    assert 5 < random["untagged"] < random["rows"] - 5


def test_examples_forced_rows_and_the_run(module: PhaseDataModule, report: Report) -> None:
    lines = lines_of(module.rejects_file("plain"))
    rules = {line["rule"] for line in lines}
    assert report["examples"].keys() == rules
    for rule, examples in report["examples"].items():
        mine = [line for line in lines if line["rule"] == rule]
        assert [one | {"rule": rule} for one in examples] == mine[:3]
    assert report["forced"] == {"kept": 1, "dropped": 1, "unknown_ids": ["nobody"]}
    assert report["rejects_file"] == str(module.rejects_file("plain"))
    assert report["fingerprint"] == module.cleaned.fingerprint
    assert (report["seconds"], report["max_seq_len"], report["name"]) == (1.5, 400, "test")
    kept: TaskReport = report["tasks"]["code"]
    assert [one["row_id"] for one in kept["examples"]] == [
        f"train/code.jsonl:{n}" for n in (1, 2, 3)
    ]
    assert kept["examples"][0]["request"] == row(100)["instruction"]
    assert kept["examples"][0]["answer"] == row(100)["output"]


def test_samples_are_the_kept_rows_that_were_not_refused(tmp_path: Path) -> None:
    rows = [row(n) for n in range(12)]
    rows[0] |= {"output": "x" * 500}
    rows[1] |= {"instruction": "x" * 500}
    made = prepared(write_data(tmp_path, {"qa": rows}))
    task = prepare_report(made, 0.0)["tasks"]["qa"]
    assert (task["read"], task["kept"], task["overlong"]) == (12, 12, 2)
    assert sample_rows(task) == len(made.store("mix").rows_of("qa")) == 10
