from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from et_adabert.search.scores import Chosen, best
from et_adabert.student.backbone import MOST_CELLS, AdaBert
from et_adabert.student.base import CellBackbone, Layers
from et_adabert.student.cell import EDGES, INPUTS, NODES, OPERATIONS
from et_adabert.student.network import masked, weighed
from et_adabert.student.operations import make_operation
from et_core.interfaces import Inputs

_START = 1e-3
"""The deviation of fresh scores, as in the authors' code: nothing is decided, and no tie is left."""


_NEVER = -1e9
"""The score of a depth that is not to be chosen."""


class SuperCell(nn.Module):
    """A cell with every operation on every edge, of which a choice runs few."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            nn.ModuleList(make_operation(name, hidden_size) for name in OPERATIONS) for _ in EDGES
        )
        self.attention = nn.Parameter(torch.zeros(NODES))

    def forward(self, first: Tensor, second: Tensor, mask: Tensor | None, chosen: Chosen) -> Tensor:
        """The output [B, H, L] of what is *chosen*: only that is computed, and its straight-through weights are 1."""
        states = [first, second]
        rectified = [functional.relu(first), functional.relu(second)]
        for node in chosen.nodes:
            parts = []
            for edge, number in node:
                source = EDGES[edge][0]
                found = self.operation(edge, number)(states[source], rectified[source], mask)
                parts.append(found if chosen.straight is None else found * chosen.straight[edge, number])
            total = masked(sum(parts[1:], parts[0]), mask)
            states.append(total)
            rectified.append(functional.relu(total))
        return weighed(self.attention, states[INPUTS:])

    def operation(self, edge: int, number: int) -> nn.Module:
        operations: Any = self.edges[edge]
        found: nn.Module = operations[number]
        return found


class Supernet(CellBackbone):
    """All choices of an ``adabert`` in one network: ten operations on nine edges of up to eight cells.

    *operation_scores* [9, 10] are shared by all cells, whose weights are not; *depth_scores* [Kmax] say how many cells
    there are. Called as a backbone, it computes what would be derived of the scores as they are.
    """

    model_type: ClassVar[str] = "adabert-supernet"

    @dataclass
    class Options(CellBackbone.Options):
        """*num_cells* fixes how many cells there are, so that only the cell is searched; else up to *max_cells*."""

        num_cells: Annotated[int, Field(ge=1, le=MOST_CELLS)] | None = None
        max_cells: Annotated[int, Field(ge=1, le=MOST_CELLS)] | None = None

    defaults: ClassVar[Mapping[str, Any]] = {**CellBackbone.defaults, "max_cells": 3}

    def __init__(self, sizes: Any, *, vocab_size: int, pad_id: int) -> None:
        cells = sizes.num_cells or sizes.max_cells
        super().__init__(sizes, vocab_size=vocab_size, pad_id=pad_id, depth=cells)
        self.stack = nn.ModuleList(SuperCell(sizes.hidden_size) for _ in range(cells))
        self.operation_scores = nn.Parameter(_START * torch.randn(len(EDGES), len(OPERATIONS)))
        self.depth_scores = nn.Parameter(_START * torch.randn(cells))
        if sizes.num_cells is not None:
            self.depth_scores.data.fill_(_NEVER)
            self.depth_scores.data[-1] = 0.0
            self.depth_scores.requires_grad_(False)

    @classmethod
    def of(cls, sizes: Any, *, vocab_size: int, pad_id: int) -> Self:
        return cls(sizes, vocab_size=vocab_size, pad_id=pad_id)

    def of_the_search(self) -> list[nn.Parameter]:
        """The parameters of which a derived network has none or few: those of all cells, and the scores."""
        return [*self.stack.parameters(), self.operation_scores, self.depth_scores]

    @property
    def depths(self) -> range:
        """How many cells there may be."""
        most = len(self.stack)
        return range(1 if self.sizes.num_cells is None else most, most + 1)

    def cells(self, first: Tensor, second: Tensor, mask: Tensor | None) -> list[Tensor]:
        return self._run(first, second, mask, best(self.operation_scores, self.depth_scores))

    def layers_of(self, inputs: Inputs, chosen: Chosen) -> Layers:
        """The states after each cell of the network that is *chosen*."""
        bottom = self.bottom(inputs)
        return Layers([bottom.states, *self._run(bottom.first, bottom.second, bottom.padding, chosen)], bottom.mask)

    def blocks(self) -> list[nn.Module]:
        return list(self.stack)

    def derive(self, chosen: Chosen, derived: AdaBert) -> None:
        """Let *derived*, a network of the *chosen* architecture, share the weights that were searched with."""
        derived.embeddings = self.embeddings
        derived.alignment = self.alignment
        if self.pooling is not None and derived.pooling is not None:
            derived.pooling.hidden = self.pooling.hidden
            if self.pooling.attention is not None and derived.pooling.attention is not None:
                derived.pooling.attention.data.copy_(self.pooling.attention[: chosen.depth + 1])
        edges = [pair for node in chosen.nodes for pair in node]
        for cell, source in zip(derived.stack, self.stack, strict=False):
            cell.attention = source.attention
            for place, (edge, number) in enumerate(edges):
                cell.operations[place] = source.operation(edge, number)

    def _run(self, first: Tensor, second: Tensor, mask: Tensor | None, chosen: Chosen) -> list[Tensor]:
        outputs = []
        for cell in self.stack[: chosen.depth]:
            first, second = second, cell(first, second, mask, chosen)
            outputs.append(second)
        return outputs
