from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from et_core.interfaces import Batch, Loss, Model, Objective, Step, Term
from torch import Tensor, nn
from torch.nn import functional


class RDrop(Objective):
    """A batch goes through the model twice, with other dropout each time, and both answers have to agree.

    The app's loss is the mean over both; *alpha* weighs how far apart they are, as the Kullback-Leibler divergence in
    both directions (Wu et al. 2021, equations 1 to 4).
    """

    def __init__(self, *, model: Model, losses: Mapping[str, Loss], alpha: float = 1.0, **rest: Any) -> None:
        super().__init__()
        self.model = model
        self.losses = nn.ModuleDict(losses)
        self._alpha = alpha

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        loss: Any = self.losses[batch.task]
        return {batch.task: loss.count(batch.targets), "agreement": torch.tensor(float(len(batch)))}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        first, second = self.model(batch), self.model(batch)
        loss = self.losses[batch.task]
        (one, count), (other, _) = loss(first, batch.targets), loss(second, batch.targets)
        p, q = (outputs["logits"].float().log_softmax(-1) for outputs in (first, second))
        apart = (_divergence(p, q) + _divergence(q, p)) / 2
        rows = torch.tensor(float(len(batch)))
        return {batch.task: Term((one + other) / 2, count), "agreement": Term(apart, rows, self._alpha)}

    def result(self) -> Model:
        return self.model


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """The sum over rows of the Kullback-Leibler divergence of *q* from *p*, both logarithms of probabilities."""
    return functional.kl_div(q, p, reduction="sum", log_target=True)
