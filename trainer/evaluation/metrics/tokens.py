"""Words, and characters where words are not spaced."""

from __future__ import annotations

import re
import unicodedata

#: Characters that are words of their own: Han and kana.
UNSPACED = (
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003134f"
)
_UNSPACED = re.compile(f"([{UNSPACED}])")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
#: ASCII symbols, as ``string.punctuation`` has them, and punctuation beyond ASCII.
_PUNCTUATION = dict.fromkeys(
    code
    for code in range(0x10000)
    if unicodedata.category(chr(code)).startswith("P")
    or (code < 128 and unicodedata.category(chr(code)).startswith("S"))
)

# The library drops whatever is no ASCII letter or digit. Latin text goes as there, accents included.
_ROUGE_TOKEN = re.compile(
    rf"[{UNSPACED}]|[a-z0-9]+|(?:(?![{UNSPACED}])[^\W_a-z0-9\u00aa-\u024f\u1e00-\u1eff])+"
)


def normalised(text: str) -> str:
    """Lower case, no punctuation, no English articles, single blanks: as SQuAD's script does it.

    Punctuation beyond ASCII goes as well, which that script keeps.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def normalised_tokens(text: str) -> list[str]:
    """The words of :func:`normalised`, and single characters in scripts that do not space words."""
    return _UNSPACED.sub(r" \1 ", normalised(text)).split()


class MixedTokenizer:
    """A tokenizer for rouge-score that can read Chinese and Japanese.

    Latin text has the library's own tokens, without its stemmer; a Han character or kana is a token;
    words of other scripts, which the library leaves out, are tokens.
    """

    def tokenize(self, text: str) -> list[str]:
        """The tokens."""
        return _ROUGE_TOKEN.findall(text.lower())
