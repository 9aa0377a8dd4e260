"""Peak memory and speed of the chunked loss beside full logits, for one large vocabulary.

    python benchmarks/loss_memory.py --vocabulary 151936 --width 256 --tokens 512 2048

Each way runs in a process of its own, forward and backward, a few times. Memory is what was held at most
above the projection's weight and the hidden states, the gradients of both among it: on a GPU by PyTorch's
allocator, on a CPU by the kernel (``VmHWM``). Time is the processor's on a CPU: others on the machine
do not count. Prints a table, and one JSON line at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainer.loss import SupervisedHead, chunk_rows

WAYS = ("chunked", "full")
MIB = 2**20


def main() -> None:
    """Measure every way and number of tokens; or one, in a child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measure(given, given.tokens[0])))
        return
    found = [in_child(tokens, way) for tokens in given.tokens for way in WAYS]
    rows = chunk_rows(given.vocabulary, given.width)
    print(f"vocabulary {given.vocabulary}, width {given.width}, {rows} tokens a chunk")
    print(f"{'tokens':>7} {'way':>8} {'peak MiB':>9} {'tokens/s':>9}")
    for one in found:
        per_second = one["tokens"] / one["seconds"]
        print(f"{one['tokens']:>7} {one['way']:>8} {one['peak'] / MIB:>9.0f} {per_second:>9.0f}")
    print(json.dumps({**vars(given), "chunk_rows": rows, "found": found}))


def in_child(tokens: int, way: str) -> dict[str, Any]:
    """:func:`measure` in a process of its own, with this one's other arguments."""
    command = [sys.executable, str(Path(__file__)), *sys.argv[1:], "--way", way]
    command += ["--tokens", str(tokens)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(given: argparse.Namespace, tokens: int) -> dict[str, Any]:
    """Bytes and seconds of one way, in this process."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    settings: dict[str, Any] = {"dtype": getattr(torch, given.dtype), "device": device}
    run(given.way, *made(64, given.width, 16, settings))  # what libraries take on first use
    head, *rest = made(given.vocabulary, given.width, tokens, settings)
    before, seconds = peak(device), []
    for _ in range(given.repeats):
        head.zero_grad()
        rest[0].grad = None
        start = clock()
        loss = run(given.way, head, *rest)  # a number: a GPU has been waited for
        seconds.append(clock() - start)
    return {
        "way": given.way,
        "tokens": tokens,
        "loss": loss,
        "peak": peak(device) - before,
        "seconds": median(seconds),
    }


def made(vocabulary: int, width: int, tokens: int, settings: dict[str, Any]) -> tuple[Any, ...]:
    """A head, hidden states, labels and weights of the tokens."""
    head = nn.Linear(width, vocabulary, bias=False, **settings)
    SupervisedHead.adopt(head)
    hidden = torch.randn(tokens, width, **settings).requires_grad_()
    device = settings["device"]
    labels = torch.randint(vocabulary, (tokens,), device=device)
    return head, hidden, labels, torch.full((tokens,), 1 / tokens, device=device)


def run(
    way: str, head: Any, hidden: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> float:
    """Forward and backward; the loss."""
    if way == "chunked":
        loss = head(hidden, labels, weights, torch.zeros_like(labels), 1)[0]
    else:
        nll = F.cross_entropy(head(hidden).float(), labels, reduction="none")
        loss = (nll * weights).sum()
    loss.backward()
    return float(loss)


def peak(device: torch.device) -> int:
    """Most bytes so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(one for one in status.splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
