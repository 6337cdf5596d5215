from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from et_hcnn.backbone import MatchingBackbone, PairEncoder, SideBySide, Size
from et_hcnn.bicnn import BiCnnNetwork
from et_hcnn.layers import Words, relu_layer


class Dam(MatchingBackbone):
    """Decomposable attention: each word is compared with what it attends to in the other text (Parikh et al. 2016)."""

    model_type: ClassVar[str] = "dam"
    defaults: ClassVar[Mapping[str, Any]] = {**MatchingBackbone.defaults, "attention_size": 200}

    @dataclass
    class Options(MatchingBackbone.Options):
        """*attention_size* is the width of the projected words and of the networks that attend and compare."""

        attention_size: Size | None = None

    @classmethod
    def make_encoder(cls, sizes: Any) -> nn.Module:
        network = DamNetwork(sizes.embedding_size, size=sizes.attention_size, dropout=sizes.dropout)
        return PairEncoder(network, network.size, hidden_size=sizes.hidden_size, dropout=sizes.dropout)


class DamPlus(Dam):
    """Decomposable attention and a bicnn of half its size, whose hidden layers stand side by side in *pooled*."""

    model_type: ClassVar[str] = "damplus"

    @classmethod
    def make_encoder(cls, sizes: Any) -> nn.Module:
        half = max(1, sizes.hidden_size // 2)
        network = BiCnnNetwork(sizes.embedding_size, filters=half)
        branch = PairEncoder(network, network.size, hidden_size=half, dropout=sizes.dropout)
        return SideBySide(super().make_encoder(sizes), branch)


class DamNetwork(nn.Module):
    """Attend, compare and aggregate, equations 1 to 5; [v1; v2], the sums of what was compared in each text."""

    def __init__(self, embedding_size: int, *, size: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(embedding_size, size, bias=False)
        self.attend = _two_layers(size, size, dropout)
        self.compare = _two_layers(2 * size, size, dropout)
        self.size = 2 * size

    def forward(self, first: Words, second: Words) -> Tensor:
        left, right = first.through(self.project), second.through(self.project)
        scores = self.attend(left) @ self.attend(right).transpose(1, 2)
        to_right = _softmax(scores, second.mask.unsqueeze(1), 2) @ right
        to_left = _softmax(scores, first.mask.unsqueeze(2), 1).transpose(1, 2) @ left
        return torch.cat((self._sum(left, to_right, first.mask), self._sum(right, to_left, second.mask)), -1)

    def _sum(self, words: Tensor, aligned: Tensor, mask: Tensor) -> Tensor:
        compared = self.compare(torch.cat((words, aligned), -1))
        return compared.masked_fill(~mask.unsqueeze(-1), 0).sum(1)


def _two_layers(inputs: int, size: int, dropout: float) -> nn.Sequential:
    first, second = relu_layer(inputs, size), relu_layer(size, size)
    return nn.Sequential(nn.Dropout(dropout), first, nn.ReLU(), nn.Dropout(dropout), second, nn.ReLU())


def _softmax(scores: Tensor, mask: Tensor, axis: int) -> Tensor:
    # The smallest number instead of minus infinity: a text without a word would give nan.
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(axis)
