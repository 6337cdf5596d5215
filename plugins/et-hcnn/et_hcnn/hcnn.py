from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from et_hcnn.backbone import MatchingBackbone, PairEncoder, Size
from et_hcnn.layers import WideConvolution, Words, compared

_KERNEL, _POOL, _CHANNELS = 6, 4, 8
_KERNEL2, _STRIDE2, _POOL2, _CHANNELS2 = 4, 3, 2, 16
_BEFORE = (_KERNEL - 1) // 2
_AFTER = _KERNEL - 1 - _BEFORE
"""What "same" padding adds before and after."""

SMALLEST_INTERACTION = _POOL * (_KERNEL2 + _STRIDE2 * (_POOL2 - 1))
"""Of a smaller matrix nothing is left after the second pooling."""


class Hcnn(MatchingBackbone):
    """Hybrid CNN: what a convolution finds in each text, and what it finds in the matrix of their words' products.

    Yu et al. 2018 (WSDM, arXiv 1711.08726), Qiu et al. 2018 (ACL, P18-2034).
    """

    model_type: ClassVar[str] = "hcnn"
    defaults: ClassVar[Mapping[str, Any]] = {
        **MatchingBackbone.defaults,
        "filters": 150,
        "filter_width": 4,
        "interaction_size": 64,
    }

    @dataclass
    class Options(MatchingBackbone.Options):
        """*filters* of *filter_width* words read each text.

        The matrix of the texts' words is *interaction_size* wide whatever the texts are, so that padding cannot move
        the cells that are pooled; words beyond are left out of it.
        """

        filters: Size | None = None
        filter_width: Size | None = None
        interaction_size: Annotated[int, Field(ge=SMALLEST_INTERACTION)] | None = None

    @classmethod
    def make_encoder(cls, sizes: Any) -> nn.Module:
        network = HcnnNetwork(sizes)
        return PairEncoder(network, network.size, hidden_size=sizes.hidden_size, dropout=sizes.dropout)


class HcnnNetwork(nn.Module):
    """[h1; h2; h1 - h2; h1 * h2] of a convolution shared by both texts, and the interaction pyramid."""

    def __init__(self, sizes: Any) -> None:
        super().__init__()
        self.sentence = WideConvolution(sizes.embedding_size, filters=sizes.filters, widths=(sizes.filter_width,))
        self.pyramid = InteractionPyramid(sizes.interaction_size)
        self.size = 4 * self.sentence.size + self.pyramid.size

    def forward(self, first: Words, second: Words) -> Tensor:
        # tanh rises everywhere, so that the maximum may come before it.
        left, right = torch.tanh(self.sentence(first)), torch.tanh(self.sentence(second))
        return torch.cat((compared(left, right), self.pyramid(first.vectors, second.vectors)), -1)


class InteractionPyramid(nn.Module):
    """Two convolutions with pooling over the products of the words of two texts (MatchPyramid, Pang et al. 2016).

    6x6 to 8 channels, "same", tanh; maximum over 4x4; 4x4 to 16 channels, "valid", stride 3, tanh; maximum over 2x2.
    """

    def __init__(self, interaction_size: int) -> None:
        super().__init__()
        self.interaction_size = interaction_size
        self.first = nn.Conv2d(1, _CHANNELS, _KERNEL)
        self.second = nn.Conv2d(_CHANNELS, _CHANNELS2, _KERNEL2, stride=_STRIDE2)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self._cells = interaction_size // _POOL
        side = ((self._cells - _KERNEL2) // _STRIDE2 + 1) // _POOL2
        self.size = _CHANNELS2 * side * side

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """[B, size] of word vectors [B, L, D], which are zero at padding; L may differ."""
        first, second = first[:, : self.interaction_size], second[:, : self.interaction_size]
        matrix = first @ second.transpose(1, 2)
        rows, columns = self._reached(first), self._reached(second)
        room = (
            *(_BEFORE, columns * _POOL + _AFTER - matrix.shape[2]),
            *(_BEFORE, rows * _POOL + _AFTER - matrix.shape[1]),
        )
        found = functional.conv2d(functional.pad(matrix, room).unsqueeze(1), self.first.weight)
        cells = functional.max_pool2d(found, _POOL)
        # Where no word is in reach the convolution of zeros is zero, which need not be computed.
        cells = functional.pad(cells, (0, self._cells - columns, 0, self._cells - rows))
        cells = torch.tanh(cells + self.first.bias.view(-1, 1, 1))
        return torch.tanh(functional.max_pool2d(self.second(cells), _POOL2)).flatten(1)

    def _reached(self, words: Tensor) -> int:
        """How many pooled cells along the side of *words* [B, L, D] a window with a word in it falls into."""
        return min(self._cells, -(-(words.shape[1] + _BEFORE) // _POOL))
