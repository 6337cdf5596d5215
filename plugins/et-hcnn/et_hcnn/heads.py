from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from et_core.interfaces import Features, Head


class LinearHead(Head):
    """A linear layer on the pooled state; *dropout* is a rate before it, for networks that have their own below."""

    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})

    def __init__(self, *, hidden_size: int, num_outputs: int, dropout: float | None = None, **spec: Any) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout or 0.0)
        self.linear = nn.Linear(hidden_size, num_outputs)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        """``{"logits": [B, C]}``, in fp32: bf16 knows only 128 numbers between 2 and 4, and regression needs more."""
        pooled: Any = features.pooled
        with torch.autocast(pooled.device.type, enabled=False):
            return {"logits": self.linear(self.dropout(pooled.float()))}
