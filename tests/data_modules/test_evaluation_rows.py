"""Evaluation rows of templates that may be rendered by substitution, and of one that may not."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from data_modules.chat import ChatFormat
from data_modules.chat_rendering import CHECKED, TemplateSurprise
from data_modules.evaluation_rows import EvalRow, read_eval_rows
from data_modules.records import Message
from data_modules.wording import NO_BOUNDARY
from tests.data_modules.prepare.made_data import row, write_data
from tests.shared_data import CHATML, byte_tokenizer

# Looks like a template that only puts contents between fixed texts, and is none.
SURPRISING = CHATML.replace(
    "{{ m['content'] }}", "{{ m['content'] }}{% if m['content'] | length == 4 %}!{% endif %}"
)


def as_values(rows: list[EvalRow]) -> list[Any]:
    return [(one.prompt_ids, one.input_ids, one.supervised.tolist(), one.request) for one in rows]


@pytest.mark.parametrize(("template", "surprises"), [(CHATML, False), (SURPRISING, True)])
def test_rows_are_what_the_template_renders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, surprises: bool
) -> None:
    rows = [row(number) for number in range(2 * CHECKED)]
    rows[CHECKED] = {"instruction": "four", "output": "answer"}
    data = write_data(tmp_path, {"qa": rows})
    data.tasks["qa"].sources["main"].eval = data.tasks["qa"].sources["main"].train
    chat = ChatFormat(byte_tokenizer(template))
    found = read_eval_rows(data, NO_BOUNDARY, chat, None)[0]["qa"]
    text = chat.tokenizer.decode(found[CHECKED].prompt_ids)
    assert ("four!" in text) == surprises
    fast = chat.for_many_rows()
    with pytest.raises(TemplateSurprise) if surprises else nullcontext():
        for one in rows:
            fast.prompt((Message("user", one["instruction"]),))
    monkeypatch.setattr(ChatFormat, "for_many_rows", lambda self: self)
    exact = read_eval_rows(data, NO_BOUNDARY, chat, None)[0]["qa"]
    assert as_values(found) == as_values(exact)
    assert len(found) == 2 * CHECKED
