"""Rendering by substitution: equal to the template's own rendering, or not used."""

from __future__ import annotations

import pytest

from data_modules.chat_rendering import CHECKED, Conversation, Renderer, TemplateSurprise
from data_modules.records import Message
from tests.shared_data import CHATML, REAL_TOKENIZERS, byte_tokenizer, real_tokenizer

# what a template might treat unlike other text
CONTENTS = [
    *("plain", " padded ", "line\n", "<think>x</think> y", "</s>", "<|user|>", "{{ x }}", "中文"),
    *("a\n\nb", "<|im_end|>", "\t", "user", "assistant", "UPPER lower", "&<>\"'"),
]


def conversations(count: int = 200) -> list[Conversation]:
    made: list[Conversation] = []
    for number in range(count):
        texts = [
            CONTENTS[(number + 3 * k) % len(CONTENTS)] + "x" * (k + number % 2) for k in range(5)
        ]
        turns = [Message("user", texts[0]), Message("assistant", texts[1])]
        if number % 3 == 1:
            turns += [Message("user", texts[2]), Message("assistant", texts[3])]
        if number % 5 == 2:
            turns.insert(0, Message("system", texts[4]))
        made.append(tuple(turns))
    return made


def check(tokenizer: object) -> Renderer:
    fast, exact = Renderer(tokenizer, by_template=False), Renderer(tokenizer, by_template=True)
    whole = conversations()
    assert fast.renders(whole, generation=False) == exact.renders(whole, generation=False)
    asked = [one[:-1] for one in whole]
    assert fast.renders(asked, generation=True) == exact.renders(asked, generation=True)
    return fast


@pytest.mark.parametrize("name", REAL_TOKENIZERS)
def test_real_templates(name: str) -> None:
    tokenizer = real_tokenizer(name)
    if tokenizer.chat_template is None:
        pytest.skip(f"{name} brings no chat template")
    fast = check(tokenizer)
    assert any(frames is not None for frames in fast._frames.values()), "the fast way is used"


def test_a_simple_template_is_not_rendered_for_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_tokenizer(CHATML)
    fast = check(tokenizer)
    plain = [(Message("user", f"q{n}"), Message("assistant", f"a{n}")) for n in range(640)]
    rendered: list[int] = []
    render = fast._render
    monkeypatch.setattr(
        fast,
        "_render",
        lambda chats, generation: rendered.append(len(chats)) or render(chats, generation),
    )
    fast.renders(plain, generation=False)
    assert sum(rendered) == 2 * len(plain) / CHECKED


@pytest.mark.parametrize(
    "output",
    [
        "{{ m['content'] | trim }}",
        "{{ m['content'] | upper }}",
        "{{ m['content'].split('\\n')[0] }}",
        "{{ m['content'] | e }}",
        "{{ m['content'][:20] }}",
        "{{ m['content'] }}{% if m['content'] | length > 100 %}!{% endif %}",
        "{{ m['content'] }}{{ m['content'] }}",
        "{% if 'secret' in m['content'] %}hidden{% else %}{{ m['content'] }}{% endif %}",
    ],
)
def test_templates_that_look_into_contents(output: str) -> None:
    template = CHATML.replace("{{ m['content'] }}", output)
    assert template != CHATML
    CONTENTS.append("a secret word")
    try:
        check(byte_tokenizer(template))
    finally:
        CONTENTS.pop()


def test_a_template_that_is_seen_through_late_is_a_surprise() -> None:
    output = "{{ m['content'] }}{% if m['content'] | length == 4 %}!{% endif %}"
    tokenizer = byte_tokenizer(CHATML.replace("{{ m['content'] }}", output))
    rows = [(Message("user", "four"), Message("assistant", "answer"))] * (CHECKED + 1)
    with pytest.raises(TemplateSurprise):
        Renderer(tokenizer, by_template=False).renders(rows, generation=False)
    exact = Renderer(tokenizer, by_template=True).renders(rows, generation=False)
    assert "four!" in exact[0][0]
