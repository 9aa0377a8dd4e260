"""Tokens, keys and passwords kept out of everything that is written or printed.

None belongs into a setting: Hugging Face and Weights & Biases read theirs from the environment or their
own files. Where one got into a setting, an override, an address or an error message all the same, it is
written as :data:`MASK`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

MASK = "***"

# What tokens of services look like; nothing else does. Not inside a longer word.
_TOKENS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{20,}|api_org_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|wandb_v\d_[A-Za-z0-9_]{20,}"
    r"|sk-[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|A(?:KI|SI)A[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}"  # AWS, Google
    r"|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"  # JSON web token
    r")"
)
# 40 hexadecimal digits are a key of Weights & Biases, or a commit: owner/name@commit, snapshots/commit.
_HEX_KEY = re.compile(r"(?<![\w@/.:-])[0-9a-f]{40}(?![\w@/.:-])")
_PEM = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
)
_USER_OF_URL = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_QUERY = re.compile(
    r"(?<=[?&])((?:[\w-]*[_-])?(?:token|key|secret|password|signature|sig|credential)=)[^&\s'\"#]+",
    re.I,
)
_BEARER = re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{16,}")
# ``key=value`` and ``key: value`` in a command line or a message
_ASSIGNED = re.compile(
    r"(?P<key>[\w.@-]+)(?P<sign>\s*[=:]\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,;{}\[\]()'\"]+)"
)

# A key that ends in one of these holds a secret, if its value can be one ...
_LAST = frozenset({"token", "key", "pat", "auth", "credential", "credentials"})
# ... and one that has one of these does, whatever its value is.
_ANYWHERE = frozenset({"password", "passwd", "passphrase", "secret", "secrets", "apikey"})
# Keys of a tokenizer's own tokens, and of data.
_HARMLESS = frozenset(
    {
        "pad",
        "eos",
        "bos",
        "unk",
        "sep",
        "cls",
        "mask",
        "image",
        "audio",
        "video",
        "special",
        "start",
    }
    | {
        "end",
        "prompt",
        "sort",
        "row",
        "primary",
        "foreign",
        "group",
        "partition",
        "request",
        "public",
    }
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CAN_BE_SECRET = re.compile(r"[\w./+=:~-]{8,}")
_LEAST = 8  # characters of a variable's value that is masked wherever it turns up


def is_secret(key: str, value: str) -> bool:
    """Whether the name of a setting or variable says that its value is a secret.

    Args:
        key: dotted or not; only its last part counts.
    """
    words = [word.lower() for word in _WORDS.findall(key.rpartition(".")[2])]
    if not value or value == MASK or not words:
        return False
    if not _ANYWHERE.isdisjoint(words):
        return True
    named = words[-1] in _LAST and _HARMLESS.isdisjoint(words)
    return named and _CAN_BE_SECRET.fullmatch(value) is not None and not value.isdigit()


def masked(value: Any, key: str = "") -> Any:
    """Plain values, in lists and dicts of any depth, without secrets; dicts keep their keys."""
    if isinstance(value, dict):
        return {name: masked(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    if not isinstance(value, str):
        return value
    return MASK if is_secret(key, value) else masked_text(value)


def masked_text(text: str) -> str:
    """A message, a path or a command line without what looks like a secret."""
    for secret in _of_environment(_environment_key()):
        text = text.replace(secret, MASK)
    text = _PEM.sub(MASK, _TOKENS.sub(MASK, text))
    text = _USER_OF_URL.sub(MASK, _HEX_KEY.sub(MASK, text))
    text = _BEARER.sub(rf"\g<1>{MASK}", _QUERY.sub(rf"\g<1>{MASK}", text))
    return _ASSIGNED.sub(_masked_assignment, text)


def masked_arguments(arguments: list[str]) -> list[str]:
    """A command line without secrets; what follows ``--token`` is one too."""
    result: list[str] = []
    for argument in arguments:
        before = result[-1] if result else ""
        follows = before.startswith("--") and is_secret(before.lstrip("-"), argument)
        result.append(MASK if follows else masked_text(argument))
    return result


def _masked_assignment(match: re.Match[str]) -> str:
    key, sign, value = match["key"], match["sign"], match["value"]
    bare = value.strip("'\"")
    is_path = ":" in sign and value.startswith("/")  # file:line, drive:path, scheme://
    if is_path or not is_secret(key.replace("@", "."), bare):
        return match[0]
    # prose: "the secret: it ..." names no value
    if sign.strip() == ":" and _CAN_BE_SECRET.fullmatch(bare) is None:
        return match[0]
    return f"{key}{sign}{MASK}"


def _environment_key() -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value) for name, value in os.environ.items() if _is_kept_secret(name, value)
    )


#: Every text that is shown asks this of every variable: seconds of a start without the cache.
_is_kept_secret = lru_cache(maxsize=1024)(is_secret)


@cache
def _of_environment(variables: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """Values of variables whose names say that they are secrets, longest first."""
    values: Mapping[str, None] = dict.fromkeys(
        value for _, value in variables if len(value) >= _LEAST and not value.startswith("/")
    )
    return tuple(sorted(values, key=len, reverse=True))
