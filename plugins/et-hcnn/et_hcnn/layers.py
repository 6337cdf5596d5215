from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Words:
    """The words of a text [B, L] as *places* in a *table* [U, D], zero where *mask* is False.

    The table holds each distinct word of a batch once, so that what is computed of a word alone is computed once. Its
    row *padding* is zero.
    """

    table: Tensor
    places: Tensor
    mask: Tensor
    padding: int

    @property
    def vectors(self) -> Tensor:
        """[B, L, D]."""
        return functional.embedding(self.places, self.table)

    def through(self, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """What *layer* makes of each word, [B, L, ...]."""
        return functional.embedding(self.places, layer(self.table))

    def __getitem__(self, rows: Tensor) -> Words:
        return Words(self.table, self.places[rows], self.mask[rows], self.padding)


class WideConvolution(nn.Module):
    """Convolutions of several widths over a text, and the maximum of each filter over time, before any activation.

    Wide: a window may hang over either end of the text, where words are zero, so that a text of one word has as many
    windows as a filter is wide. A window that lies outside the text whole counts for nothing.
    """

    def __init__(self, embedding_size: int, *, filters: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.filters = filters
        self.widths = tuple(widths)
        # One matrix for all taps of all filters, so that a text is multiplied once.
        self.weight = nn.Parameter(torch.empty(sum(self.widths) * filters, embedding_size))
        self.bias = nn.Parameter(torch.zeros(len(self.widths) * filters))
        sizes = [width * filters for width in self.widths]
        for block, width in zip(torch.split(self.weight.data, sizes), self.widths, strict=True):
            # Glorot & Bengio 2010, over all that a filter reads.
            bound = (6 / (width * embedding_size + width * filters)) ** 0.5
            nn.init.uniform_(block, -bound, bound)

    @property
    def size(self) -> int:
        """The width of what ``forward`` gives."""
        return len(self.widths) * self.filters

    def forward(self, words: Words) -> Tensor:
        """[B, size], the filters of the first width first."""
        return self.strongest(self.windows(words), words.mask)

    def windows(self, words: Words) -> list[Tensor]:
        """For each width the answers [B, L + width - 1, filters] of its windows, without the bias.

        The first window ends at the first word.
        """
        blocks = torch.split(self.weight, [width * self.filters for width in self.widths])
        return [self._slide(words, block, width) for block, width in zip(blocks, self.widths, strict=True)]

    def strongest(self, windows: Sequence[Tensor], mask: Tensor) -> Tensor:
        """The maximum of each filter over the windows with a word in them, [B, size]."""
        lengths = mask.sum(1)
        found = []
        for answers, width in zip(windows, self.widths, strict=True):
            places = torch.arange(answers.shape[1], device=answers.device)
            outside = places >= (lengths + width - 1).unsqueeze(1)
            found.append(answers.masked_fill(outside.unsqueeze(-1), float("-inf")).amax(1))
        return torch.cat(found, -1) + self.bias

    def around(self, windows: Sequence[Tensor]) -> Tensor:
        """The answers of the windows in whose middle each word stands, [B, L, size]."""
        middle = []
        for answers, width in zip(windows, self.widths, strict=True):
            start = (width - 1) // 2
            middle.append(answers[:, start : answers.shape[1] - (width - 1 - start)])
        return torch.cat(middle, -1) + self.bias

    def _slide(self, words: Words, weight: Tensor, width: int) -> Tensor:
        """The answers [B, L + width - 1, filters] of the filters *weight* [width * filters, D], first word first."""
        taps = functional.linear(words.table, weight).view(-1, self.filters)
        near = functional.pad(words.places, (width - 1, width - 1), value=words.padding).unfold(1, width, 1)
        bags = near * width + torch.arange(width, device=near.device)
        # Summed as they are looked up: [B, L, width * filters] is never held, which takes longer than to compute it.
        return functional.embedding_bag(bags.flatten(0, 1), taps, mode="sum").unflatten(0, near.shape[:2])


def relu_layer(inputs: int, size: int) -> nn.Linear:
    """A linear layer that a relu follows, with the weights of He et al. 2015, which keep the scale of what passes."""
    layer = nn.Linear(inputs, size)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


def compared(first: Tensor, second: Tensor) -> Tensor:
    """[a; b; a - b; a * b] of two vectors [B, D]."""
    return torch.cat((first, second, first - second, first * second), -1)


def mean_over(words: Words) -> Tensor:
    """The mean [B, D] of the vectors of real words."""
    return words.vectors.sum(1) / words.mask.sum(1, keepdim=True).clamp(min=1)
