from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from et_core.data import IGNORED_LABEL
from et_core.interfaces import Loss


class CrossEntropy(Loss):
    """Softmax cross-entropy of logits [..., C] against label indices [...]; the index -100 is left out.

    *weights* [C] weigh rows by their label, and the mean is over the weights, as in torch. *smoothing* spreads so much
    of each target evenly over all labels (Szegedy et al. 2016, section 7).
    """

    def __init__(self, *, weights: Sequence[float] | None = None, smoothing: float = 0.0) -> None:
        super().__init__()
        self.weights: Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)
        self._smoothing = smoothing

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits, labels = outputs["logits"].float(), targets["label"]
        loss = functional.cross_entropy(
            logits.flatten(0, -2),
            labels.flatten(),
            weight=self.weights,
            ignore_index=IGNORED_LABEL,
            label_smoothing=self._smoothing,
            reduction="sum",
        )
        return loss, self.count(targets)

    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        labels = targets["label"]
        kept = labels[labels != IGNORED_LABEL]
        return torch.tensor(float(len(kept))) if self.weights is None else self.weights[kept].sum()


class BinaryCrossEntropy(Loss):
    """Sigmoid cross-entropy of logits [B, C] against 0 or 1 [B, C], averaged over labels that *weights* [C] weigh."""

    def __init__(self, *, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.weights: Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits, labels = outputs["logits"].float(), targets["label"].float()
        losses = functional.binary_cross_entropy_with_logits(logits, labels, weight=self.weights, reduction="none")
        return losses.mean(-1).sum(), self.count(targets)

    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        return torch.tensor(float(len(targets["label"])))


class Mse(Loss):
    """Squared error of logits [B, 1] against numbers [B]."""

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        errors = outputs["logits"].float().squeeze(-1) - targets["label"].float()
        return errors.square().sum(), self.count(targets)

    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        return torch.tensor(float(len(targets["label"])))
