from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from et_adabert.student.cell import EDGES, INPUTS, KEPT, NODES, OPERATIONS, Cell, Edge

_NONE = OPERATIONS.index("none")


@dataclass(frozen=True)
class Chosen:
    """One choice of the search: for each node its edges, as (edge, operation) by number, and how many cells.

    *straight* [9, 10] is 1 throughout, with the gradient of the softmax that was drawn from, by which chosen operations
    are multiplied; *depth_soft* [Kmax] is the softmax that the depth was drawn from. None outside training.
    """

    nodes: tuple[tuple[tuple[int, int], ...], ...]
    depth: int
    straight: Tensor | None = None
    depth_soft: Tensor | None = None

    @property
    def cell(self) -> Cell:
        return Cell(
            tuple(tuple(Edge(OPERATIONS[operation], EDGES[edge][0]) for edge, operation in node) for node in self.nodes)
        )


def best(operations: Tensor, depths: Tensor) -> Chosen:
    """The derived architecture of scores [9, 10] and [Kmax]: each node's two strongest edges with their best operation.

    An edge is as strong as its most probable operation; "none" is no operation to keep, as in the authors' code
    (EasyTransfer's may keep it). On ties the lower number wins.
    """
    probabilities = operations.detach().softmax(-1).clone()
    probabilities[:, _NONE] = -1.0
    strength, winners = probabilities.max(-1)
    nodes = []
    for target in range(INPUTS, INPUTS + NODES):
        into = [edge for edge, (_, end) in enumerate(EDGES) if end == target]
        ranked = sorted(into, key=lambda edge: (-float(strength[edge]), edge))[:KEPT]
        nodes.append(tuple((edge, int(winners[edge])) for edge in sorted(ranked)))
    return Chosen(tuple(nodes), int(depths.argmax()) + 1)


def draw(operations: Tensor, depths: Tensor, *, temperature: float, all_edges: bool) -> Chosen:
    """A choice drawn with Gumbel noise at *temperature*, with straight-through gradients (Jang et al. 2017).

    By default each draw is what would be derived of the noisy scores: two edges a node. With *all_edges*, as in the
    paper, every edge has its operation, which may be "none", and the derived network lacks some that were trained.
    """
    noisy, noisy_depths = (scores + _gumbel(scores) for scores in (operations, depths))
    soft = (noisy / temperature).softmax(-1)
    depth_soft = (noisy_depths / temperature).softmax(-1)
    chosen = best(noisy, noisy_depths)
    nodes = chosen.nodes
    if all_edges:
        winners = noisy.argmax(-1).tolist()
        nodes = tuple(
            tuple((edge, winners[edge]) for edge, (_, end) in enumerate(EDGES) if end == target)
            for target in range(INPUTS, INPUTS + NODES)
        )
    # 1 in value, so that a network of the choice computes what the derived one does.
    straight = soft - soft.detach() + 1
    return Chosen(nodes, chosen.depth, straight, depth_soft)


def without_none(operations: Tensor) -> Tensor:
    """Scores [9, 10] in which "none" cannot be: what is drawn and derived of two edges a node never has it."""
    never = torch.zeros_like(operations, dtype=torch.bool)
    never[:, _NONE] = True
    return operations.masked_fill(never, float("-inf"))


def entropy(scores: Tensor) -> float:
    """The mean entropy of the choices [..., n] as a share of the most there can be: 1 undecided, 0 decided.

    A score of minus infinity is no choice.
    """
    probabilities = scores.detach().float().softmax(-1)
    found = -(probabilities * probabilities.clamp(min=1e-12).log()).sum(-1).mean()
    choices = scores.isfinite().sum(-1).float().mean()
    return float(found / choices.log()) if choices > 1 else 0.0


def _gumbel(like: Tensor) -> Tensor:
    return -torch.empty_like(like).exponential_().log()
