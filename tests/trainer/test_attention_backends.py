"""Which kernel computes attention, and what the libraries' kernels are handed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.attention.varlen

from trainer.attention import Segments, backends, segment_attention

LENGTHS = (5, 1, 9, 3)
TOKENS, HEADS, KV_HEADS, WIDTH = sum(LENGTHS), 4, 2, 8
CUDA = torch.device("cuda", 0)


def heads(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """Query, key and value as a model makes them: views of [1, T, heads, d]."""
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(1, TOKENS, count, WIDTH, generator=generator).to(dtype).transpose(1, 2)
        for count in (HEADS, KV_HEADS, KV_HEADS)
    )


def segments() -> Segments:
    return Segments.of(torch.tensor([0, *LENGTHS]).cumsum(0).int())


def by_definition(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bounds: torch.Tensor, scale: float
) -> torch.Tensor:
    """Causal attention of every segment, in doubles: [T, heads, d] each."""
    groups = q.shape[1] // k.shape[1]
    k, v = (one.repeat_interleave(groups, 1) for one in (k, v))
    out = torch.empty_like(q, dtype=torch.float64)
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        part = slice(start, end)
        one, other, values = (x[part].double().transpose(0, 1) for x in (q, k, v))
        scores = scale * one @ other.transpose(1, 2)
        future = torch.ones(end - start, end - start).triu(1).bool()
        out[part] = (scores.masked_fill(future, -torch.inf).softmax(-1) @ values).transpose(0, 1)
    return out


def expected(scale: float) -> torch.Tensor:
    """[1, T, heads, d]"""
    tokens = (one[0].transpose(0, 1) for one in heads())
    return by_definition(*tokens, segments().bounds, scale)[None]  # type: ignore[misc]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A flash-attn whose kernel is the definition; it keeps the settings of the last call."""
    seen: dict[str, Any] = {}

    def flash_attn_varlen_func(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **settings: Any
    ) -> torch.Tensor:
        seen.update(settings)
        out = by_definition(q, k, v, settings["cu_seqlens_q"], settings["softmax_scale"])
        return out.to(q.dtype)

    module = SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func)
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    return seen


@pytest.mark.parametrize("deterministic", [False, True])
def test_flash_is_handed_tokens_bounds_and_lengths(
    library: dict[str, Any], deterministic: bool
) -> None:
    cut = segments()
    torch.use_deterministic_algorithms(deterministic)
    try:
        got = backends.flash(*heads(), cut, 0.25, 0.3)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(got.double(), expected(0.3), rtol=1e-5, atol=1e-6)
    assert library.pop("cu_seqlens_q") is library.pop("cu_seqlens_k") is cut.bounds
    assert library == {
        "max_seqlen_q": 9,
        "max_seqlen_k": 9,
        "dropout_p": 0.25,
        "softmax_scale": 0.3,
        "causal": True,
        "deterministic": deterministic,
    }
    assert type(library["max_seqlen_q"]) is int, "a tensor would be waited for"


def test_varlen_is_handed_tokens_bounds_and_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def kernel(*given: Any, **_: Any) -> tuple[torch.Tensor, ...]:
        """Stands for the operator below the library's own checks of its arguments."""
        q, k, v, bounds_q, bounds_k, most_q, most_k, causal, scale, _, shares = given[:11]
        seen.update(bounds=(bounds_q, bounds_k), most=(most_q, most_k), causal=causal)
        seen.update(shares=shares)
        return by_definition(q, k, v, bounds_q, scale).to(q.dtype), q, q

    monkeypatch.setattr(
        torch.nn.attention.varlen,
        "torch",
        SimpleNamespace(ops=SimpleNamespace(torch_attn=SimpleNamespace(_varlen_attn=kernel))),
    )
    cut = segments()
    got = backends.varlen(*heads(), cut, 0.0, 0.3)
    torch.testing.assert_close(got.double(), expected(0.3), rtol=1e-5, atol=1e-6)
    assert seen == {
        "bounds": (cut.bounds, cut.bounds),
        "most": (9, 9),
        "causal": True,
        "shares": True,
    }
    assert all(type(one) is int for one in seen["most"])


def test_by_segment_equals_the_definition() -> None:
    got = backends.by_segment(*heads(), segments(), 0.0, 0.3)
    torch.testing.assert_close(got.double(), expected(0.3), rtol=1e-5, atol=1e-6)
    assert got.is_contiguous()


def test_no_layer_asks_for_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = segments()

    def refuse(*_: Any) -> Any:
        raise AssertionError("on a GPU the host would wait for this")

    for name in ("tolist", "item", "__int__", "__index__", "__bool__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    segment_attention(torch.nn.Identity(), *heads(), None, scaling=0.3, segments=cut)


def test_bounds_and_lengths_are_the_same_samples() -> None:
    cut = segments()
    assert cut.lengths == LENGTHS
    assert cut.longest == 9
    assert cut.bounds.tolist() == [0, 5, 6, 15, 18]
    assert cut.bounds.dtype == torch.int32


BF16, FP32 = torch.bfloat16, torch.float32
#: device, dtype, width, dropout, flash-attn is there, compute capability, who computes it
CHOICES = [
    ("cuda", BF16, 64, 0.0, True, (9, 0), backends.flash),
    ("cuda", BF16, 64, 0.1, True, (8, 0), backends.flash),
    ("cuda", torch.float16, 256, 0.0, True, (8, 6), backends.flash),
    ("cuda", BF16, 64, 0.0, False, (9, 0), backends.varlen),
    ("cuda", BF16, 64, 0.1, False, (9, 0), backends.by_segment),
    ("cuda", BF16, 60, 0.0, False, (9, 0), backends.by_segment),
    ("cuda", BF16, 60, 0.0, True, (9, 0), backends.flash),
    ("cuda", BF16, 320, 0.0, True, (9, 0), backends.by_segment),
    ("cuda", BF16, 64, 0.0, True, (7, 5), backends.by_segment),
    ("cuda", FP32, 64, 0.0, True, (9, 0), backends.by_segment),
    ("cpu", BF16, 64, 0.0, True, (9, 0), backends.by_segment),
    ("meta", BF16, 64, 0.0, True, (9, 0), backends.by_segment),
]


@pytest.mark.parametrize(
    ("device", "dtype", "width", "dropout", "installed", "capability", "who"), CHOICES
)
def test_the_fastest_kernel_that_can_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    dtype: torch.dtype,
    width: int,
    dropout: float,
    installed: bool,
    capability: tuple[int, int],
    who: Any,
) -> None:
    monkeypatch.setattr(backends, "flash_is_installed", lambda: installed)
    monkeypatch.setattr(backends, "_capability", lambda _: capability)
    assert backends.for_packed(torch.device(device), dtype, width, dropout) is who


def test_rows_that_are_not_packed_are_one_call() -> None:
    assert backends.choose(heads()[0], None, 0.0) is backends.by_segment


def test_an_installed_flash_attn_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    try:
        (tmp_path / "flash_attn.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
        backends.flash_is_installed.cache_clear()
        assert backends.flash_is_installed()
    finally:
        backends.flash_is_installed.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["flash", "varlen", "by_segment"])
def test_a_gpus_kernel_is_as_exact_as_bf16(name: str) -> None:
    if name == "flash" and not backends.flash_is_installed():
        pytest.skip("needs flash-attn")
    cut = Segments.of(torch.tensor([0, *LENGTHS]).cumsum(0).int(), CUDA)
    on_gpu = [one.to(CUDA, BF16).detach().requires_grad_() for one in heads()]
    got = getattr(backends, name)(*on_gpu, cut, 0.0, 0.3)
    exact = [one.detach().double().requires_grad_() for one in on_gpu]
    wanted = by_definition(*(one[0].transpose(0, 1) for one in exact), cut.bounds, 0.3)[None]  # type: ignore[misc]
    pull = torch.randn(wanted.shape, device=CUDA, generator=torch.Generator(CUDA).manual_seed(1))
    gradients = torch.autograd.grad(got, on_gpu, pull.to(BF16))
    reference = torch.autograd.grad(wanted, exact, pull.to(BF16).double())
    for one, other in ((got, wanted), *zip(gradients, reference, strict=True)):
        assert float((one.double() - other).norm() / other.norm()) < 0.01
