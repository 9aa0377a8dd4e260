"""Segment attention: a packed sample is computed as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from trainer import attention
from trainer.attention import Segments

LENGTHS = (5, 1, 9, 3)
VOCABULARY = 40
FAMILIES = ("qwen2", "llama", "qwen3")
# heads and key-value heads: grouped, one for all, one each
HEADS = ((4, 2), (4, 1), (4, 4))


def model(family: str, heads: tuple[int, int] = (4, 2), **extra: Any) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=8,
        **extra,
    )
    made = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention.NAME
    )
    return made.eval()


def samples(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCABULARY, (length,), generator=generator) for length in LENGTHS]


def segments(lengths: Sequence[int]) -> Segments:
    return Segments.of(torch.tensor([0, *lengths]).cumsum(0).int())


def packed(one: Any, parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Hidden states of every sample of one packed row."""
    sizes = [len(part) for part in parts]
    with torch.no_grad():
        hidden = one.base_model(
            input_ids=torch.cat(parts)[None],
            position_ids=torch.cat([torch.arange(size) for size in sizes])[None],
            segments=segments(sizes),
            use_cache=False,
        ).last_hidden_state[0]
    return list(hidden.split(sizes))


def alone(one: Any, part: torch.Tensor) -> torch.Tensor:
    """Hidden states by the library's own eager attention, masks and all."""
    one.set_attn_implementation("eager")
    with torch.no_grad():
        hidden: torch.Tensor = one.base_model(input_ids=part[None]).last_hidden_state[0]
    one.set_attn_implementation(attention.NAME)
    return hidden


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("heads", HEADS)
def test_packed_equals_alone(family: str, heads: tuple[int, int]) -> None:
    one, parts = model(family, heads), samples()
    for got, part in zip(packed(one, parts), parts, strict=True):
        assert float((got - alone(one, part)).abs().max()) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_neighbour_cannot_be_seen(family: str) -> None:
    one, parts = model(family), samples()
    before = packed(one, parts)
    parts[2] = (parts[2] + 1) % VOCABULARY
    after = packed(one, parts)
    for index in (0, 1, 3):
        assert torch.equal(after[index], before[index]), "bit by bit"
    assert not torch.allclose(after[2], before[2])


def test_it_is_causal() -> None:
    one, parts = model("qwen2"), samples()
    before = packed(one, parts)
    parts[2][-1] = (parts[2][-1] + 1) % VOCABULARY
    after = packed(one, parts)
    assert torch.equal(after[2][:-1], before[2][:-1])
    assert not torch.allclose(after[2][-1], before[2][-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_rows_equal_alone(family: str) -> None:
    # Right padding without any mask: a real position never looks to its right.
    one, parts = model(family), samples()
    ids = nn.utils.rnn.pad_sequence(parts, batch_first=True)
    with torch.no_grad():
        hidden = one.base_model(input_ids=ids, use_cache=False).last_hidden_state
    for got, part in zip(hidden, parts, strict=True):
        assert float((got[: len(part)] - alone(one, part)).abs().max()) < 1e-5


def test_gradients_stay_inside_the_sample() -> None:
    one, parts = model("qwen2"), samples()
    embedded = one.get_input_embeddings()(torch.cat(parts))[None].detach().requires_grad_()
    hidden = one.base_model(
        inputs_embeds=embedded,
        position_ids=torch.cat([torch.arange(length) for length in LENGTHS])[None],
        segments=segments(LENGTHS),
        use_cache=False,
    ).last_hidden_state
    hidden[0, 6:15].square().sum().backward()  # the third sample
    assert embedded.grad is not None
    reached = embedded.grad[0].abs().sum(-1) > 0
    assert reached.tolist() == [False] * 6 + [True] * 9 + [False] * 3


def test_the_scale_is_the_models_own() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 4, 8, generator=generator) for _ in range(3))
    got, none = attention.segment_attention(
        nn.Identity(), query, key, value, None, scaling=0.5, segments=segments([4])
    )
    scores = (0.5 * query @ key.transpose(2, 3)).masked_fill(
        torch.ones(4, 4).triu(1).bool(), float("-inf")
    )
    expected = (scores.softmax(-1) @ value).transpose(1, 2)
    assert none is None
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


#: qwen2 keeps its window in the module, mistral hands it over with every call.
WINDOWS = (
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 0}),
    ("mistral", {}),
)


@pytest.mark.parametrize(("kind", "more"), WINDOWS)
def test_rows_longer_than_a_sliding_window_are_refused(kind: str, more: dict[str, Any]) -> None:
    # Rather trained not at all than with another attention than the model's.
    one = model(kind, sliding_window=4, **more)
    assert max(len(row) for row in samples()) > 4
    with pytest.raises(ValueError, match="at most its 4 tokens"):
        packed(one, samples())
    (fault,) = attention.window_faults(one.config, 5)
    assert fault.where == "data.max_seq_len"
    assert list(attention.window_faults(one.config, 4)) == []


@pytest.mark.parametrize(("kind", "more"), WINDOWS)
def test_a_window_that_no_row_reaches_changes_nothing(kind: str, more: dict[str, Any]) -> None:
    longest = max(len(row) for row in samples())
    one = model(kind, sliding_window=longest, **more)
    torch.manual_seed(0)
    without = model(kind, sliding_window=None)
    without.load_state_dict(one.state_dict())
    torch.testing.assert_close(packed(one, samples()), packed(without, samples()), rtol=0, atol=0)


def test_a_model_that_does_not_use_its_window_has_none() -> None:
    one = model("qwen2", use_sliding_window=False, sliding_window=4)
    assert list(attention.window_faults(one.config, 4096)) == []
    assert list(attention.window_faults(model("llama").config, 4096)) == []


def test_generation_has_its_own_attention_and_training_gets_it_back() -> None:
    one = model("llama")
    with attention.generation_attention(one):
        assert one.config._attn_implementation == "sdpa"
    assert one.config._attn_implementation == attention.NAME
    with pytest.raises(KeyError), attention.generation_attention(one):
        raise KeyError("inside")
    assert one.config._attn_implementation == attention.NAME


def test_generation_continues_as_the_hidden_states_say() -> None:
    one, prompt = model("qwen2"), samples()[2][None]
    with attention.generation_attention(one), torch.no_grad():
        ids = one.generate(prompt, max_new_tokens=4, do_sample=False, pad_token_id=0)
    with torch.no_grad():
        logits = one(input_ids=ids, use_cache=False).logits[0]
    new = ids[0, len(prompt[0]) :]
    assert logits[len(prompt[0]) - 1 : -1].argmax(-1).tolist() == new.tolist()
