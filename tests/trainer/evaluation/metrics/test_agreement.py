"""Figures are those of the libraries' own command lines, to the last digit that these print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU

from tests.shared_judged import judged
from trainer.evaluation.metrics import figure, metric, per_row

EN = [
    ("The cat is on the mat.", "The cat sat on the mat."),
    ("He was friendly to everyone.", "He was very friendly to everybody."),
    ("", '"Well," it costs 1,000 dollars - no?'),
    ("Every morning she helps her mother prepare breakfast", "She helps her mother every morning."),
    ("I don't know.", "I don't know."),
]
ZH = [
    ("你要遵守规则。", "你必须遵守规则。"),
    ("海豚是哺乳动物。", "海豚是一种哺乳动物。"),
    ("Tom 明天会去北京。", "Tom 明天去北京。"),
    ("这座山被雪覆盖了。", "这座山被雪覆盖了。"),
]
UNLIKE = [("a b c d e f", "u v w x y z"), ("one", "two")]
SHORT = [("yes", "yes"), ("no way", "no")]


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return done.stdout


def write(folder: Path, pairs: list[tuple[str, str]]) -> None:
    for name, texts in zip(("hyp", "ref"), zip(*pairs, strict=True), strict=True):
        (folder / name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


@pytest.mark.parametrize(
    ("pairs", "tokenizer"),
    [(EN, "13a"), (ZH, "zh"), (UNLIKE, "13a"), (SHORT, "13a")],
    ids=["en", "zh", "unlike", "short"],
)
def test_sacrebleu_on_one_language(
    tmp_path: Path, pairs: list[tuple[str, str]], tokenizer: str
) -> None:
    write(tmp_path, pairs)
    printed = json.loads(
        run(
            tmp_path,
            *("sacrebleu", "ref", "-i", "hyp", "-m", "bleu", "chrf", "-tok", tokenizer),
            *("-w", "12"),
        )
    )
    rows = [judged(answer, gold) for answer, gold in pairs]
    for name, theirs in zip(("bleu", "chrf"), printed, strict=True):
        ours = figure(metric(name), rows, 10, "x")
        assert f"{100 * ours.value:.12f}" == f"{theirs['score']:.12f}", theirs["signature"]
        assert ours.rows == len(pairs)


@pytest.mark.parametrize(("pairs", "tokenizer"), [(EN, "13a"), (ZH, "zh")], ids=["en", "zh"])
@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_sacrebleu_on_single_rows(
    tmp_path: Path, pairs: list[tuple[str, str]], tokenizer: str, name: str
) -> None:
    write(tmp_path, pairs)
    options = (
        "-m",
        name,
        *(("-tok", tokenizer) if name == "bleu" else ()),
        "-sl",
        "-b",
        "-w",
        "12",
    )
    theirs = run(tmp_path, "sacrebleu", "ref", "-i", "hyp", *options).split()
    ours = per_row(metric(name), [judged(answer, gold) for answer, gold in pairs])
    assert [f"{100 * one:.12f}" for one in ours if one is not None] == theirs


def test_two_directions_are_scored_apart_and_chinese_never_by_words() -> None:
    rows = [judged(answer, gold) for answer, gold in [*EN, *ZH]]
    for name in ("bleu", "chrf"):
        en, zh, both = (
            figure(metric(name), some, 10, "x").value for some in (rows[:5], rows[5:], rows)
        )
        assert both == pytest.approx((5 * en + 4 * zh) / 9, abs=1e-15)
    by_words = BLEU(tokenize="13a").corpus_score([a for a, _ in ZH], [[g for _, g in ZH]]).score
    zh = figure(metric("bleu"), rows[5:], 10, "x").value
    assert by_words == 0 < 0.6 < zh


def test_the_language_is_that_of_the_gold_answer() -> None:
    assert figure(metric("bleu"), [judged("You must obey.", ZH[0][1])], 10, "x").value == 0
    rows = [judged(gold, gold) for _, gold in [*EN[:2], *ZH]]
    assert figure(metric("bleu"), rows, 10, "x").value == pytest.approx(1)


def rouge_lines(folder: Path) -> list[str]:
    run(
        folder,
        "rouge_score.rouge",
        *("--target_filepattern=ref", "--prediction_filepattern=hyp", "--output_filename=out"),
        *("--rouge_types=rougeL", "--aggregate=False"),
    )
    lines = (folder / "out").read_text(encoding="utf-8").split("\n")
    return [line.split(",")[3] for line in lines[1:] if line]


def test_rouge_on_latin_text(tmp_path: Path) -> None:
    pairs = [*EN, ("Un café à São Paulo, déjà vu", "le café de São Paulo"), *UNLIKE]
    write(tmp_path, pairs)
    ours = per_row(metric("rouge_l"), [judged(answer, gold) for answer, gold in pairs])
    assert [f"{one:.6f}" for one in ours if one is not None] == rouge_lines(tmp_path)


def test_rouge_on_chinese_is_rouge_of_its_characters(tmp_path: Path) -> None:
    def spelt(text: str) -> str:
        return re.sub(r"[\u4e00-\u9fff]", lambda match: f" u{ord(match.group()):x} ", text)

    write(tmp_path, [(spelt(answer), spelt(gold)) for answer, gold in ZH])
    ours = per_row(metric("rouge_l"), [judged(answer, gold) for answer, gold in ZH])
    theirs = rouge_lines(tmp_path)
    assert [f"{one:.6f}" for one in ours if one is not None] == theirs
    assert theirs == ["0.769231", "0.875000", "0.923077", "1.000000"]
