from __future__ import annotations

from typing import Any

import torch

from et_core.interfaces import OptimizerFactory


class AdamW(OptimizerFactory):
    """Loshchilov & Hutter 2019, with torch's fused kernel: betas (0.9, 0.999), epsilon 1e-8."""

    def build(self, groups: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)


class Sgd(OptimizerFactory):
    def build(self, groups: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=lr, weight_decay=weight_decay, momentum=0.9)
