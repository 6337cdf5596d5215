from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from et_adabert.search.measure import latency_ms, operations_ms, parameters_of
from et_adabert.search.supernet import Supernet
from et_adabert.student.cell import CONVOLUTIONS, EDGES, INPUTS, KEPT, NODES, OPERATIONS
from et_core.errors import ConfigError
from et_core.interfaces import Model

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_TARGETS = ("speedup", "latency_ms", "params")


def operation_sizes(hidden_size: int) -> Tensor:
    """The parameters of each operation [10]."""
    widths = [CONVOLUTIONS[name][0] if name in CONVOLUTIONS else 0 for name in OPERATIONS]
    return torch.tensor([float(hidden_size**2 * width + 2 * hidden_size * bool(width)) for width in widths])


def operation_flops(hidden_size: int) -> Tensor:
    """The floating-point operations of each operation [10] for a token; a multiplication and an addition are two."""
    pools = torch.tensor([3.0 * hidden_size * (name in ("max3", "avg3")) for name in OPERATIONS])
    return 2 * operation_sizes(hidden_size) + pools


def operation_costs(hidden_size: int) -> Tensor:
    """What each operation [10] costs: the mean of its share of all sizes and of all FLOPs, so that they add up to 1.

    EasyTransfer's EP adds up to 1 too, but after a softmax that leaves a convolution of width 7 at 14 % above nothing
    at all. Without any normalisation the term swamps the loss.
    """
    size, flops = operation_sizes(hidden_size), operation_flops(hidden_size)
    return (size / size.sum() + flops / flops.sum()) / 2


def expected_edge_cost(scores: Tensor, costs: Tensor) -> Tensor:
    """The cost of an operation, expected of each edge's softmax, averaged over the nine edges of *scores* [9, 10]."""
    return (scores.softmax(-1) @ costs).mean()


def expected_cells(scores: Tensor) -> Tensor:
    """The expected number of cells of *scores* [Kmax]."""
    return (scores.softmax(-1) * torch.arange(1, len(scores) + 1, device=scores.device)).sum()


@dataclass(frozen=True)
class Target:
    """What a student has to keep: *limits* by quantity, "latency_ms" or "params"."""

    limits: Mapping[str, float]

    def admits(self, *, latency_ms: float, params: float) -> bool:
        found = {"latency_ms": latency_ms, "params": params}
        return all(found[name] <= limit for name, limit in self.limits.items())


def read_target(written: Mapping[str, float | str], teacher_ms: float) -> Target:
    """The limits of ``search.target``: ``{speedup: 20}`` over the teacher, ``{latency_ms: 5}`` or ``{params: 5M}``."""
    limits: dict[str, float] = {}
    for name, value in written.items():
        if name not in _TARGETS:
            raise ConfigError(f"search.target.{name} is no target. Targets: {', '.join(_TARGETS)}.")
        number = _number(name, value)
        key = "params" if name == "params" else "latency_ms"
        limit = teacher_ms / number if name == "speedup" else number
        limits[key] = min(limit, limits.get(key, limit))
    return Target(limits)


def _number(name: str, value: float | str) -> float:
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMG]?)x?\s*", str(value), re.IGNORECASE)
    number = float(found[1]) * _UNITS[found[2].upper()] if found else 0.0
    if number <= 0:
        raise ConfigError(f"search.target.{name} is {value!r}: expected a number above 0, such as 20 or 5M.")
    return number


class Efficiency(nn.Module):
    """The efficiency term of a search: L_E of the paper, or how far a student is expected to miss a target.

    Without a target L_E = (E[K] / Kmax) times the expected cost of an edge's operation, both of the softmax of the
    scores: the expectation of what the paper samples, since both are drawn independently. With a target it is the sum
    of log max(1, expected / limit): nothing is gained below the limit, and far above it the slope stays small.

    What was measured on this machine is kept in buffers, so that a resumed search goes on with the same figures.
    """

    limits: Tensor
    bases: Tensor
    costs: Tensor

    def __init__(self, model: Model, target: Target | None, *, length: int, texts: int = 1) -> None:
        """Measured at rows of *length* tokens, shared out over *texts*."""
        super().__init__()
        size = _supernet(model).hidden_size
        names = [] if target is None else sorted(target.limits)
        rows = [_costs_of(name, model, length=length, texts=texts) for name in names]
        self.register_buffer("relative", operation_costs(size), persistent=False)
        self.register_buffer("limits", torch.tensor([target.limits[name] for name in names] if target else []))
        self.register_buffer("bases", torch.stack([base for base, _ in rows]) if rows else torch.zeros(0, 2))
        self.register_buffer("costs", torch.stack([costs for _, costs in rows]) if rows else torch.zeros(0, 10))

    def forward(self, operation_scores: Tensor, depth_scores: Tensor) -> Tensor:
        """The term, a scalar, of scores [9, 10] and [Kmax]."""
        cells = expected_cells(depth_scores)
        if not len(self.limits):
            relative: Tensor = self.relative  # type: ignore[assignment]
            return cells / len(depth_scores) * expected_edge_cost(operation_scores, relative)
        edges = operation_scores.softmax(-1) @ self.costs.T
        targets = torch.tensor([end - INPUTS for _, end in EDGES], device=edges.device)
        into = torch.stack([edges[targets == node].mean(0) for node in range(NODES)])
        cell = KEPT * into.sum(0)
        expected = self.bases[:, 0] + cells * (self.bases[:, 1] + cell)
        return (expected / self.limits).clamp(min=1).log().sum()


def _costs_of(name: str, model: Model, *, length: int, texts: int) -> tuple[Tensor, Tensor]:
    """What a network costs without cells, what each cell costs besides its operations [2], and each operation [10]."""
    backbone = _supernet(model)
    size = backbone.hidden_size
    outside = parameters_of(model) - sum(part.numel() for part in backbone.of_the_search())
    if name == "params":
        return torch.tensor([float(outside), float(NODES)]), operation_sizes(size)
    device = next(model.parameters()).device
    bare = torch.tensor([_bare_ms(model, length=length, texts=texts), 0.0])
    return bare, operations_ms(size, length=length // texts, device=device)


def _bare_ms(model: Model, *, length: int, texts: int) -> float:
    """The latency of *model* without its cells."""
    backbone = _supernet(model)
    cells, backbone.stack = backbone.stack, nn.ModuleList()
    try:
        return latency_ms(model, length=length, texts=texts)
    finally:
        backbone.stack = cells


def _supernet(model: Model) -> Supernet:
    if not isinstance(model.backbone, Supernet):
        raise TypeError("efficiency is that of a Supernet")
    return model.backbone
