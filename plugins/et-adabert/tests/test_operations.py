"""Each operation against a NumPy version that goes token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from et_adabert.student.cell import CONVOLUTIONS
from et_adabert.student.operations import Convolution, TokenNorm, make_operation

HIDDEN, LENGTH = 4, 9


def by_hand(rectified: np.ndarray, kernel: np.ndarray, dilation: int) -> np.ndarray:
    """A convolution of [H, L] with kernel [H, H, W], with zeros around."""
    size, length = rectified.shape
    width = kernel.shape[-1]
    out = np.zeros((kernel.shape[0], length))
    for place in range(length):
        for tap in range(width):
            source = place + (tap - width // 2) * dilation
            if 0 <= source < length:
                for row in range(kernel.shape[0]):
                    for column in range(size):
                        out[row, place] += kernel[row, column, tap] * rectified[column, source]
    return out


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_rectifies_convolves_and_normalises(name: str) -> None:
    torch.manual_seed(0)
    operation = make_operation(name, HIDDEN).eval()
    assert isinstance(operation, Convolution)
    for tensor in (operation.norm.running_mean, operation.norm.running_var, operation.norm.weight, operation.norm.bias):
        tensor.data.uniform_(0.5, 2.0)
    states = torch.randn(1, HIDDEN, LENGTH)
    found = operation(states, states.relu(), None)[0].detach().numpy()
    convolved = by_hand(states[0].relu().numpy(), operation.conv.weight.detach().numpy(), CONVOLUTIONS[name][1])
    norm = operation.norm
    mean, var, weight, bias = (
        t.detach().numpy()[:, None] for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    np.testing.assert_allclose(found, (convolved - mean) / np.sqrt(var + 1e-5) * weight + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "reduce"), [("max3", np.max), ("avg3", lambda window: np.sum(window) / 3)])
def test_a_pool_looks_at_a_token_and_its_neighbours(name: str, reduce: object) -> None:
    states = torch.randn(2, HIDDEN, LENGTH, generator=torch.Generator().manual_seed(1))
    rectified = states.relu()
    found = make_operation(name, HIDDEN)(states, rectified, None).numpy()
    padded = np.pad(rectified.numpy(), ((0, 0), (0, 0), (1, 1)))
    for place in range(LENGTH):
        window = padded[:, :, place : place + 3]
        expected = np.apply_along_axis(reduce, -1, window)  # type: ignore[call-overload]
        np.testing.assert_allclose(found[:, :, place], expected, rtol=1e-6)


def test_skip_and_none_are_what_they_say() -> None:
    states = torch.randn(1, HIDDEN, LENGTH)
    assert torch.equal(make_operation("skip", HIDDEN)(states, states.relu(), None), states)
    assert not make_operation("none", HIDDEN)(states, states.relu(), None).any()


def test_padding_counts_in_no_statistic_of_training() -> None:
    torch.manual_seed(0)
    plain, padded = TokenNorm(HIDDEN), TokenNorm(HIDDEN)
    states = 3 * torch.randn(2, HIDDEN, LENGTH) + 1
    longer = torch.cat((states, 100 * torch.ones(2, HIDDEN, 4)), -1)
    mask = torch.ones(2, 1, LENGTH + 4)
    mask[..., LENGTH:] = 0
    found = padded(longer, mask)[..., :LENGTH]
    torch.testing.assert_close(found, plain(states), rtol=1e-4, atol=1e-4)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(padded, name), getattr(plain, name), rtol=1e-4, atol=1e-4)


def test_the_first_batches_are_normalised_as_torch_does_it() -> None:
    torch.manual_seed(0)
    states = torch.randn(3, HIDDEN, LENGTH)
    weight = torch.randn(3, HIDDEN, LENGTH)
    leaf, scale, shift = states.clone().requires_grad_(), torch.rand(HIDDEN), torch.rand(HIDDEN)
    scale.requires_grad_()
    expected = functional.batch_norm(leaf, None, None, scale, shift, training=True)
    (expected * weight).sum().backward()
    for mask in (None, torch.ones(3, 1, LENGTH)):
        own = states.clone().requires_grad_()
        norm = TokenNorm(HIDDEN)
        norm.weight.data, norm.bias.data = scale.detach().clone(), shift.clone()
        found = norm(own, mask)
        (found * weight).sum().backward()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own.grad, leaf.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.weight.grad, scale.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("batches", "most_scale", "most_shift"), [(20, 1.0, 0.0), (70, 2.0, 2.5), (5000, 3.0, 5.0)])
def test_later_batches_are_corrected_towards_the_running_statistics(
    batches: int, most_scale: float, most_shift: float
) -> None:
    """Batch renormalisation, written from the formula."""
    torch.manual_seed(0)
    norm = TokenNorm(HIDDEN)
    mean, var = np.array([0.0, 1.0, -9.0, 9.0]), np.array([1.0, 0.5, 0.02, 40.0])
    norm.running_mean.copy_(torch.tensor(mean))
    norm.running_var.copy_(torch.tensor(var))
    norm.batches.fill_(batches)
    states = torch.randn(5, HIDDEN, LENGTH)
    found = norm(states).detach().numpy()
    for unit in range(HIDDEN):
        own = states[:, unit].numpy()
        sigma_b, sigma = np.sqrt(own.var() + 1e-5), np.sqrt(var[unit] + 1e-5)
        r = min(max(sigma_b / sigma, 1 / most_scale), most_scale)
        d = min(max((own.mean() - mean[unit]) / sigma, -most_shift), most_shift)
        np.testing.assert_allclose(found[:, unit], (own - own.mean()) / sigma_b * r + d, rtol=1e-3, atol=1e-4)


def test_training_sees_what_evaluation_sees_once_statistics_are_known() -> None:
    torch.manual_seed(0)
    norm = TokenNorm(HIDDEN)
    norm.batches.fill_(5000)
    states = 1.5 * torch.randn(4, HIDDEN, LENGTH) + 0.7
    scale, summand = norm.affine()
    evaluated = states * scale[:, None] + summand[:, None]
    torch.testing.assert_close(norm(states), evaluated, rtol=1e-4, atol=1e-4)


def test_later_batches_weigh_more_in_the_running_statistics() -> None:
    torch.manual_seed(0)
    norm = TokenNorm(HIDDEN)
    batches = [3 * torch.randn(2, HIDDEN, LENGTH) + shift for shift in (0.0, 4.0, 8.0)]
    for batch in batches:
        norm(batch)
    weights = [n * (n + 1) * (n + 2) for n in (1, 2, 3)]
    means = np.stack([batch.mean((0, 2)).numpy() for batch in batches])
    variances = np.stack([batch.transpose(0, 1).flatten(1).var(1).numpy() for batch in batches])
    np.testing.assert_allclose(norm.running_mean, np.average(means, 0, weights), rtol=1e-4)
    np.testing.assert_allclose(norm.running_var, np.average(variances, 0, weights), rtol=1e-4)
