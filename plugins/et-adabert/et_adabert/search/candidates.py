from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from et_adabert.search.efficiency import Target
from et_adabert.search.measure import latency_ms, parameters_of
from et_adabert.search.scores import Chosen, best, draw
from et_adabert.student.cell import CONVOLUTIONS, Cell
from et_core.interfaces import Front, Model, Point


@dataclass(frozen=True)
class Candidate:
    """A network that the search could derive, with the shared weights it was searched with."""

    group: str
    chosen: Chosen
    score: float
    latency_ms: float
    params: int

    @property
    def label(self) -> str:
        return f"{cells(self.chosen.depth)}, {self.params / 1e6:.2f} M parameters"


def cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def candidates(operations: Tensor, scores: Tensor, *, depths: Iterable[int], sampled: int) -> list[tuple[str, Chosen]]:
    """What is compared at the end: the derived cell at each of *depths*, and as many as *sampled*, drawn by torch.

    *operations* [9, 10] and *scores* [Kmax] are those of operations and of depths.
    """
    derived = best(operations, scores)
    found = [("derived cell", Chosen(derived.nodes, depth)) for depth in depths]
    with torch.no_grad():
        for _ in range(sampled):
            drawn = draw(operations.cpu(), scores.cpu(), temperature=1.0, all_edges=False)
            found.append(("drawn cell", Chosen(drawn.nodes, drawn.depth)))
    return found


def measured(
    found: Iterable[tuple[str, Chosen]],
    build: Callable[[Chosen], Model],
    score: Callable[[Model], float],
    *,
    length: int,
    texts: int,
    peer: Model | None = None,
) -> tuple[list[Candidate], float]:
    """Each candidate with its score on dev, its latency on this machine and its size; and the latency of *peer*.

    They take turns, as a machine is not equally fast all the time. Of a peer's times the median counts.
    """
    rows, peers = [], [0.0]
    for group, chosen in found:
        model = build(chosen)
        if peer is not None:
            peers.append(latency_ms(peer, length=length))
        speed = latency_ms(model, length=length, texts=texts)
        rows.append(Candidate(group, chosen, score(model), speed, parameters_of(model)))
    return rows, statistics.median(peers[1:] or peers)


def pick(rows: Sequence[Candidate], derived: Chosen, target: Target | None) -> Candidate | None:
    """The derived network, or under a *target* the best that keeps it; None where none does."""
    if target is None:
        return next(row for row in rows if row.chosen.depth == derived.depth and row.chosen.nodes == derived.nodes)
    kept = [row for row in rows if target.admits(latency_ms=row.latency_ms, params=row.params)]
    return max(kept, key=lambda row: (row.score, -row.latency_ms), default=None)


def finalists(rows: Sequence[Candidate], picked: Candidate | None, target: Target | None) -> list[Candidate]:
    """Those that may turn out best, the most promising first: the best of each depth that keep *target*, in turn.

    Scores are those of shared weights, of which deeper networks have had more to learn in the same steps; so they are
    compared at the same depth. *picked* comes first at its own.
    """
    kept = [row for row in rows if target is None or target.admits(latency_ms=row.latency_ms, params=row.params)]
    ranked = sorted(kept, key=lambda row: (row is not picked, -row.score, row.latency_ms))
    places: Counter[int] = Counter()
    found: dict[tuple[Any, ...], tuple[int, Candidate]] = {}
    for row in ranked:
        key = (row.chosen.nodes, row.chosen.depth)
        if key not in found:
            found[key] = (places[row.chosen.depth], row)
            places[row.chosen.depth] += 1
    return [row for _, row in sorted(found.values(), key=lambda entry: entry[0])]


def front(rows: Sequence[Candidate], picked: Candidate | None, length: int) -> Front:
    """Quality against speed, at one row of *length* tokens."""
    points = [
        Point(row.label, row.latency_ms, row.score, row.group, chosen=row is picked)
        for row in sorted(rows, key=lambda row: row.latency_ms)
    ]
    note = "Scores are those of the weights that all networks share during the search, before any was trained alone."
    return Front(
        "Quality against speed", f"ms for one row of {length} tokens, on this machine", "score on dev", points, note
    )


def collapse(cell: Cell, none: float, bag: float | None, picked: float | None, *, paid: bool) -> list[str]:
    """What shows that a search has come to nothing, in sentences that say what to change.

    *none* is the probability of no operation, averaged over edges; *bag* is the score on dev of the embeddings alone,
    *picked* that of the network that was found. *paid* says whether the efficiency term had a share of the loss.
    """
    said = []
    remedy = "Raise search.train.max_steps or search.architecture_lr."
    if paid:
        remedy = "Lower search.efficiency, or raise search.train.max_steps or search.architecture_lr."
    if not any(edge.operation in CONVOLUTIONS for node in cell.nodes for edge in node):
        said.append(
            f"the search collapsed: its cell has no operation that learns ({'; '.join(cell.written())}). {remedy}"
        )
    if none > 0.5:
        said.append(f"the search collapsed: with {none:.0%} on average, an edge would rather not be there. {remedy}")
    if bag is not None and picked is not None and bag >= picked:
        said.append(
            f"the embeddings alone score {bag:.4f} on dev, the network that was found {picked:.4f}: with the weights "
            f"of the search its cells add nothing to them. {remedy}"
        )
    return said
