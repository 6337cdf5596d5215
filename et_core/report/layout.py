from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from et_core.report.data import Floats

# Room for a curve between two columns, which must look neither like a step nor like a detour.
_LEAST_ROOM, _MOST_ROOM, _SLOPE = 26.0, 60.0, 0.45
_STARTS, _TRIALS = 6, 4000
_CROSSING, _TURNED = 4.0, 0.5
# An edge that bends by less counts as straight.
_STIFF, _STRAIGHT = 2.0, 0.25
_ROUNDS, _PASSES, _STILL = 12, 80, 0.01


@dataclass(frozen=True)
class Size:
    """An extent *along* the way from input to output, and one *across* it."""

    along: float
    across: float


@dataclass(frozen=True)
class Spot:
    """The middle of something, and its size."""

    along: float
    across: float
    size: Size


@dataclass(frozen=True)
class Route:
    """The way of an edge through six *stops* (along, across): straight to the second, bent to the third, straight to
    the fourth, bent to the fifth, and straight to the last. *label* is where its text stands, if it has one.
    """

    stops: tuple[tuple[float, float], ...]
    label: Spot | None


@dataclass(frozen=True)
class Layout:
    size: Size
    nodes: tuple[Spot, ...]
    routes: tuple[Route, ...]


def lay_out(nodes: Sequence[Size], edges: Sequence[tuple[int, int, Size | None]], *, gap: float) -> Layout:
    """Place a network in columns, from the nodes that nothing leads to, on.

    *nodes* are the sizes of the boxes, *edges* (from, to, size of the label) with from < to. A node stands one column
    behind the last that leads to it. Each edge has a lane of its own, *gap* away from whatever stands between its
    ends, and its label stands on that lane: neither an edge nor a label meets a box or another label, and edges cross
    between columns only.
    """
    network = _Network(nodes, edges, gap)
    return network.placed(network.middles(_order(network)))


class _Network:
    """Its items are the nodes, then the lanes of the edges. Ranks are the columns: even for nodes, odd for labels."""

    def __init__(self, nodes: Sequence[Size], edges: Sequence[tuple[int, int, Size | None]], gap: float) -> None:
        self.nodes, self.edges, self.gap = nodes, edges, gap
        layers = [0] * len(nodes)
        for target in range(len(nodes)):
            layers[target] = max((layers[u] + 1 for u, v, _ in edges if v == target), default=0)
        self.spans = [(2 * layer, 2 * layer) for layer in layers]
        self.spans += [(2 * layers[u] + 1, 2 * layers[v] - 1) for u, v, _ in edges]
        self.ranks = 2 * max(layers, default=0) + 1
        # Where an edge leaves a node or comes to one: (rank before it, item before it, item behind it).
        self.bends: list[tuple[int, int, int]] = []
        for lane, (u, v, _) in enumerate(edges, start=len(nodes)):
            self.bends += [(self.spans[u][1], u, lane), (self.spans[lane][1], lane, v)]

    def items(self, rank: int) -> list[int]:
        return [item for item, (first, last) in enumerate(self.spans) if first <= rank <= last]

    def size(self, item: int, rank: int) -> Size:
        """The size of what *item* shows in *rank*: nothing where an edge only passes."""
        if item < len(self.nodes):
            return self.nodes[item]
        label = self.edges[item - len(self.nodes)][2]
        # A label stands before the node that its edge leads to, where fewer edges run beside it.
        return label if label is not None and rank == self.spans[item][1] else Size(0.0, 0.0)

    def middles(self, order: Sequence[int]) -> Floats:
        """Where the items stand across the drawing, from 0 on: as straight as *order* and their sizes allow."""
        apart = self._apart(order)
        middles = _straightened(len(self.spans), [(a, b, self._stiffness(a, b)) for _, a, b in self.bends], apart)
        for low, high, least in apart:
            middles[high] = max(middles[high], middles[low] + least)
        shown = [(item, rank) for rank in range(self.ranks) for item in self.items(rank)]
        top = min((middles[item] - self.size(item, rank).across / 2 for item, rank in shown), default=0.0)
        return np.array(middles - top)

    def _stiffness(self, a: int, b: int) -> float:
        """More for an edge to the next column than for one that passes others, which bends in any case."""
        first, last = self.spans[max(a, b)]
        return _STIFF if first == last else 1.0

    def _apart(self, order: Sequence[int]) -> list[tuple[int, int, float]]:
        """(item, next item in some rank, least distance of their middles), in an order in which they can be kept."""
        place = {item: index for index, item in enumerate(order)}
        found: dict[tuple[int, int], float] = {}
        for rank in range(self.ranks):
            for low, high in pairwise(sorted(self.items(rank), key=place.__getitem__)):
                least = (self.size(low, rank).across + self.size(high, rank).across) / 2 + self.gap
                found[low, high] = max(found.get((low, high), 0.0), least)
        return sorted(((low, high, least) for (low, high), least in found.items()), key=lambda row: place[row[1]])

    def placed(self, middles: Floats) -> Layout:
        """The layout whose items stand at *middles* across it."""
        ends, starts = [], [0.0]
        for rank in range(self.ranks):
            ends.append(starts[rank] + max((self.size(item, rank).along for item in self.items(rank)), default=0.0))
            steep = max((abs(middles[a] - middles[b]) for before, a, b in self.bends if before == rank), default=0.0)
            starts.append(ends[rank] + float(np.clip(_SLOPE * steep, _LEAST_ROOM, _MOST_ROOM)))
        spots = [
            Spot((starts[rank] + ends[rank]) / 2, float(middles[item]), self.size(item, rank))
            for item, (_, rank) in enumerate(self.spans)
        ]
        routes = [self._route(spots, lane, starts, ends) for lane in range(len(self.nodes), len(spots))]
        bottom = max((spot.across + spot.size.across / 2 for spot in spots), default=0.0)
        return Layout(Size(ends[-1], bottom), tuple(spots[: len(self.nodes)]), tuple(routes))

    def _route(self, spots: Sequence[Spot], lane: int, starts: Sequence[float], ends: Sequence[float]) -> Route:
        u, v, label = self.edges[lane - len(self.nodes)]
        source, own, target = spots[u], spots[lane], spots[v]
        first, last = self.spans[lane]
        stops = (
            (source.along + source.size.along / 2, source.across),
            (ends[first - 1], source.across),
            (starts[first], own.across),
            (ends[last], own.across),
            (starts[last + 1], target.across),
            (target.along - target.size.along / 2, target.across),
        )
        return Route(stops, own if label is not None else None)


def _order(network: _Network) -> list[int]:
    """All items from one side of the drawing to the other, such that edges cross seldom and bend little.

    From several starts, one item at a time is moved while that helps.
    """
    count = len(network.spans)
    cost = _Cost(network)
    rng = np.random.default_rng(0)
    starts = [np.arange(count), *(rng.permutation(count) for _ in range(_STARTS - 1))]
    found = [_improved(start.tolist(), cost, _TRIALS // _STARTS) for start in starts]
    return min([*found, *(order[::-1] for order in found)], key=cost)


def _improved(order: list[int], cost: _Cost, trials: int) -> list[int]:
    best, before = cost(order), np.inf
    while best < before:
        before = best
        for item in list(order):
            if trials <= 0:
                return order
            rest = [other for other in order if other != item]
            tried = [[*rest[:place], item, *rest[place:]] for place in range(len(order))]
            costs = [cost(candidate) for candidate in tried]
            trials -= len(tried)
            if min(costs) < best:
                best = min(costs)
                order = tried[costs.index(best)]
    return order


class _Cost:
    """How bad an order of the items is: edges that cross, items between the ends of a bend, nodes that stand before one
    of a lower number.
    """

    def __init__(self, network: _Network) -> None:
        count, lanes = len(network.nodes), range(len(network.nodes), len(network.spans))
        passing = [(rank, lane, lane) for lane in lanes for rank in range(*network.spans[lane])]
        pieces = [*network.bends, *passing]
        pairs = [(i, j) for (i, one), (j, other) in combinations(enumerate(pieces), 2) if one[0] == other[0]]
        columns = [[node for node in network.items(rank) if node < count] for rank in range(network.ranks)]
        self._before = np.array([before for _, before, _ in pieces], dtype=np.int64)
        self._behind = np.array([behind for _, _, behind in pieces], dtype=np.int64)
        self._pairs = _pairs(pairs)
        self._nodes = _pairs([pair for column in columns for pair in combinations(column, 2)])
        self._beside: NDArray[np.bool_] = np.zeros((len(network.bends), len(network.spans)), dtype=np.bool_)
        for bend, (rank, _, _) in enumerate(network.bends):
            self._beside[bend, [*network.items(rank), *network.items(rank + 1)]] = True

    def __call__(self, order: Sequence[int]) -> float:
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        before, behind = place[self._before], place[self._behind]
        one, other = self._pairs
        crossings = ((before[one] - before[other]) * (behind[one] - behind[other]) < 0).sum()
        bends = len(self._beside)
        low, high = np.minimum(before, behind)[:bends, None], np.maximum(before, behind)[:bends, None]
        between = (self._beside & (low < place) & (place < high)).sum()
        lower, higher = self._nodes
        return float(_CROSSING * crossings + between + _TURNED * (place[lower] > place[higher]).sum())


def _pairs(pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def _straightened(
    count: int, bends: Sequence[tuple[int, int, float]], apart: Sequence[tuple[int, int, float]]
) -> Floats:
    """Middles of *count* items that make the *bends* (item, item, stiffness) short; *apart* holds but for rounding.

    The sum of distances is minimised by least squares with weights of one over the distance, which leaves most edges
    straight, where plain least squares would bend them all; each of those problems by Hildreth's method.
    """
    middles, weights = np.zeros(count), [stiffness for _, _, stiffness in bends]
    for _ in range(_ROUNDS):
        system = 1e-3 * np.eye(count)
        for (a, b, _), weight in zip(bends, weights, strict=True):
            system[[a, b], [a, b]] += weight
            system[[a, b], [b, a]] -= weight
        middles = _kept_apart(np.linalg.inv(system).astype(np.float64), apart)
        weights = [stiffness / float(np.hypot(middles[a] - middles[b], _STRAIGHT)) for a, b, stiffness in bends]
    return middles


def _kept_apart(inverse: Floats, apart: Sequence[tuple[int, int, float]]) -> Floats:
    """The least x' A x under x[high] - x[low] >= least for each of *apart*, with *inverse* that of A: one constraint
    is met after the other, with a force that can be taken back when the others make it needless.
    """
    middles, forces = np.zeros(len(inverse)), np.zeros(len(apart))
    for _ in range(_PASSES):
        moved = 0.0
        for index, (low, high, least) in enumerate(apart):
            answer = inverse[high] - inverse[low]
            per_force = answer[high] - answer[low]
            force = max(0.0, forces[index] + (least - middles[high] + middles[low]) / per_force)
            moved = max(moved, abs(force - forces[index]) * per_force)
            middles += (force - forces[index]) * answer
            forces[index] = force
        if moved < _STILL:
            break
    return middles
