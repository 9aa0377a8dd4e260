"""What an answer looks like it is doing: code, a list, a question back, JSON, a refusal."""

from __future__ import annotations

import json
import re

from data_modules.cleaning.code_signs import code_lines
from data_modules.config import Behaviour

#: A list marker at the start of a line; group 1 is a number, group 2 a circled one, group 3 a bullet.
LIST_MARKER = (
    r"(?:[(（]?(\d{1,2})(?:[)）]|[.．](?=[ \t]|[\u4e00-\u9fffA-Z\"“*])|、)[ \t]*"
    r"|([①-⑳])[ \t]*|([-*+•·‣●▪][ \t]+|[•●▪‣][ \t]*))(?=\S)"
)
_LIST_LINE = re.compile(rf"[ \t]*{LIST_MARKER}")

_DEFINITION = re.compile(
    r"(?:async )?def \w+ *\(.*:|class \w+.*:$|#include *[<\"]|from [\w.]+ import \w"
    r"|print *\(.*\)$|SELECT .+ FROM ",
    re.M,
)

_EN_CANNOT = (
    r"(?: can(?:['’]?t|not| not)| could(?:n['’]?t| not)| won['’]?t| will not"
    r"|(?: am|['’]m) (?:not able|unable) to"
    r"| do(?:n['’]t| not) (?:have the ability|feel comfortable)(?: to)?)"
)
# Verbs of ordinary life ("I can't access my account") count only with what models decline.
_EN_HELP = (
    r" (?:help (?:you )?(?:with|create|write)|assist|provide|fulfil|comply|generate|respond to"
    r"|(?:answer|complete|support|process|translate|participate in) (?:that|this|your|such)"
    r"|give (?:you )?(?:any )?(?:medical|legal|financial|advice|information)|do (?:that|this) for you"
    r"|(?:access|browse|create|write|offer|discuss|engage in|engage with) (?:the internet|real-time"
    r"|external|content|that|this|these|such|any|images|explicit|harmful|medical|legal|financial))"
)
_EN_SORRY = (
    r"(?:unfortunately|apologies|i apologi[sz]e|(?:i['’]?m|i am)(?: very| so| really)? sorry|sorry)\b"
    r"[^.!?\n]{0,25}[,.!]? ?"
)
_EN_AI = (
    r"as an? (?:ai|artificial intelligence|(?:large )?language model)(?: language)?"
    r"(?: model| assistant| chatbot)?\b,?"
)
_ZH_SORRY = r"(?:非常|很|十分|实在)?(?:抱歉|对不起|遗憾)[，,。!！ ]*(?:但|但是)?"
_ZH_CANNOT = (
    r"(?:暂时|目前|现在)?(?:无法|不能|没法|没办法|不便|不可以|不会)"
    r"(?:为您|为你|帮您|帮你|向您|向你|给您|给你|直接)?"
)
_ZH_HELP = (
    "(?:提供|协助|满足|生成|回应|帮助[您你]|(?:讨论|参与)[这该此]|(?:回答|执行|处理|完成)[这该您你此]"
    "|访问(?:互联网|外部|实时|网络|链接))"
)
_OPENS_DECLINING = re.compile(
    rf"\W*(?:(?:{_EN_SORRY})?(?:(?:but|however),? )?i{_EN_CANNOT}{_EN_HELP}"
    r"|(?:i['’]m|i am) just an ai\b"
    rf"|(?:(?:{_ZH_SORRY})我?|我们?){_ZH_CANNOT}{_ZH_HELP})"
)
_MODEL_DECLINES = re.compile(
    rf"(?:^|[.!?,\n] ?)(?:i['’]?m sorry,? (?:but )?)?{_EN_AI} (?:i|my|there|it)\b[^.!?\n]{{0,60}}?"
    r"(?:can['’]?t|cannot|unable|not able|do(?:n['’]t| not)|am not)\b"
    r"|(?:^|[。，！\n])(?:作为|我是|身为)(?:一个|一名|一款)?(?:ai|人工智能|大型?语言|语言模型)"
    r"[^。！？\n]{0,25}?(?:无法|不能|没有|不会|不具备|不可以|没办法)"
)
#: One of these is in whatever ``_MODEL_DECLINES`` finds.
_MODEL_WORDS = ("an ai", "artificial", "language model", "人工智能", "语言", "作为", "我是", "身为")
#: Refusals open an answer; later in it, the same words are about something else.
_REFUSAL_HEAD = 240
_CLOSERS = " \n\"”’'）)]》」*_~"


def is_refusal(text: str) -> bool:
    """Whether a text declines, in English or Chinese, in its first sentences."""
    head = text[:_REFUSAL_HEAD].lower()
    if _OPENS_DECLINING.match(head):
        return True
    return any(word in head for word in _MODEL_WORDS) and bool(_MODEL_DECLINES.search(head))


def is_json(text: str) -> bool:
    """Whether all of a text is a JSON object or a JSON array of something."""
    text = text.strip()
    if text[:1] not in ("{", "[") or text[-1:] not in ("}", "]"):
        return False
    try:
        return bool(json.loads(text))
    except (ValueError, RecursionError):
        return False


def behaviours_of(text: str) -> set[Behaviour]:
    """What an answer shows.

    - ``code``: a fence, two lines or more that open like statements, or a single definition;
    - ``list``: two lines or more that open with a list marker;
    - ``question``: it ends with a question mark;
    - ``json``: all of it, but for a fence around it, is a JSON object or array;
    - ``refusal``: see :func:`is_refusal`.
    """
    found: set[Behaviour] = set()
    text = text.strip()
    fenced = "```" in text
    body = text
    lines = text.split("\n")
    if fenced and text.startswith("```") and text.endswith("```"):
        body = text[:-3].partition("\n")[2]
    if is_json(body):
        found.add(Behaviour.json)
    elif fenced or _DEFINITION.match(text) or code_lines(lines) >= 2:
        found.add(Behaviour.code)
    if len(lines) > 1 and sum(map(bool, map(_LIST_LINE.match, lines))) >= 2:
        found.add(Behaviour.list)
    if text.rstrip(_CLOSERS).endswith(("?", "？")):
        found.add(Behaviour.question)
    if is_refusal(text):
        found.add(Behaviour.refusal)
    return found
