from __future__ import annotations

from typing import Any, ClassVar

import torch
from et_core.errors import ComponentError
from et_core.interfaces import Features, Head
from torch import Tensor, nn


class AttentionPool(Head):
    """Weighs the tokens by how much each says (Yang et al. 2016, equations 5 to 7); a linear layer on their mean."""

    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def __init__(self, *, hidden_size: int, num_outputs: int, dropout: float | None = None, **spec: Any) -> None:
        """*spec* is what an app tells of its labels besides, which this head has no use for."""
        super().__init__()
        self.attention = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, 1))
        self.dropout = nn.Dropout(0.1 if dropout is None else dropout)
        self.linear = nn.Linear(hidden_size, num_outputs)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        """``{"logits": [B, C]}``, in fp32: bf16 knows only 128 numbers between 2 and 4."""
        tokens, mask = features.tokens, features.mask
        if tokens is None or mask is None:
            raise ComponentError("attention pooling reads tokens and their mask, and the model gives none.")
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            scores = self.attention(tokens).squeeze(-1).masked_fill(~mask, -torch.inf)
            pooled = (scores.softmax(-1).unsqueeze(-1) * tokens).sum(1)
            return {"logits": self.linear(self.dropout(pooled))}
