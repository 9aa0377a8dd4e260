"""Golds, detectors and verifiers: ten right answers per payload that nothing mixes up."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest
import yaml

from data_modules.benchmark import (
    ALL_TASKS,
    CUES,
    GENERAL,
    MIXED,
    NONE,
    SKILLS,
    TASK,
    TASKS,
    BenchmarkSpec,
    MachineError,
    Payload,
    behaviour_of,
    build_tokenizer,
    constraint_of,
    golds,
    is_correct,
    parse_payload,
    rows,
    run_program,
    skill_of,
    tag_of,
    world,
)
from data_modules.benchmark.payload import draw_payload
from data_modules.benchmark.streams import Stream

SPEC = BenchmarkSpec()
CONF = Path(__file__).parents[3] / "conf" / "task" / "bench"
LABELS = {*ALL_TASKS, MIXED, NONE}


@pytest.fixture(scope="module")
def payloads() -> list[Payload]:
    return [
        draw_payload(Stream("test", number), SPEC.min_cells, SPEC.max_cells, for_eval=False)
        for number in range(1000)
    ]


def test_golds_of_a_hand_made_payload() -> None:
    w = world(0)
    payload = Payload(("k", "b", "m", "a"), (7, 0, 9, 4), ("m",))
    entities = [
        f"[ {a} {d} ]" for a, d in zip("kbma", (7, 0, 9, 4), strict=True) if a in w.entities
    ]
    assert golds(payload, w) == {
        "qa": "ans 9 .",
        "translation": " ".join(w.capitals[a] for a in "kbma"),
        "summarization": "k , m .",
        "classification": "DOWN",
        "extraction": " ".join(entities) or "[ ]",
        "sorting": "b a k m",
        "code": "LOAD k LOAD m ADD RET",
        "math": "7 + 9 = 1 6",
        "json": "{ k : 7 , b : 0 , m : 9 , a : 4 }",
        "style": "k 2 b 9 m 0 a 5 !",
    }
    assert golds(Payload(("k", "b"), (1, 2), ("k",)), w)["classification"] == "SELF"
    assert golds(Payload(("k", "b"), (1, 2), ("b",)), w)["classification"] == "UP"


def test_the_hidden_constants_are_a_bijection_and_a_set_of_nine_and_follow_the_seed() -> None:
    assert sorted(world(0).capitals.values()) == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert len(world(0).entities) == 9
    assert world(0) != world(1)
    assert world(1) == world(1)


def test_each_payload_has_ten_different_golds_that_match_their_own_detector_only(
    payloads: list[Payload],
) -> None:
    # 1,000 payloads x 10 tasks = 10,000 golds.
    for payload in payloads:
        answers = golds(payload, world(0))
        assert len(set(answers.values())) == len(TASKS)
        assert {task: behaviour_of(answer) for task, answer in answers.items()} == {
            task: task for task in TASKS
        }


def test_the_detectors_are_disjoint_as_written() -> None:
    """The order in which formats are tried must not matter."""
    from data_modules.benchmark.detectors import _FORMATS

    for task in ALL_TASKS:
        for row in islice(rows(SPEC, "eval", task), 100):
            matching = [name for name, rule in _FORMATS.items() if rule.fullmatch(row["output"])]
            assert matching == [task]


def test_corrupted_answers_get_exactly_one_label_and_are_never_taken_for_right(
    payloads: list[Payload],
) -> None:
    """10,000 damaged golds: dropped, doubled, swapped and foreign symbols."""
    stream = Stream("corrupt")
    labels = set()
    for payload in payloads:
        row_input = payload.text()
        for task, gold in golds(payload, world(0)).items():
            symbols = gold.split()
            at = stream.below(len(symbols))
            kind = stream.below(4)
            if kind == 0:
                del symbols[at]
            elif kind == 1:
                symbols.insert(at, symbols[at])
            elif kind == 2:
                symbols[at] = stream.choice(("a", "Z", "3", "!", ".", "ADD", "{", "ans", "sure"))
            else:
                other = stream.below(len(symbols))
                symbols[at], symbols[other] = symbols[other], symbols[at]
            answer = " ".join(symbols)
            label = behaviour_of(answer)
            assert label in LABELS
            labels.add(label)
            row = {"input": row_input, "output": gold}
            right = is_correct(task, row, answer)
            if answer == gold:
                assert right
            elif label != task:
                assert not right
            elif right:
                # Another answer may be right only where order or repetition means nothing.
                assert task in ("code", "json")
    assert {MIXED, NONE, "sorting", "style"} <= labels


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("", NONE),
        ("   ", NONE),
        ("ans 7", NONE),
        ("ans  7 \n .", "qa"),
        ("ans 7 . A B", MIXED),
        ("ans 7 . ans 7 .", NONE),
        ("A B ans 7 .", MIXED),
        ("UP a b", MIXED),
        ("a b .", NONE),
        ("a , b .", "summarization"),
        ("[ ]", "extraction"),
        ("[ ] [ a 1 ]", NONE),
        ("[ a 1 ] [ b 2 ]", "extraction"),
        ("3 + 4 = 7", "math"),
        ("3 + 4 = 1 0 7", NONE),
        ("{ }", NONE),
        ("LOAD a RET", "code"),
        ("LOAD a LOAD a ADD RET RET", NONE),
        ("sure ! a b", GENERAL),
        ("sure !", GENERAL),
        ("sure a", NONE),
        ("a 1 b 2 !", "style"),
        ("{ a : 1 } sure ! a", MIXED),
        ("a a a a", "sorting"),
    ],
)
def test_behaviours(answer: str, label: str) -> None:
    assert behaviour_of(answer) == label


@pytest.mark.parametrize("task", TASKS)
def test_another_tasks_gold_is_never_right(task: str, payloads: list[Payload]) -> None:
    for payload in payloads[:100]:
        answers = golds(payload, world(0))
        row = {"input": payload.text(), "output": answers[task]}
        assert [other for other in TASKS if is_correct(task, row, answers[other])] == [task]


def test_code_is_judged_by_running_it() -> None:
    row = {"input": "k_7 b_0 m_9 @ m $", "output": "LOAD k LOAD m ADD RET"}
    assert is_correct("code", row, "LOAD m LOAD k ADD RET")
    assert is_correct("code", row, "  LOAD k LOAD m ADD RET ")
    assert not is_correct("code", row, "LOAD k LOAD b ADD RET")
    assert not is_correct("code", row, "LOAD k LOAD k ADD RET")
    assert not is_correct("code", row, "LOAD k LOAD m ADD LOAD b ADD RET")
    assert not is_correct("code", row, "LOAD k LOAD z ADD RET")
    assert not is_correct("code", row, "LOAD k LOAD m RET")
    # Other tasks are not: operand order matters in math.
    assert not is_correct("math", {"input": "", "output": "1 + 2 = 3"}, "2 + 1 = 3")


def test_json_is_judged_by_keys_and_values() -> None:
    row = {"input": "k_7 b_0 @ b", "output": "{ k : 7 , b : 0 }"}
    assert is_correct("json", row, "{ b : 0 , k : 7 }")
    assert not is_correct("json", row, "{ b : 7 , k : 0 }")
    assert not is_correct("json", row, "{ b : 0 , k : 7 , k : 7 }")
    assert not is_correct("json", row, "{ b : 0 }")


def test_unknown_task_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'poetry'.*defined: qa"):
        is_correct("poetry", {"input": "", "output": ""}, "")


def test_the_machine_runs() -> None:
    assert run_program("LOAD a RET", {"a": 5}) == 5
    assert run_program("LOAD a LOAD b ADD LOAD a ADD RET", {"a": 5, "b": 7}) == 17
    assert run_program("LOAD a " * 8 + "ADD " * 7 + "RET", {"a": 1}) == 8


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("ADD RET", "underflow"),
        ("LOAD a ADD RET", "underflow"),
        ("LOAD a " * 9 + "ADD " * 8 + "RET", "overflow"),
        ("RET", "0 values"),
        ("LOAD a LOAD a RET", "2 values"),
        ("LOAD a", "no RET"),
        ("", "no RET"),
        ("LOAD a RET RET", "after RET"),
        ("LOAD z RET", "known letter"),
        ("LOAD", "known letter"),
        ("JUMP a", "unknown instruction 'JUMP' at 0"),
    ],
)
def test_the_machine_refuses(program: str, fault: str) -> None:
    with pytest.raises(MachineError, match=fault):
        run_program(program, {"a": 5})


def test_payloads_read_back(payloads: list[Payload]) -> None:
    for payload in payloads[:100]:
        assert parse_payload(payload.text()) == (payload, None)
        assert parse_payload(payload.text("?")) == (payload, "?")
    for broken in ("", "k_7 b_0", "k_7 b_0 @", "k_7 b_0 @ z", "k_7 b @ k", "k_7 @ k ? ?"):
        with pytest.raises(ValueError, match="not a benchmark payload"):
            parse_payload(broken)


def test_the_general_skills_are_all_asked_for_and_readable_from_the_instruction() -> None:
    seen = {skill_of(row["instruction"]) for row in islice(rows(SPEC, "train", GENERAL), 500)}
    assert seen == set(SKILLS)
    assert len(SKILLS) == len({signature for signature, _ in SKILLS.values()}) == 15
    with pytest.raises(ValueError, match="instruction"):
        skill_of("give value")


def test_task_signatures_differ_and_share_their_words() -> None:
    signatures = {task.signature for task in TASK.values()}
    assert len(signatures) == len(TASKS)
    assert len({verb for verb, _ in signatures}) == len({obj for _, obj in signatures}) == 4


@pytest.mark.parametrize("task", ALL_TASKS)
def test_the_task_files_agree_with_the_code(task: str) -> None:
    text = (CONF / f"{task}.yaml").read_text(encoding="utf-8")
    assert re.match(r"# .*`data=bench`", text)
    conf = yaml.safe_load(text)
    outputs = [
        row["output"]
        for row in islice(rows(BenchmarkSpec(min_cells=SPEC.max_cells), "eval", task), 200)
    ]
    tokenizer = build_tokenizer()
    longest = max(len(tokenizer(output)["input_ids"]) for output in outputs)
    if task == "extraction":
        # Rows whose cells are all entities are rare; `[ l d ]` is four tokens.
        assert longest <= SPEC.max_cells * 4
        longest = SPEC.max_cells * 4
    expected = {
        "sources": {"main": {"train": f"train/{task}.jsonl", "eval": f"eval/{task}.jsonl"}},
        "tag": tag_of(task),
        "constraint": constraint_of(task),
        "metric": f"bench:{task}",
        "max_new_tokens": longest + 2,
    }
    if task in CUES:
        expected["cues"] = [f" {CUES[task]}"]
    assert conf == (expected | {"general": True} if task == GENERAL else expected)


def test_there_is_one_task_file_per_task() -> None:
    # `base` and `base_cells` are the base model's corpora: general rows, not tasks of their own.
    assert {path.stem for path in CONF.glob("*.yaml")} - {"base", "base_cells"} == set(ALL_TASKS)
