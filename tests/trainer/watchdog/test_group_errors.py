"""Errors of collectives, as gloo, NCCL and DeepSpeed's hooks raise them, are told from others."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from trainer.watchdog.group_errors import is_group_error, is_timeout

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] "
CLOSED = RuntimeError(GLOO + "Connection closed by peer [127.0.0.1]:31337")
LATE = RuntimeError(GLOO + "Timed out waiting 1800000ms for recv operation to complete")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "group", "late"),
    [
        (CLOSED, True, False),
        (LATE, True, True),
        (dist.DistBackendError("NCCL error: remote process exited"), True, False),
        (dist.DistNetworkError("The client socket has timed out after 60000ms"), True, True),
        (caused(ValueError("no batch"), CLOSED), True, False),
        (ConnectionResetError("Connection reset by peer"), True, False),
        (RuntimeError("shape '[2, 3]' is invalid for input of size 4"), False, False),
        (TimeoutError("the data server timed out"), False, False),
        (ValueError("gloo is a word here"), False, False),
    ],
)
def test_which_is_which(error: Exception, group: bool, late: bool) -> None:
    assert is_group_error(error) is group
    assert is_timeout(error) is late


def test_a_circle_of_causes_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_group_error(first)
