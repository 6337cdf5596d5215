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
    """Decomposable attention: each word is compared with what it attends to in the other text.

    The network of EasyTransfer, after Parikh et al. 2016.
    """

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
    """Project, attend, compare and aggregate; for each text in turn the sum and the maximum of what was compared.

    As in EasyTransfer, but for one rate of *dropout* in place of its 0.1 before attending and 0.2 before comparing.
    Parikh et al. 2016 (equations 1 to 5) project without a relu, attend and compare with two layers, and only sum.
    """

    def __init__(self, embedding_size: int, *, size: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Sequential(relu_layer(embedding_size, size), nn.ReLU())
        self.attend = nn.Sequential(nn.Dropout(dropout), relu_layer(size, size), nn.ReLU())
        self.compare = nn.Sequential(nn.Dropout(dropout), relu_layer(2 * size, size), nn.ReLU())
        self.size = 4 * size

    def forward(self, first: Words, second: Words) -> Tensor:
        left, right = first.through(self.project), second.through(self.project)
        scores = self.attend(left) @ self.attend(right).transpose(1, 2)
        to_right = _softmax(scores, second.mask.unsqueeze(1), 2) @ right
        to_left = _softmax(scores, first.mask.unsqueeze(2), 1).transpose(1, 2) @ left
        sides = self._aggregate(left, to_right, first.mask), self._aggregate(right, to_left, second.mask)
        return torch.cat(sides, -1)

    def _aggregate(self, words: Tensor, aligned: Tensor, mask: Tensor) -> Tensor:
        compared = self.compare(torch.cat((words, aligned), -1)).masked_fill(~mask.unsqueeze(-1), 0)
        # After a relu nothing is below the zeros at padding; a text without words would keep minus infinity.
        return torch.cat((compared.sum(1), compared.amax(1)), -1)


def _softmax(scores: Tensor, mask: Tensor, axis: int) -> Tensor:
    # The smallest number instead of minus infinity: a text without a word would give nan.
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(axis)
