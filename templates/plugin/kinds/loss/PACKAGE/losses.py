from __future__ import annotations

from collections.abc import Mapping

import torch
from et_core.errors import ConfigError
from et_core.interfaces import Loss
from torch import Tensor
from torch.nn import functional

_LEFT_OUT = -100
"""The index that stands for "no label"."""


class FocalLoss(Loss):
    """Cross-entropy in which a row counts less the surer the model is of its label (Lin et al. 2017, equation 4).

    Takes logits [..., C] and label indices [...]. With a *gamma* of 0 it is plain cross-entropy.
    """

    def __init__(self, *, gamma: float = 2.0) -> None:
        super().__init__()
        if gamma < 0:
            raise ConfigError(f"the focal loss has gamma={gamma}. Give a number of at least 0.")
        self._gamma = gamma

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The sum over all rows that have a label, and their number: never a mean, so that any split adds up."""
        logits, labels = outputs["logits"].flatten(0, -2), targets["label"].flatten()
        # bf16 has too few digits for a logarithm near 0.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        log_probability = -functional.cross_entropy(logits, labels, ignore_index=_LEFT_OUT, reduction="none")
        # 1 - p, exact where p is nearly 1, and never 0, where a power below 1 has no gradient.
        doubt = (-torch.expm1(log_probability)).clamp(min=torch.finfo(logits.dtype).tiny)
        return -(doubt**self._gamma * log_probability).sum(), self.count(targets)

    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        """How many rows have a label."""
        return (targets["label"] != _LEFT_OUT).sum().float()
