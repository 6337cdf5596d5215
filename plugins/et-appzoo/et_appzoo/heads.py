from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

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


class TwoTowers(Head):
    """Vectors of texts that were each encoded alone, of unit length, and the cosine of two.

    *pooling* makes one vector of a text: "mean" of its tokens, the "first" token, or the "pooled" state of the model
    family. *projection_dim* adds a linear layer to so many dimensions (the same for both texts). With *num_outputs* a
    pair gets as many logits, of [u; v; |u - v|] before u and v are scaled (Reimers & Gurevych 2019, section 3).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"towers", "tokens"})

    def __init__(
        self,
        *,
        hidden_size: int,
        pooling: str = "mean",
        projection_dim: int | None = None,
        num_outputs: int | None = None,
        **spec: Any,
    ) -> None:
        super().__init__()
        self._pool = {"mean": _mean, "first": _first, "pooled": _pooled}[pooling]
        if pooling == "pooled":
            self.needs = frozenset({"towers", "pooled"})
        self.projection = None if projection_dim is None else nn.Linear(hidden_size, projection_dim)
        width = hidden_size if projection_dim is None else projection_dim
        self.classifier = None if num_outputs is None else nn.Linear(3 * width, num_outputs)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        """``{"first": [B, H]}``, and for two texts ``"second"``, ``"cosine"`` [B] and ``"logits"`` [B, C]; in fp32."""
        towers: Any = features.extra["towers"]
        with torch.autocast(_device(towers[0]).type, enabled=False):
            vectors = [self._vector(tower) for tower in towers]
            units = [functional.normalize(vector, dim=-1) for vector in vectors]
            if len(units) == 1:
                return {"first": units[0]}
            first, second = units
            found = {"first": first, "second": second, "cosine": (first * second).sum(-1)}
            if self.classifier is not None:
                found["logits"] = self.classifier(torch.cat((*vectors, (vectors[0] - vectors[1]).abs()), -1))
            return found

    def _vector(self, tower: Features) -> Tensor:
        pooled = self._pool(tower)
        return pooled if self.projection is None else self.projection(pooled)


def _device(features: Features) -> torch.device:
    """Where *features* are."""
    some = features.tokens if features.pooled is None else features.pooled
    return some.device


def _mean(tower: Features) -> Tensor:
    mask = tower.mask.unsqueeze(-1)
    return (tower.tokens.float() * mask).sum(1) / mask.sum(1).clamp(min=1)


def _first(tower: Features) -> Tensor:
    return tower.tokens[:, 0].float()


def _pooled(tower: Features) -> Tensor:
    return tower.pooled.float()
