from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from et_core.interfaces import Loss
from et_core.registry import registry


class CosineCrossEntropy(Loss):
    """Cross-entropy of two labels, of which the second is as probable as ``sigmoid(scale * (cosine - center))``.

    *weights* [2] weigh rows by their label, *smoothing* spreads so much of each target evenly over both, as in
    cross-entropy.
    """

    def __init__(
        self,
        *,
        scale: float = 20.0,
        center: float = 0.7,
        weights: Sequence[float] | None = None,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self._scale = scale
        self._center = center
        self._loss: Loss = registry("losses").create("et-core/cross-entropy", weights=weights, smoothing=smoothing)

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        positive = self._scale * (outputs["cosine"].float() - self._center)
        total, count = self._loss({"logits": torch.stack([torch.zeros_like(positive), positive], -1)}, targets)
        return total, count

    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        return self._loss.count(targets)


class CosineMse(Loss):
    """Squared error of the cosine against the label, scaled so that *low* is 0 and *high* is 1."""

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self._low = low
        self._span = high - low

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        wanted = (targets["label"].float() - self._low) / self._span
        return (outputs["cosine"].float() - wanted).square().sum(), self.count(targets)

    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        return torch.tensor(float(len(targets["label"])))
