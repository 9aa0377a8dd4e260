"""What the fuzz tests draw from: JSON-like values and texts that files and command lines can hold."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

#: Texts that readers, templates, terminals and file systems have stumbled over.
NASTY = (
    *("", " ", "\n", "\r\n", "\0", "\ufeff", "\u2028", "\ud800", "\udfff", "a\ud83d", "\x1b[31m"),
    *(
        "\u202e",
        "[red]",
        "<script>",
        "{{ 7*7 }}",
        "${seed}",
        "../../x",
        "null",
        "true",
        "NaN",
        "???",
    ),
    *("```", "`" * 7, "~~~", "1. a", "- b", "__x__", "<b>x</b>", "x" * 5000, "中文。", "é", "\x85"),
)
TEXTS = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=()), max_size=12)
WHOLE = (0, 1, -1, 2**31, 2**63, -(2**63) - 1, 2**64, 10**400)
NUMBERS = (
    st.integers()
    | st.sampled_from(WHOLE)
    | st.floats()
    | st.sampled_from([float("nan"), float("inf"), -0.0, 1e308, 5e-324])
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS


def values(keys: st.SearchStrategy[str], most: int = 6) -> st.SearchStrategy[Any]:
    """Nested lists and objects whose objects have some of ``keys``."""
    return st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(keys | TEXTS, inner, max_size=4)
        ),
        max_leaves=most,
    )


def as_json(value: Any, ascii_only: bool) -> str:
    """JSON as Python writes it, numbers that are none and halves of surrogate pairs included."""
    return json.dumps(value, ensure_ascii=ascii_only)
