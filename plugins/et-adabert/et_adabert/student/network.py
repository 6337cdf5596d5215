from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from et_adabert.student.cell import NODES, Cell
from et_adabert.student.operations import make_operation

_SHARPNESS = 10.0
_FAR = 1e9


class Embeddings(nn.Module):
    """Word and position embeddings, a linear layer to the width of the cells, and layer normalisation."""

    def __init__(
        self, *, vocab_size: int, embedding_size: int, hidden_size: int, max_positions: int, pad_id: int, dropout: float
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, embedding_size, padding_idx=pad_id)
        self.positions = nn.Embedding(max_positions, embedding_size)
        nn.init.normal_(self.words.weight, std=0.02)
        nn.init.zeros_(self.positions.weight)
        self.norm = nn.LayerNorm(embedding_size)
        self.project = nn.Linear(embedding_size, hidden_size) if embedding_size != hidden_size else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """States [B, L, H] of token *ids* [B, L]."""
        embedded = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        states: Tensor = self.dropout(embedded if self.project is None else self.project(embedded))
        return states


class CellNetwork(nn.Module):
    """One cell of a derived network: three nodes, and their sum weighed by learned attention."""

    def __init__(self, cell: Cell, hidden_size: int) -> None:
        super().__init__()
        self._cell = cell
        # All in one list, in the order of nodes and edges.
        self.operations = nn.ModuleList(
            make_operation(edge.operation, hidden_size) for node in cell.nodes for edge in node
        )
        self.attention = nn.Parameter(torch.zeros(NODES))

    def forward(self, first: Tensor, second: Tensor, mask: Tensor | None) -> Tensor:
        """The output [B, H, L] for the input nodes 0 and 1; *mask* [B, 1, L], or None without padding."""
        states = [first, second]
        rectified = [functional.relu(first), functional.relu(second)]
        operations = iter(self.operations)
        for node in self._cell.nodes:
            parts = [next(operations)(states[edge.source], rectified[edge.source], mask) for edge in node]
            total = masked(sum(parts[1:], parts[0]), mask)
            states.append(total)
            rectified.append(functional.relu(total))
        return weighed(self.attention, states[-NODES:])


class PairAlignment(nn.Module):
    """Lets each token of a pair's texts be compared with what is nearest to it in the other text.

    A token e is put beside its aligned a, the mean of the other text's tokens weighed by attention: the states are
    ReLU(W [e; a; |e - a|; e * a]), as in ESIM (Chen et al. 2017, eq. 11 to 15). Attention is the softmax of cosines,
    sharpened by a learned factor: embeddings that a teacher left begin with words of like meaning near each other. The
    paper has nothing of the kind; its two texts meet by place alone.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        nn.init.eye_(self.key.weight)
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        self.compare = nn.Linear(4 * hidden_size, hidden_size)

    def forward(self, first: Tensor, second: Tensor, masks: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The compared states of both texts [B, H, L1] and [B, H, L2], 0 at padding; *masks* are [B, 1, L]."""
        one, other = (functional.normalize(self.key(text.transpose(1, 2)), dim=-1) for text in (first, second))
        scores = self.sharpness * one @ other.transpose(1, 2)
        return self._compared(first, second, scores, masks), self._compared(
            second, first, scores.transpose(1, 2), masks[::-1]
        )

    def _compared(self, own: Tensor, other: Tensor, scores: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """*scores* are [B, L of own, L of other]."""
        mine, theirs = masks
        weights = scores.masked_fill(theirs == 0, torch.finfo(scores.dtype).min).softmax(-1)
        aligned = weights @ other.transpose(1, 2)
        states = own.transpose(1, 2)
        joined = torch.cat((states, aligned, (states - aligned).abs(), states * aligned), -1)
        return functional.relu(self.compare(joined)).transpose(1, 2) * mine


class LayerPooling(nn.Module):
    """One vector of all layers: what each says of a text, weighed by learned attention, and a hidden layer with tanh.

    The paper has the mean over tokens of each layer; the largest value of each state is put beside it here, which tells
    of a single word what a mean blurs.
    """

    def __init__(self, layers: int, hidden_size: int) -> None:
        super().__init__()
        self.attention = nn.Parameter(torch.zeros(layers)) if layers > 1 else None
        self.hidden = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """[B, H] of *layers* [B, H, L], which are 0 at padding: as many as there are, from the lowest on."""
        count = mask.sum(-1).clamp(min=1)
        low = (mask - 1) * _FAR
        # Padding of 0 adds nothing to a sum; for the largest value it is moved out of the way.
        said = [torch.cat((states.sum(-1) / count, (states + low).amax(-1)), -1) for states in layers]
        joined = said[0] if self.attention is None else weighed(self.attention[: len(layers)], said)
        pooled: Tensor = torch.tanh(self.hidden(joined))
        return pooled


def masked(states: Tensor, mask: Tensor | None) -> Tensor:
    return states if mask is None else states * mask


def weighed(scores: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """The sum of *parts*, each times its softmax weight among *scores*."""
    weights = scores.softmax(0)
    total = parts[0] * weights[0]
    for weight, part in zip(weights[1:], parts[1:], strict=True):
        total = torch.addcmul(total, part, weight)
    return total
