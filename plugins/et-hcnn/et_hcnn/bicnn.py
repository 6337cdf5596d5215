from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from et_hcnn.backbone import MatchingBackbone, PairEncoder, Size
from et_hcnn.layers import WideConvolution, Words, compared, mean_over

WIDTHS = (2, 3, 4)


class BiCnn(MatchingBackbone):
    """One convolution network reads both texts; what it finds in each is compared (after Yin & Schuetze 2015)."""

    model_type: ClassVar[str] = "bicnn"
    defaults: ClassVar[Mapping[str, Any]] = {**MatchingBackbone.defaults, "filters": 200}

    @dataclass
    class Options(MatchingBackbone.Options):
        """*filters* of each of the widths 2, 3 and 4."""

        filters: Size | None = None

    @classmethod
    def make_encoder(cls, sizes: Any) -> nn.Module:
        network = BiCnnNetwork(sizes.embedding_size, filters=sizes.filters)
        return PairEncoder(network, network.size, hidden_size=sizes.hidden_size, dropout=sizes.dropout)


class BiCnnNetwork(nn.Module):
    """[l; r; l - r; l * r], where l and r are the strongest answer of each filter and the mean of the word vectors."""

    def __init__(self, embedding_size: int, *, filters: int) -> None:
        super().__init__()
        self.sentence = WideConvolution(embedding_size, filters=filters, widths=WIDTHS)
        self.size = 4 * (self.sentence.size + embedding_size)

    def forward(self, first: Words, second: Words) -> Tensor:
        return compared(self._read(first), self._read(second))

    def _read(self, words: Words) -> Tensor:
        return torch.cat((functional.relu(self.sentence(words)), mean_over(words)), -1)
