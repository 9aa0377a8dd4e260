"""Samples as the model sees them: every token, special ones too, and which are trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.text import Text

from data_modules.report.visible import visible

#: Text, token id, whether it is trained on, whether it is a special token. A character that is split
#: over several tokens stands with the last of them; the others have no text.
Piece = tuple[str, int, bool, bool]

_UNFINISHED = "\ufffd"  # how decoders write bytes that are no whole character yet
_LINE_BREAK = "⏎\n"

_PROMPT = Style(dim=True)
_LOSS = Style(color="green", bold=True)
_NEGATIVE = Style(color="red", bold=True)
_SPECIAL = Style(color="magenta", reverse=True)


def pieces_of(tokenizer: Any, input_ids: Sequence[int], supervised: Sequence[bool]) -> list[Piece]:
    """Cut a sample into readable pieces, one a token; joined, they are the decoded sample.

    Args:
        tokenizer: a Hugging Face tokenizer.
        input_ids: [tokens]
        supervised: [tokens], True where the token is trained on.
    """
    ids = [int(one) for one in input_ids]
    special = _special_ids(tokenizer)
    pieces: list[Piece] = []
    # Decoders treat the start of a text apart (SentencePiece drops its space), so each token is decoded
    # behind the last ones that gave text, and only the difference counts.
    start = done = 0
    for place, token in enumerate(ids):
        before = _decode(tokenizer, ids[start:done])
        after = _decode(tokenizer, ids[start : place + 1])
        following = ids[place + 1] if place + 1 < len(ids) else None
        whole = (
            token in special
            or following is None
            or following in special
            or not after.endswith(_UNFINISHED)
        )
        text = after[len(before) :] if whole else ""
        pieces.append((text, token, bool(supervised[place]), token in special))
        if text:
            start, done = done, place + 1
    return pieces


def print_preview(console: Console, samples: Iterable[Mapping[str, Any]]) -> None:
    """Print samples: the trained part coloured, or in ⟦ ⟧ where the console has no colour.

    Args:
        samples: each with ``task``, ``phase``, ``row_id``, ``sign`` (below 0 for a negative) and
            ``pieces``, as :func:`pieces_of` makes them.
    """
    colour = console.color_system is not None and not console.no_color
    console.print(_legend(colour))
    for sample in samples:
        console.print()
        console.print(_header(sample))
        # soft_wrap with an overflow of its own would cut lines at the width
        wrap: dict[str, Any] = {"overflow": "fold"} if colour else {"soft_wrap": True}
        console.print(_body(sample, colour), **wrap)


def _special_ids(tokenizer: Any) -> frozenset[int]:
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids) | {token for token, one in added if one.special}


def _decode(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _legend(colour: bool) -> Text:
    if not colour:
        return Text("⟦trained on⟧, ⟦− pushed away from −⟧; ⏎ is a line break of the sample")
    return Text.assemble(
        ("trained on", _LOSS),
        ", ",
        ("pushed away from", _NEGATIVE),
        ", ",
        ("prompt", _PROMPT),
        ", ",
        ("special token", _SPECIAL),
        ", ",
        "⏎ line break of the sample",
    )


def _header(sample: Mapping[str, Any]) -> Text:
    pieces: Sequence[Piece] = sample["pieces"]
    trained = sum(supervised for _, _, supervised, _ in pieces)
    line = Text("── ")
    line.append(visible(sample["task"]), Style(bold=True))
    line.append(f"  phase {sample['phase']}, {len(pieces):,} tokens, {trained:,} supervised")
    if sample["sign"] < 0:
        line.append(", ")
        line.append("NEGATIVE", _NEGATIVE)
    line.append(f"  {visible(sample['row_id'])}", Style(dim=True))
    return line


def _body(sample: Mapping[str, Any], colour: bool) -> Text:
    is_negative = sample["sign"] < 0
    marks = ("⟦− ", " −⟧") if is_negative else ("⟦", "⟧")
    body = Text()
    for supervised, run in groupby(sample["pieces"], key=lambda piece: piece[2]):
        style = (_NEGATIVE if is_negative else _LOSS) if supervised else _PROMPT
        body.append(marks[0] if supervised and not colour else "")
        for is_special, tokens in groupby(run, key=lambda piece: piece[3]):
            text = visible("".join(piece[0] for piece in tokens))
            body.append(
                text.replace("\n", _LINE_BREAK), _special_style(style) if is_special else style
            )
        body.append(marks[1] if supervised and not colour else "")
    return body


def _special_style(style: Style) -> Style:
    """A special token that is trained on keeps the colour of what is."""
    return _SPECIAL if style is _PROMPT else style + Style(reverse=True)
