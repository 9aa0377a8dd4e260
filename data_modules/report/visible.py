"""Rows' text made safe to look at: what cannot be seen is named, and what is too long is cut."""

from __future__ import annotations

import unicodedata

# Controls, formatting (zero width, bidirectional), lone surrogates, line and paragraph separators:
# invisible on a page, harmful on a terminal, or not encodable at all.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class _Names(dict[int, str]):
    """Code point -> what stands for it; filled as code points turn up."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        unseen = unicodedata.category(character) in _UNSEEN and character not in "\n\t"
        self[code] = f"⟨U+{code:04X}⟩" if unseen else character
        return self[code]


_NAMES = _Names()


def visible(text: str) -> str:
    """The text with every invisible character written as ``⟨U+200B⟩``; line breaks and tabs stay."""
    return text.translate(_NAMES)


def excerpt(text: str, limit: int) -> str:
    """At most ``limit`` characters of a text, made visible; a cut one says how long it is."""
    if len(text) <= limit:
        return visible(text)
    return f"{visible(text[:limit])} … [{limit:,} of {len(text):,} characters]"
