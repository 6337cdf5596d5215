from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from et_core.interfaces.figures import Graph
from et_core.report.layout import Route, Size, Spot, lay_out
from et_core.report.svg import Drawing, picture, short, shortened, tag, text_width

MOST_EDGES = 60
"""Of more edges a picture shows nothing but a tangle."""

_NODE_TEXT, _EDGE_TEXT = 24, 18
_NODE, _LABEL = 32.0, 20.0
_LEAST_NODE, _NODE_PADDING, _LABEL_PADDING = 64.0, 22.0, 12.0
_MARGIN = 3.0
_TIP, _HALF_TIP = 8.0, 4.0

_Edges = Sequence[tuple[int, int, str]]


def graph_drawings(figure: Graph) -> dict[str, Drawing]:
    """The network twice: "wide", from left to right, and "tall", from top to bottom, for a narrow page.

    Empty where there is no node, or more than *MOST_EDGES* edges.
    """
    edges = _forward(figure)
    if not figure.nodes or len(edges) > MOST_EDGES:
        return {}
    left_out = len(figure.edges) - len(edges)
    remarks = (f"{left_out:,} of {len(figure.edges):,} edges lead to no later node and are left out.",)
    ways = {"wide": _Way(upright=False, gap=16.0), "tall": _Way(upright=True, gap=11.0)}
    return {name: Drawing(_drawn(figure, edges, way), remarks if left_out else ()) for name, way in ways.items()}


def spoken(figure: Graph) -> str:
    """The edges of *figure* in words."""
    return "; ".join(_spoken(figure, edge) for edge in _forward(figure))


def _spoken(figure: Graph, edge: tuple[int, int, str]) -> str:
    source, target, label = edge
    return f"{figure.nodes[source]} to {figure.nodes[target]}{f': {label}' if label else ''}"


def _forward(figure: Graph) -> list[tuple[int, int, str]]:
    return [edge for edge in figure.edges if 0 <= edge[0] < edge[1] < len(figure.nodes)]


@dataclass(frozen=True)
class _Way:
    """The direction of a drawing: from left to right, or *upright*, from top to bottom."""

    upright: bool
    gap: float

    def size(self, width: float, height: float) -> Size:
        return Size(height, width) if self.upright else Size(width, height)

    def xy(self, along: float, across: float) -> tuple[float, float]:
        return (across + _MARGIN, along + _MARGIN) if self.upright else (along + _MARGIN, across + _MARGIN)

    def extent(self, size: Size) -> tuple[float, float]:
        return (size.across, size.along) if self.upright else (size.along, size.across)

    def point(self, along: float, across: float) -> str:
        return " ".join(map(short, self.xy(along, across)))


def _drawn(figure: Graph, edges: _Edges, way: _Way) -> Markup:
    names = [shortened(name, limit=_NODE_TEXT) for name in figure.nodes]
    labels = [shortened(label, limit=_EDGE_TEXT) for _, _, label in edges]
    box = way.size(max(_LEAST_NODE, *(text_width(name) + _NODE_PADDING for name in names)), _NODE)
    pills = [way.size(text_width(label) + _LABEL_PADDING, _LABEL) if label else None for label in labels]
    layout = lay_out(
        [box] * len(names), [(u, v, pill) for (u, v, _), pill in zip(edges, pills, strict=True)], gap=way.gap
    )
    parts = [
        _edge(way, route, label, tip=_spoken(figure, edge))
        for edge, route, label in zip(edges, layout.routes, labels, strict=True)
    ]
    between = {u for u, _, _ in edges} & {v for _, v, _ in edges}
    for index, (name, spot) in enumerate(zip(names, layout.nodes, strict=True)):
        inner = _boxed(way, spot, name, class_="box inner" if index in between else "box", radius=8)
        parts.append(tag("g", tag("title", figure.nodes[index]), *inner))
    width, height = (math.ceil(extent + 2 * _MARGIN) for extent in way.extent(layout.size))
    return picture(parts, size=(width, height), label=f"{figure.title}: {spoken(figure)}")


def _edge(way: _Way, route: Route, label: str, *, tip: str) -> Markup:
    parts = [tag("title", tip), tag("path", d=_line(way, route)), tag("path", d=_tip(way, route), class_="tip")]
    if route.label is not None:
        parts += _boxed(way, route.label, label, class_="pill", radius=10)
    return tag("g", *parts, class_="edge")


def _line(way: _Way, route: Route) -> str:
    """The path of an edge up to its tip; where it passes no column, it bends once instead of twice."""
    start, one, two, three, four, (along, across) = route.stops
    last = (min(four[0], along - _TIP), across)
    bends = [_bend(way, one, last)]
    if two[0] < three[0]:
        bends = [_bend(way, one, two), f"L{way.point(*three)}", _bend(way, three, last)]
    return "".join([f"M{way.point(*start)}L{way.point(*one)}", *bends, f"L{way.point(along - _TIP, across)}"])


def _bend(way: _Way, start: tuple[float, float], end: tuple[float, float]) -> str:
    middle = (start[0] + end[0]) / 2
    return f"C{way.point(middle, start[1])} {way.point(middle, end[1])} {way.point(*end)}"


def _tip(way: _Way, route: Route) -> str:
    along, across = route.stops[-1]
    base = along - _TIP
    return f"M{way.point(along, across)}L{way.point(base, across - _HALF_TIP)}L{way.point(base, across + _HALF_TIP)}Z"


def _boxed(way: _Way, spot: Spot, text: str, *, class_: str, radius: int) -> list[Markup]:
    x, y = way.xy(spot.along, spot.across)
    width, height = way.extent(spot.size)
    rect = tag("rect", x=x - width / 2, y=y - height / 2, width=width, height=height, rx=radius, class_=class_)
    return [rect, tag("text", text, x=x, y=y + 4.2, text_anchor="middle")]
