"""The exported chat template: users name a task and get the prompt that the model was trained on.

``tokenizer.apply_chat_template(messages, task="qa", language="en", add_generation_prompt=True)`` adds the
task's tag and constraint as ``data_modules.wording`` does at training. They stand in a preamble before
the tokenizer's own template, which replaces ``messages``; without ``task`` the template is what it was.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from data_modules.config import BoundaryConfig, TaskConfig
from data_modules.wording import boundary_texts

_BEGIN = "{#- polyphase boundary: begin -#}"
# The line break is for Jinja's trim_blocks, which transformers sets: it takes away this one and leaves
# white space that the tokenizer's own template may open with.
_END = "{#- polyphase boundary: end #}\n"

# A language that is missing is an error where texts depend on it: a prompt in the wrong one would be
# close enough to work, and worse. Lists and messages are made anew: the sandbox changes none.
_PREAMBLE = """
{#- apply_chat_template(messages, task=..., language=...) adds the task's tag and constraint -#}
{%- if task is defined and task is not none -%}
  {%- set polyphase_tasks = TEXTS -%}
  {%- if task not in polyphase_tasks -%}
    {{- raise_exception("no task '" ~ task ~ "'; the tasks are " ~ polyphase_tasks | join(", ")) -}}
  {%- endif -%}
  {%- set polyphase_texts = polyphase_tasks[task] -%}
  {%- if language is defined and language is not none -%}
    {%- set polyphase_pair = polyphase_texts.get(language, polyphase_texts[""]) -%}
  {%- elif polyphase_texts | length == 1 -%}
    {%- set polyphase_pair = polyphase_texts[""] -%}
  {%- else -%}
    {{- raise_exception("task '" ~ task ~ "' needs language=, one of "
        ~ polyphase_texts | select | join(", ") ~ "; any other stands for the rest") -}}
  {%- endif -%}
  {%- set polyphase = namespace(messages=[], tag=polyphase_pair[0]) -%}
  {%- for message in messages -%}
    {%- if message["role"] == "user" -%}
      {%- if message["content"] is not string -%}
        {{- raise_exception("with task=, the content of user messages must be text") -}}
      {%- endif -%}
      {%- set polyphase_text = message["content"] -%}
      {%- if polyphase_pair[1] -%}
        {%- set polyphase_text = polyphase_text ~ "\\n" ~ polyphase_pair[1] -%}
      {%- endif -%}
      {%- if polyphase.tag -%}
        {%- set polyphase_text = polyphase.tag ~ " " ~ polyphase_text -%}
      {%- endif -%}
      {%- set polyphase.tag = "" -%}
      {%- set polyphase.messages = polyphase.messages + [dict(message, content=polyphase_text)] -%}
    {%- else -%}
      {%- set polyphase.messages = polyphase.messages + [message] -%}
    {%- endif -%}
  {%- endfor -%}
  {%- set messages = polyphase.messages -%}
{%- endif -%}
"""


def bounded_template(
    template: str, tasks: Mapping[str, TaskConfig], boundary: BoundaryConfig
) -> str:
    """A chat template that takes ``task`` and ``language`` besides.

    Args:
        template: Jinja; a preamble that it has is replaced.
        boundary: of the phase; where no task has a text under it, the template stays plain.
    """
    plain = plain_template(template)
    texts = {name: texts_by_language(task, boundary) for name, task in sorted(tasks.items())}
    if not any(any(pair) for pairs in texts.values() for pair in pairs.values()):
        return plain
    lines = ",\n    ".join(f"{_literal(name)}: {_literal(pairs)}" for name, pairs in texts.items())
    return _BEGIN + _PREAMBLE.replace("TEXTS", f"{{\n    {lines}\n  }}") + _END + plain


def plain_template(template: str) -> str:
    """The template without the preamble of an export."""
    return template.partition(_END)[2] if template.startswith(_BEGIN) else template


def texts_by_language(task: TaskConfig, boundary: BoundaryConfig) -> dict[str, tuple[str, str]]:
    """Language -> (tag, constraint) as prompts carry them; "" is every language not named."""
    languages = [""]
    if boundary.tag:
        languages += task.tags
    if boundary.constraint:
        languages += task.constraints
    return {one: tuple(boundary_texts(task, boundary, one)) for one in dict.fromkeys(languages)}


def _literal(value: Any) -> str:
    """A Jinja literal: JSON, where nothing beyond the BMP may be written as two escapes."""
    return json.dumps(value, ensure_ascii=False)


def bounded_tokenizer(
    tokenizer: Any, tasks: Mapping[str, TaskConfig], boundary: BoundaryConfig
) -> Any:
    """A copy for an export whose chat template takes ``task``; the given one is not changed."""
    exported = copy.copy(tokenizer)
    exported.chat_template = _changed(
        tokenizer.chat_template, lambda one: bounded_template(one, tasks, boundary)
    )
    return exported


def make_plain(tokenizer: Any) -> None:
    """Take the preamble of an export from a loaded tokenizer.

    The tasks of a run are its own configuration's, and its fingerprints must not depend on those of
    the run that it starts from.
    """
    tokenizer.chat_template = _changed(tokenizer.chat_template, plain_template)


def _changed(template: Any, change: Callable[[str], str]) -> Any:
    """Apply to a tokenizer's template, to each where it has several by name, to none if it has none."""
    if isinstance(template, dict):
        return {name: change(one) for name, one in template.items()}
    return template if template is None else change(template)
