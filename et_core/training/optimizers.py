from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from et_core.interfaces import OptimizerFactory

Decay = Annotated[float, Field(ge=0, lt=1)]
"""How much of a running mean stays at each step."""


class AdamW(OptimizerFactory):
    """Loshchilov & Hutter 2019, with torch's fused kernel."""

    def __init__(self, *, betas: tuple[Decay, Decay] = (0.9, 0.999), eps: Annotated[float, Field(gt=0)] = 1e-8) -> None:
        self._betas = betas
        self._eps = eps

    def build(self, groups: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, betas=self._betas, eps=self._eps, fused=True)


class Sgd(OptimizerFactory):
    def __init__(self, *, momentum: Decay = 0.9) -> None:
        self._momentum = momentum

    def build(self, groups: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=lr, weight_decay=weight_decay, momentum=self._momentum)
