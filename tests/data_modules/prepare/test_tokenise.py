"""Clean rows to samples: template surprises, broken runs, negatives and wording from files on."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.chat import ChatFormat
from data_modules.chat_rendering import CHECKED, TemplateSurprise
from data_modules.config import DataConfig, NegativeRowsConfig, Supervise
from data_modules.mixture import MixtureConfig, PromptConfig
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare import tokenise as tokenise_module
from data_modules.prepare.tokenise import read_stats, tokenise
from data_modules.samples import SampleStore, key_of
from tests.data_modules.prepare.made_data import (
    clean,
    lines_of,
    prepared,
    row,
    small_pieces,
    words,
    write_data,
)
from tests.shared_data import CHATML, byte_tokenizer


def text(made: PhaseDataModule, number: int, phase: str = "mix") -> str:
    return made.tokenizer.decode(made.store(phase).tokens(number)[0])


def prompt(made: PhaseDataModule, number: int, phase: str = "mix") -> str:
    """All of a sample but its last answer."""
    return text(made, number, phase).rpartition("<|assistant|>\n")[0]


def pushed(made: PhaseDataModule, number: int) -> str:
    """The supervised text of a sample."""
    ids, mask = made.store("mix").tokens(number)
    return made.tokenizer.decode(ids[mask])


def negatives(made: PhaseDataModule) -> list[int]:
    return np.flatnonzero(np.asarray(made.store("mix").signs) < 0).tolist()


# --- template surprises

# Looks like a template that only puts contents between fixed texts, and is none.
SURPRISING = CHATML.replace(
    "{{ m['content'] }}", "{{ m['content'] }}{% if m['content'] | length == 4 %}!{% endif %}"
)


def rows_with_a_surprise(place: int) -> list[dict[str, Any]]:
    rows = [row(number) for number in range(2 * CHECKED)]
    rows[place] = {"instruction": "four", "output": "answer"}
    return rows


@pytest.mark.parametrize("place", [0, CHECKED])
@pytest.mark.parametrize("part_rows", [16, 1000])
def test_a_template_that_surprises_is_rendered_for_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int, part_rows: int
) -> None:
    small_pieces(monkeypatch, 1 << 20, part_rows)
    data = write_data(tmp_path, {"qa": rows_with_a_surprise(place)})
    surprises: list[str] = []
    real = tokenise_module.run_jobs

    def watched(*arguments: Any) -> Any:
        try:
            return real(*arguments)
        except TemplateSurprise as surprise:
            surprises.append(str(surprise))
            raise

    monkeypatch.setattr(tokenise_module, "run_jobs", watched)
    plain = {"mix": MixtureConfig(epochs=1, boundary=False)}
    made = prepared(data, plain, tokenizer=byte_tokenizer(SURPRISING))
    assert len(surprises) == 1
    assert "four!" in surprises[0]
    assert "four!" in text(made, place)
    assert len(made.store("mix")) == 2 * CHECKED
    folder = made.store_folder("mix")
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]
    # What rendering by the template from the start gives.
    monkeypatch.setattr(ChatFormat, "for_many_rows", lambda self: self)
    again = tmp_path / "again"
    tokenise(made.tasks, made.cleaned, data, made.wording("mix"), made.chat, again)
    exact = SampleStore.load(again)
    for name in ("input_ids", "supervised", "offsets", "token_keys", "row_keys"):
        assert np.array_equal(getattr(made.store("mix"), name), getattr(exact, name)), name
    assert read_stats(again) == made.token_stats("mix")


# --- broken runs and other hosts


def small_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DataConfig, Any]:
    small_pieces(monkeypatch, 1 << 20, 4)
    data = write_data(tmp_path, {"qa": [row(number) for number in range(20)]})
    mixtures = {"mix": MixtureConfig(epochs=1)}
    made = PhaseDataModule(
        data,
        prepared(data).boundary,
        mixtures,
        byte_tokenizer(CHATML),
        seed=0,
        global_batch_size=8,
    )

    def run(folder: Path, progress: Any = lambda *_: None) -> None:
        tokenise(made.tasks, made.cleaned, data, made.wording("mix"), made.chat, folder, progress)

    return data, run


def test_finished_parts_are_not_tokenised_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = small_job(tmp_path, monkeypatch)
    whole, folder = tmp_path / "whole", tmp_path / "store"
    run(whole)
    done: list[int] = []
    real = tokenise_module._part_records

    def broken(number: int) -> Any:
        done.append(number)
        records = real(number)
        if number == 3 and len(done) == 4:
            yield from islice(records, 2)
            raise OSError("the disk is gone")
        yield from records

    monkeypatch.setattr(tokenise_module, "_part_records", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        run(folder)
    assert not folder.exists()
    run(folder)
    assert done == [0, 1, 2, 3, 3, 4]
    run(folder)
    assert done == [0, 1, 2, 3, 3, 4], "a finished store is not looked into"
    for path in whole.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name
    assert not folder.with_name("store.parts").exists()


@pytest.mark.parametrize("when", [0, 2, 5])
def test_another_host_may_finish_the_same_store_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    _, run = small_job(tmp_path, monkeypatch)
    whole, folder = tmp_path / "whole", tmp_path / "store"
    run(whole)
    told: list[int] = []

    def other_host(_stage: str, done: int, _total: int) -> None:
        told.append(done)
        if len(told) == when + 1:
            run(folder)

    run(folder, other_host)
    for path in whole.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name
    assert not folder.with_name("store.parts").exists()


# --- negatives


def test_a_rejected_answer_becomes_a_negative_behind_the_right_one(tmp_path: Path) -> None:
    rows = [
        {"instruction": "u", "output": "abcd", "rejected": "abXd", "id": "r1"},
        {"instruction": "v", "output": "same", "rejected": " same "},
        {"instruction": "w", "output": "ab", "rejected": "abcd"},
    ]
    made = prepared(write_data(tmp_path, {"qa": rows}))
    store = made.store("mix")
    assert store.signs.tolist() == [1, -1, 1, 1, -1]
    assert negatives(made) == [1, 4]
    assert [prompt(made, number) for number in (1, 4)] == [prompt(made, 0), prompt(made, 3)]
    # Only where it first differs from the right answer, the end token included.
    assert [pushed(made, number) for number in range(5)] == [
        *("abcd</s>", "X", "same</s>", "ab</s>", "c"),
    ]
    ids, mask = store.tokens(1)
    place = int(np.flatnonzero(mask)[0])
    assert store.tokens(0)[0][:place].tolist() == ids[:place].tolist()
    keys = store.request_keys.tolist()
    assert keys == [
        *[key_of("qa", "u")] * 2,
        key_of("qa", "v"),
        *[key_of("qa", "w")] * 2,
    ]
    assert store.row_keys.tolist()[:2] == [key_of("qa", "r1"), key_of("qa", "r1#rejected")]
    assert made.plans["mix"].use()["qa"].available == 3


def test_all_of_a_rejected_answer_where_asked(tmp_path: Path) -> None:
    rows = [{"instruction": "u", "output": "abcd", "rejected": "abXd"}]
    data = write_data(tmp_path, {"qa": rows})
    data.negatives.supervise = Supervise.answer
    made = prepared(data)
    assert [pushed(made, number) for number in range(2)] == ["abcd</s>", "abXd</s>"]


def test_negative_rows_of_the_files(tmp_path: Path) -> None:
    rows = [
        {"instruction": "u", "output": "right"},
        {"instruction": "u", "output": "wrong", "negative": True, "behaves_like": "code"},
    ]
    made = prepared(write_data(tmp_path, {"qa": rows}))
    assert made.store("mix").signs.tolist() == [1, -1]
    # Nothing to compare it with: the first token.
    assert pushed(made, 1) == "w"
    assert prompt(made, 1) == prompt(made, 0)
    assert len(set(made.store("mix").request_keys.tolist())) == 1
    assert sorted(made.plans["mix"].rows.tolist()) == [0], "no negative without a share of them"


def two_tasks(root: Path, **negative: float) -> DataConfig:
    rows = {
        task: [
            {
                "instruction": f"{task} this: {number % 3}",
                "input": words(number + 50 * (task == "sum"), 4),
                "output": f"{mark}{number}",
                "id": f"{task}-{number}",
            }
            for number in range(10)
        ]
        for task, mark in (("code", "def "), ("sum", "In short, "))
    }
    rows["chat"] = [row(number) for number in range(10)]
    data = write_data(root, rows, negatives=NegativeRowsConfig(**negative))
    data.tasks["chat"].general = True
    data.tasks["code"].cues = [" code?"]
    data.tasks["sum"].cues = [" sum?"]
    return data


ANSWERS = {"code": "def ", "sum": "In short, "}


@pytest.mark.parametrize(
    "prompts", [PromptConfig(), PromptConfig(tag_dropout=0.5, cue_share=0.5)], ids=["", "random"]
)
def test_cross_task_negatives_have_another_tasks_answer(
    tmp_path: Path, prompts: PromptConfig
) -> None:
    data = two_tasks(tmp_path, cross_task=0.5)
    mixtures = {"mix": MixtureConfig(tasks=["all", "general"], epochs=1, prompts=prompts)}
    made = prepared(data, mixtures)
    store = made.store("mix")
    found = negatives(made)
    assert Counter(store.tasks[store.task_ids[number]] for number in found) == {
        "code": 5,
        "sum": 5,
    }, "replay rows are no task's behaviour"
    for number in found:
        task = store.tasks[store.task_ids[number]]
        other = "sum" if task == "code" else "code"
        (positive,) = np.flatnonzero(
            (store.request_keys == store.request_keys[number]) & (np.asarray(store.signs) > 0)
        )
        assert store.tasks[store.task_ids[positive]] == task
        # Words, cues and tags of the right answer's request: only the answers differ.
        assert prompt(made, number) == prompt(made, int(positive))
        right = text(made, int(positive)).rpartition("<|assistant|>\n")[2]
        wrong = text(made, number).rpartition("<|assistant|>\n")[2]
        assert right.startswith(ANSWERS[task])
        assert wrong.startswith(ANSWERS[other])
        assert pushed(made, number) == wrong[0], "what differs first is the first letter"
        assert store.lengths[number] == len(made.chat.tokenizer.encode(text(made, number)))
    assert len({int(key) for key in store.row_keys}) == len(store)


def test_swapped_instructions_ask_one_task_and_answer_as_another(tmp_path: Path) -> None:
    made = prepared(two_tasks(tmp_path, swapped_instruction=0.4))
    store = made.store("mix")
    found = negatives(made)
    assert len(found) == 8
    inputs = {
        words(number + 50 * (task == "sum"), 4): (task, f"{ANSWERS[task]}{number}</s>\n")
        for task in ANSWERS
        for number in range(10)
    }
    for number in found:
        # The negative is of the task that its instruction asks for.
        asked = store.tasks[store.task_ids[number]]
        lines = prompt(made, number).splitlines()
        assert lines[1].startswith(f"[{asked}] {asked} this: ")
        owner, answer = inputs[lines[2]]
        assert owner != asked
        assert text(made, number).rpartition("<|assistant|>\n")[2] == answer
        assert pushed(made, number) == answer[0]
        assert store.request_keys[number] not in store.request_keys[: min(found)]


def test_made_negatives_skip_rows_that_cleaning_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Their places are among the rows that stay and are right, over all parts.
    small_pieces(monkeypatch, 1 << 20, 3)
    rows = {task: [row(n + 100 * (task == "b")) for n in range(12)] for task in ("a", "b")}
    for number in (1, 4, 5):
        rows["a"][number] |= {"output": "wrong", "negative": True}
        rows["b"][number] = rows["b"][0]
    data = write_data(tmp_path, rows, negatives=NegativeRowsConfig(cross_task=1.0))
    data.cleaning.exact_duplicates = True
    data.cleaning.drop = ["train/a.jsonl:1"]
    made = prepared(data)
    found = negatives(made)
    assert len(found) == 3 + 8 + 9
    for number in found[3:]:
        answer = text(made, number).rpartition("<|assistant|>\n")[2]
        assert answer.startswith("say ")
        assert answer != f"{row(0)['output']}</s>\n"
    dropped = {key_of("a", row(n)["instruction"]) for n in (0, 1, 4, 5)}
    assert not dropped & {int(made.store("mix").request_keys[number]) for number in found[3:]}


# --- wording


def test_counts_of_wording_are_what_the_samples_show(tmp_path: Path) -> None:
    names = ("code", "qa")
    data = write_data(
        tmp_path,
        {
            name: [row(number + 300 * place) for number in range(150)]
            for place, name in enumerate((*names, "chat"))
        },
    )
    data.tasks["chat"].general = True
    for name in names:
        data.tasks[name].cues = [f" <{name} cue>"]
        data.tasks[name].paraphrases = {"any": [f"<{name} words> {{instruction}}"]}
    prompts = PromptConfig(tag_dropout=0.3, cue_share=0.4, paraphrase_share=0.2)
    random = MixtureConfig(tasks=["all", "general"], epochs=1, prompts=prompts)
    plain = MixtureConfig(tasks=["all", "general"], epochs=1)
    mixtures = {"mix": random, "twin": plain, "plain": plain, "other": random}
    made = prepared(data, mixtures)
    for phase in ("mix", "other"):
        store, counts = made.store(phase), made.token_stats(phase).wording
        texts = {
            task: [text(made, int(number), phase) for number in store.rows_of(task)]
            for task in store.tasks
        }
        assert counts.rows == {task: 150 for task in store.tasks}
        for task in store.tasks:
            tagged = sum(f"[{task}] " in one for one in texts[task])
            assert tagged == sum(f"Be {task}." in one for one in texts[task])
            assert counts.tagged[task] == tagged
            assert 80 < tagged < 130
            words_used = sum(f"<{task} words> ask" in one for one in texts[task])
            assert counts.paraphrased[task] == words_used
            cues = {other: sum(f" <{other} cue>" in one for one in texts[task]) for other in names}
            assert dict(counts.cues.get(task, {})) == {o: n for o, n in cues.items() if n}
        assert {task: list(cues) for task, cues in counts.cues.items()} == {
            "code": ["qa"],
            "qa": ["code"],
        }
        assert 40 < counts.cues["qa"]["code"] < 80
        assert 15 < counts.paraphrased["qa"] < 50
        assert counts.paraphrased["chat"] == 0
    assert text(made, 0, "plain").startswith("<|user|>\n[chat] ask ")
    plain_counts = made.token_stats("plain").wording
    assert plain_counts.tagged == plain_counts.rows
    assert (plain_counts.cues, plain_counts.paraphrased.total()) == ({}, 0)
    # Phases that word alike share a store; those that draw have their own draws.
    assert made.store_folder("plain") == made.store_folder("twin")
    assert len({made.store_folder(phase) for phase in mixtures}) == 3
    assert any(text(made, number, "mix") != text(made, number, "other") for number in range(450))
    # The wording changes neither rows nor their names.
    assert np.array_equal(made.store("mix").row_keys, made.store("plain").row_keys)
    assert np.array_equal(made.store("mix").request_keys, made.store("plain").request_keys)


def test_rejects_of_a_store_are_those_of_reading_and_of_tokenising(tmp_path: Path) -> None:
    rows = [row(0), {"instruction": "a", "output": ""}, row(1, output="x" * 300), row(2)]
    data = write_data(tmp_path, {"qa": rows}, max_reject_ratio=0.5)
    made = prepared(data)
    assert [(one["origin"], one["rule"]) for one in lines_of(made.rejects_file("mix"))] == [
        ("train/qa.jsonl:2", "empty_answer"),
        ("train/qa.jsonl:3", "overlong"),
    ]
    assert clean(data).rejects() == {"qa": {"empty_answer": 1}}
    assert made.rejects("mix") == {"qa": {"empty_answer": 1, "overlong": 1}}
