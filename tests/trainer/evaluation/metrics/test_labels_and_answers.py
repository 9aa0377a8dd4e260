"""Which label or final answer a text gives, however it says so."""

from __future__ import annotations

import pytest

from tests.shared_judged import judged, score
from trainer.evaluation.metrics.labels import offered_labels

INTENT = (
    "Classify the intent. Choose one label from: pending_top_up, top_up, card_payment?, lost_card.\n"
    "My top-up is not there."
)
ZH = "根据论文标题判断它所属的学科门类。可选类别：军事学、工学、理学、管理学。\n超声波测距研究"


@pytest.mark.parametrize(
    ("request_text", "gold", "answer", "right"),
    [
        (INTENT, "pending_top_up", "pending_top_up", 1),
        (INTENT, "pending_top_up", " Pending_Top_Up.\n", 1),
        (INTENT, "pending_top_up", "pending top-up", 1),
        (INTENT, "pending_top_up", "Label: pending_top_up", 1),
        (INTENT, "pending_top_up", "**pending_top_up**\n\nThe customer waits for it.", 1),
        (INTENT, "pending_top_up", "The label is 'pending_top_up', since it is waited for.", 1),
        (INTENT, "pending_top_up", "I would say pending_top_up here.", 1),
        (INTENT, "pending_top_up", "top_up", 0),
        (INTENT, "top_up", "pending_top_up", 0),
        (INTENT, "top_up", "I would say pending_top_up here.", 0),
        (INTENT, "pending_top_up", "pending_top_up or lost_card", 0),
        (INTENT, "pending_top_up", "lost_card\n\nnot pending_top_up", 0),
        (INTENT, "pending_top_up", "", 0),
        (INTENT, "card_payment?", "card_payment", 1),
        (ZH, "工学", "工学", 1),
        (ZH, "工学", "类别：工学。", 1),
        (ZH, "工学", "这篇论文属于工学。", 1),
        (ZH, "工学", "理学", 0),
        (ZH, "工学", "工学或理学", 0),
        (ZH, "工学", ZH, 0),
        ("Is it spam?", "not spam", "Not spam.", 1),
        ("Is it spam?", "not spam", "spam", 0),
        ("Is it spam?", "spam", "It is not spam", 0),
    ],
)
def test_label(request_text: str, gold: str, answer: str, right: float) -> None:
    assert score("label_accuracy", judged(answer, gold, request_text)) == right
    assert score("label_accuracy", judged(answer, gold, request_text, finished=False)) == 0


def test_the_list_of_labels_is_the_one_around_the_right_one() -> None:
    assert offered_labels(INTENT, "top_up") == {
        *("pending top up", "top up", "card payment", "lost card")
    }
    assert offered_labels(ZH, "工学") == {"军事学", "工学", "理学", "管理学"}
    assert offered_labels("Is it spam?", "spam") == set()


GSM = "He used 4-1=3 pounds\nSo he used 3*2=6 pounds\nThe answer is 6."


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        (GSM, "The answer is 6", 1),
        (GSM, "the final answer is: $6.00", 1),
        (GSM, "4-1=3, so 3*2=6", 1),
        (GSM, "#### 6", 1),
        (GSM, "Therefore \\boxed{6}.", 1),
        (GSM, "答案：6", 1),
        (GSM, "The answer is 6 pounds of 10", 1),
        (GSM, "The answer is 16.", 0),
        (GSM, "The answer is 6, so 7", 1),
        (GSM, "6 or maybe 7", 0),
        (GSM, "The answer is -6.", 0),
        (GSM, "six", 0),
        (GSM, "", 0),
        ("The answer is 1700.", "She began with $1,700.", 1),
        ("The answer is 0.5.", "答案是 1/2", 1),
        ("The answer is 0.5.", "so \\frac{1}{2}", 1),
        ("The answer is 50%.", "50", 1),
        ("The answer is -3.", "x = -3", 1),
        ("The answer is 5.", "1/0", 0),
        ("故 D 正确。\n答案：D", "所以选D", 1),
        ("答案：D", "故选：D。", 1),
        ("答案：D", "答案为(D)", 1),
        ("答案：D", "The answer is D.", 1),
        ("答案：D", "D", 1),
        ("答案：D", "D. 5", 1),
        ("答案：D", "解：A, B 错误\nD", 1),
        ("答案：D", "答案：B", 0),
        ("答案：D", "答案：BD", 0),
        ("答案：D", "已知 A, B, C\nA. 10\nB. 9\nC. 8\nD. 5", 0),  # the question, copied
        ("答案：D", "Therefore \\boxed{D}.", 1),
        ("答案：D", "The correct option is (D) 5.", 1),
        ("The answer is (D) 5.", "D", 1),
        ("The answer is \\boxed{D}.", "答案：D", 1),
        ("答案：D. 10", "答案：B. 10", 0),
        ("答案：ABD", "答案：A、B、D", 1),
        ("答案：ABD", "答案：DBA", 1),
        ("So the answer is yes.", "Yes", 1),
        ("So the answer is yes.", "It rained.\nThe answer is: Yes!", 1),
        ("So the answer is yes.", "No", 0),
        ("The answer is the red box.", "answer: red box", 1),
    ],
)
def test_final_answer(gold: str, answer: str, right: float) -> None:
    assert score("answer_accuracy", judged(answer, gold)) == right
    assert score("answer_accuracy", judged(answer, gold, finished=False)) == 0
