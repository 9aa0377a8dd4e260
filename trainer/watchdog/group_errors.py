"""Errors that a collective raises when a peer has vanished or is late."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch.distributed as dist

#: gloo raises a plain RuntimeError; DeepSpeed's hooks run inside autograd, which keeps only the text.
_GROUP = re.compile(
    r"gloo|nccl|process ?group|TCPStore|"
    r"connection (closed|reset|refused)|socket (closed|timeout)|broken pipe",
    re.IGNORECASE,
)
_LATE = re.compile(r"timed out|timeout", re.IGNORECASE)


def is_group_error(error: BaseException) -> bool:
    """Whether an error may come from another rank's end or silence."""
    return any(
        isinstance(one, dist.DistError)
        or (isinstance(one, (RuntimeError, OSError)) and _GROUP.search(str(one)) is not None)
        for one in _chain(error)
    )


def is_timeout(error: BaseException) -> bool:
    """Whether a collective has given up waiting, with its peers alive."""
    return is_group_error(error) and any(_LATE.search(str(one)) for one in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    seen = set[int]()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
