from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from et_core.interfaces import Features, Head


class PooledLinear(Head):
    """Dropout and a linear layer on the pooled state, for backbones without a head of their own."""

    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})

    def __init__(self, *, hidden_size: int, num_outputs: int, dropout: float | None = None, **spec: Any) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1 if dropout is None else dropout)
        self.linear = nn.Linear(hidden_size, num_outputs)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        """``{"logits": [B, C]}``, in fp32: bf16 knows only 128 numbers between 2 and 4, and regression needs more."""
        with torch.autocast(features.pooled.device.type, enabled=False):
            return {"logits": self.linear(self.dropout(features.pooled.float()))}
