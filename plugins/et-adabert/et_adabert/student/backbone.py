from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from et_adabert.student.base import CellBackbone
from et_adabert.student.cell import INPUTS, Cell
from et_adabert.student.network import CellNetwork
from et_core.errors import ConfigError
from et_core.interfaces import Figure, Graph, Head, Search

MOST_CELLS = 8
"""Kmax of the paper."""


class AdaBert(CellBackbone):
    """The network that a search has found: *num_cells* cells of one architecture (Chen et al. 2020, section 2).

    Without cells it is a bag of embeddings, the baseline that a search has to beat.
    """

    model_type: ClassVar[str] = "adabert"

    @dataclass
    class Options(CellBackbone.Options):
        """*cell* is one sum for each of its three nodes, such as "conv7(0) + dilated5(1)": operations on earlier nodes.

        "random" draws one with *cell_seed*. Where it is left open, ``et distill`` searches for it, and for *num_cells*,
        if that is left open too, up to *max_cells*.
        """

        cell: list[str] | Literal["random"] | None = None
        cell_seed: int | None = None
        num_cells: Annotated[int, Field(ge=0, le=MOST_CELLS)] | None = None
        max_cells: Annotated[int, Field(ge=1, le=MOST_CELLS)] | None = None

    defaults: ClassVar[Mapping[str, Any]] = {**CellBackbone.defaults, "cell_seed": 0}

    def __init__(self, sizes: Any, *, vocab_size: int, pad_id: int) -> None:
        super().__init__(sizes, vocab_size=vocab_size, pad_id=pad_id, depth=sizes.num_cells)
        count, cell = sizes.num_cells, None
        if count:
            cell = Cell.random(sizes.cell_seed) if sizes.cell == "random" else Cell.read(sizes.cell)
        self.cell = cell
        self.stack = nn.ModuleList(CellNetwork(cell, sizes.hidden_size) for _ in range(count) if cell is not None)

    @classmethod
    def search(cls, options: Options) -> Search | None:
        if options.num_cells == 0 or None not in (options.cell, options.num_cells):
            return None
        if options.cell is not None:
            raise ConfigError(
                "model.cell is given, but not how many of it there are: write model.num_cells=2, or leave out both, "
                "and both are searched for."
            )
        return Search(family="et-adabert/adabert-supernet", objective="et-adabert/adabert-search")

    @classmethod
    def of(cls, sizes: Any, *, vocab_size: int, pad_id: int) -> Self:
        if sizes.num_cells is None or (sizes.num_cells and sizes.cell is None):
            missing = "num_cells" if sizes.num_cells is None else "cell"
            raise ConfigError(
                f"model.{missing} is not set, so it is not known what network {cls.model_type}@init is. Let et distill "
                'search for one, or write model.num_cells=3 and model.cell=["conv7(0) + skip(1)", ...] or random.'
            )
        return cls(sizes, vocab_size=vocab_size, pad_id=pad_id)

    def cells(self, first: Tensor, second: Tensor, mask: Tensor | None) -> list[Tensor]:
        outputs = []
        for cell in self.stack:
            first, second = second, cell(first, second, mask)
            outputs.append(second)
        return outputs

    def blocks(self) -> list[nn.Module]:
        return list(self.stack)

    def figures(self) -> list[Figure]:
        """The cell as a picture."""
        return [] if self.cell is None else [picture(self.cell, len(self.stack))]

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        written = None if self.cell is None else self.cell.written()
        return {**super().config(heads), "cell": written}


def picture(cell: Cell, depth: int) -> Graph:
    """A network of *depth* such cells, of which one is drawn."""
    names = ["cell k-2", "cell k-1", *(f"node {INPUTS + number}" for number in range(len(cell.nodes))), "output"]
    edges = [(edge.source, INPUTS + number, edge.operation) for number, node in enumerate(cell.nodes) for edge in node]
    edges += [(INPUTS + number, len(names) - 1, "") for number in range(len(cell.nodes))]
    stacked = "One of these" if depth == 1 else f"{depth} of these, one after another"
    note = f"{stacked}. The output is the sum of the nodes, weighed by learned attention."
    return Graph("The cell", names, edges, note)
