"""Classifiers on the layers of a teacher, which stays as it is: fitted on all shown rows at once, from zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from et_adabert.distillers.divergences import Answer

_STEPS = 200
_CONSTANT = 1e-6
"""The standard deviation below which a feature is taken to be constant."""


def fit_probe(states: Tensor, labels: Tensor, answer: Answer, num_outputs: int, l2: float) -> tuple[Tensor, Tensor]:
    """Weights [C, H] and biases [C] in fp32, such that states [n, H] @ weights^T + biases predict *labels*.

    They minimise the mean over rows of the cross-entropy (of the mean over labels of it, or of half the squared error)
    plus l2 / 2 times the squared weights of standardised states. That is convex, so the same rows give the same probe.
    """
    states, mean = states.double(), states.double().mean(0)
    spread = states.std(0, correction=0)
    spread = torch.where(spread > _CONSTANT, spread, 1.0)
    scaled = (states - mean) / spread
    if answer == "regression":
        weights, biases = _ridge(scaled, labels.double(), l2)
    else:
        weights, biases = _descend(scaled, _loss(labels, answer), num_outputs, l2)
    weights = weights / spread
    return weights.float(), (biases - weights @ mean).float()


def _ridge(states: Tensor, labels: Tensor, l2: float) -> tuple[Tensor, Tensor]:
    """The minimum in one step, as states have a mean of 0."""
    rows, width = states.shape
    mean = labels.mean()
    normal = states.mT @ states / rows + l2 * torch.eye(width, dtype=states.dtype)
    weights = torch.linalg.solve(normal, states.mT @ (labels - mean) / rows)
    return weights.unsqueeze(0), mean.unsqueeze(0)


def _loss(labels: Tensor, answer: Answer) -> Callable[[Tensor], Tensor]:
    if answer == "single-label":
        return lambda logits: functional.cross_entropy(logits, labels)
    wanted = labels.double()
    return lambda logits: functional.binary_cross_entropy_with_logits(logits, wanted)


def _descend(states: Tensor, loss: Callable[[Tensor], Tensor], num_outputs: int, l2: float) -> tuple[Tensor, Tensor]:
    weights = torch.zeros(num_outputs, states.shape[1], dtype=states.dtype, requires_grad=True)
    biases = torch.zeros(num_outputs, dtype=states.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, biases], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            total = loss(states @ weights.mT + biases) + l2 / 2 * weights.square().sum()
            total.backward()  # type: ignore[no-untyped-call]
        return total.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach(), biases.detach()
