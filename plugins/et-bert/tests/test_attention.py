from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from et_bert.attention import attention

TINY = 1e-9
"""A rate so low that nothing falls: the products of training, with the results of evaluation."""


class Layer(nn.Module):
    is_causal = False


LAYER = Layer()


def states(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, key and value [B, heads, L, d]."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, 9, 8, generator=generator).to(dtype) for _ in range(3)]


@pytest.mark.parametrize("rate", [0.0, TINY])
def test_a_causal_layer_stays_causal(rate: float) -> None:
    layer = Layer()
    layer.is_causal = True
    found, _ = attention(layer, *states(), None, dropout=rate)
    expected, _ = sdpa_attention_forward(layer, *states(), None)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def boolean_mask() -> Tensor:
    mask = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    return mask[:, None, None, :].expand(3, 1, 9, 9)


def added_mask() -> Tensor:
    return torch.zeros(3, 1, 9, 9).masked_fill(~boolean_mask(), torch.finfo(torch.float32).min)


@pytest.mark.parametrize("rate", [0.0, TINY])
@pytest.mark.parametrize("mask", [None, boolean_mask(), added_mask()], ids=["no mask", "boolean", "added"])
@pytest.mark.parametrize("scaling", [None, 0.2])
def test_without_dropout_it_is_that_of_torch(rate: float, mask: Tensor | None, scaling: float | None) -> None:
    mine, theirs = ([state.requires_grad_() for state in states()] for _ in range(2))
    found, weights = attention(LAYER, *mine, mask, dropout=rate, scaling=scaling)
    expected, _ = sdpa_attention_forward(LAYER, *theirs, mask, dropout=0.0, scaling=scaling)
    assert weights is None
    assert found.shape == (3, 9, 4, 8)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    outer = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    found.backward(outer)
    expected.backward(outer)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_that_is_masked_whole_gives_finite_numbers_and_gradients(dtype: torch.dtype) -> None:
    query, key, value = (state.requires_grad_() for state in states(dtype))
    mask = boolean_mask().clone()
    mask[1] = False
    found, _ = attention(LAYER, query, key, value, mask, dropout=0.2)
    found.float().sum().backward()
    assert found.dtype == dtype
    for tensor in (found, query.grad, key.grad, value.grad):
        assert tensor is not None
        assert tensor.isfinite().all()


def test_dropout_takes_weights_away_and_keeps_their_mean() -> None:
    """Over values of one, the output is the sum of the weights, which is one without dropout."""
    query, key, value = states()
    torch.manual_seed(0)
    drawn = [attention(LAYER, query, key, torch.ones_like(value), None, dropout=0.25)[0] for _ in range(400)]
    assert drawn[0].std() > 0.05
    mean = torch.stack(drawn).mean()
    assert abs(float(mean) - 1) < 5 / math.sqrt(400 * 3 * 4 * 9)


def test_the_same_seed_drops_the_same_weights() -> None:
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(attention(LAYER, *states(), boolean_mask(), dropout=0.3)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_what_is_masked_has_no_weight_also_with_dropout() -> None:
    query, key, value = states()
    other = value.clone()
    other[1, :, 4:] = 1e6
    found = []
    for values in (value, other):
        torch.manual_seed(0)
        found.append(attention(LAYER, query, key, values, boolean_mask(), dropout=0.3)[0])
    assert torch.equal(*found)
