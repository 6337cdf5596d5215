"""Dropout with cheap random numbers is dropout: the rate, the mean, the gradient, and the same seed the same mask."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from et_core.training.dropout import FastDropout, dropout, use_fast_dropout

COUNT = 200_000


def seeded(values: torch.Tensor, p: float, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return dropout(values, p)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_the_rate_is_the_one_asked_for_and_the_mean_is_kept(p: float) -> None:
    found = seeded(torch.ones(COUNT), p)
    deviation = math.sqrt(p * (1 - p) / COUNT)
    assert abs(float((found == 0).double().mean()) - p) < 5 * deviation
    assert abs(float(found.double().mean()) - 1) < 5 * deviation / (1 - p)
    torch.testing.assert_close(found[found != 0].unique(), torch.tensor([1 / (1 - p)]), rtol=1e-6, atol=0)


def test_neighbours_fall_independently() -> None:
    """Four of them come from one random word."""
    dropped = (seeded(torch.ones(COUNT), 0.5) == 0).double() - 0.5
    for distance in (1, 2, 3, 4):
        correlation = 4 * float((dropped[distance:] * dropped[:-distance]).mean())
        assert abs(correlation) < 5 / math.sqrt(COUNT)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 5)])
def test_any_shape_is_taken(shape: tuple[int, ...]) -> None:
    assert seeded(torch.ones(shape), 0.5).shape == shape


def test_the_gradient_is_the_mask_over_what_is_kept() -> None:
    values = torch.randn(64, 33, requires_grad=True)
    found = seeded(values, 0.3)
    outer = torch.randn(64, 33)
    found.backward(outer)
    mask = (found.detach() != 0).float()
    assert 0.6 < float(mask.mean()) < 0.8
    assert values.grad is not None
    torch.testing.assert_close(values.grad, outer * mask / 0.7, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.detach(), values.detach() * mask / 0.7, rtol=1e-6, atol=0)


def test_the_same_seed_gives_the_same_mask_and_another_seed_another() -> None:
    values = torch.ones(1000)
    assert torch.equal(seeded(values, 0.5), seeded(values, 0.5))
    assert not torch.equal(seeded(values, 0.5), seeded(values, 0.5, seed=1))
    torch.manual_seed(0)
    assert not torch.equal(dropout(values, 0.5), dropout(values, 0.5))


def test_nothing_falls_at_zero_and_no_number_is_drawn() -> None:
    values = torch.randn(100)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert dropout(values, 0.0) is values
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("p", [1.0, 0.999999])
def test_everything_falls_at_one_and_where_the_steps_of_p_round_to_it(p: float) -> None:
    values = torch.randn(1000, requires_grad=True)
    found = dropout(values, p)
    found.sum().backward()
    assert values.grad is not None
    assert not found.any()
    assert not values.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_of_the_values_is_kept(dtype: torch.dtype) -> None:
    values = torch.randn(1000, dtype=dtype, requires_grad=True)
    found = seeded(values, 0.1)
    found.sum().backward()
    assert values.grad is not None
    assert found.dtype == values.grad.dtype == dtype
    scale = torch.tensor(1 / 0.9, dtype=dtype)
    kept = found != 0
    assert torch.equal(found[kept], (values * scale)[kept])
    assert torch.equal(values.grad, scale * kept)


def test_the_module_drops_in_training_alone() -> None:
    module, values = FastDropout(0.5), torch.ones(1000)
    assert 300 < int((module(values) == 0).sum()) < 700
    assert module.eval()(values) is values


def test_every_plain_dropout_is_replaced_and_no_other() -> None:
    class Own(nn.Dropout):
        pass

    model = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3)), Own(0.2), nn.Dropout1d(0.4))
    use_fast_dropout(model)
    kinds = {(type(module), module.p) for module in model.modules() if hasattr(module, "p")}
    assert kinds == {(FastDropout, 0.1), (FastDropout, 0.3), (Own, 0.2), (nn.Dropout1d, 0.4)}
