from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from et_core.errors import ConfigError
from et_core.registry import did_you_mean

CONVOLUTIONS = {
    "conv3": (3, 1),
    "conv5": (5, 1),
    "conv7": (7, 1),
    "dilated3": (3, 2),
    "dilated5": (5, 2),
    "dilated7": (7, 2),
}
"""Width and dilation of the operations that learn."""

OPERATIONS = (*CONVOLUTIONS, "max3", "avg3", "skip", "none")
"""The ten operations of an edge, in the order of EasyTransfer's code."""

INPUTS = 2
"""The input nodes of a cell, numbered 0 (the cell before the last one) and 1 (the last cell)."""

NODES = 3
"""The nodes between a cell's inputs and its output, numbered from 2."""

EDGES = tuple((source, INPUTS + node) for node in range(NODES) for source in range(INPUTS + node))
"""The nine possible edges, as (source, target), in the order of their targets."""

KEPT = 2
"""Edges that lead to a node of a derived cell."""

_EDGE = re.compile(r"\s*([a-z]+\d*)\s*\(\s*(\d+)\s*\)\s*")


@dataclass(frozen=True)
class Edge:
    """An *operation* on the node *source*."""

    operation: str
    source: int

    def __str__(self) -> str:
        return f"{self.operation}({self.source})"


@dataclass(frozen=True)
class Cell:
    """The edges that lead to each intermediate node, whose results are added up. All cells of a network share it."""

    nodes: tuple[tuple[Edge, ...], ...]

    def written(self) -> list[str]:
        """One sum for each node, from node 2 on, such as "conv7(0) + dilated5(1)"; ``read`` is the inverse."""
        return [" + ".join(str(edge) for edge in node) for node in self.nodes]

    @classmethod
    def read(cls, written: Sequence[str]) -> Cell:
        """The cell that *written* stands for; ConfigError where a sum cannot be read or names what there is not."""
        if len(written) != NODES:
            raise ConfigError(
                f"model.cell has {len(written)} nodes: a cell has {NODES}, each written as a sum, such as "
                '"conv7(0) + skip(1)".'
            )
        return cls(tuple(_read_node(text, INPUTS + number) for number, text in enumerate(written)))

    @classmethod
    def random(cls, seed: int) -> Cell:
        """A cell drawn evenly over sources and operations but "none", as a baseline of a search."""
        rng = np.random.default_rng(seed)
        choices = [name for name in OPERATIONS if name != "none"]
        return cls(
            tuple(
                tuple(
                    Edge(choices[rng.integers(len(choices))], int(source))
                    for source in sorted(rng.choice(INPUTS + node, KEPT, replace=False))
                )
                for node in range(NODES)
            )
        )


def _read_node(text: str, number: int) -> tuple[Edge, ...]:
    edges = []
    for part in text.split("+"):
        found = _EDGE.fullmatch(part)
        if found is None:
            raise ConfigError(
                f"model.cell: node {number} is {text!r}. Write a sum of OPERATION(SOURCE), "
                'such as "conv7(0) + skip(1)".'
            )
        operation, source = found[1], int(found[2])
        if operation not in OPERATIONS:
            raise ConfigError(
                f"model.cell: node {number} has the operation {operation!r}.{did_you_mean(operation, OPERATIONS)} "
                f"Operations: {', '.join(OPERATIONS)}."
            )
        if source >= number:
            raise ConfigError(
                f"model.cell: node {number} reads node {source}. It can read those before it: 0 to {number - 1}."
            )
        edges.append(Edge(operation, source))
    return tuple(edges)
