from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from et_core.interfaces.figures import Front, Point
from et_core.report.axes import BOTTOM, RIGHT, Axes, fit_axes, grid, widen
from et_core.report.data import as_number
from et_core.report.plots import MAX_POINTS
from et_core.report.svg import Drawing, picture, short, shortened, tag, text_width
from et_core.report.tables import number

_MARKS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z",
    "M-4.5-4.5h9v9h-9Z",
    "M0-6L5.8 4.6H-5.8Z",
    "M0-6.3L6.3 0L0 6.3L-6.3 0Z",
    "M0 6L5.8-4.6H-5.8Z",
    "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4Z",
)
"""Shapes around 0, of about one area, in the order of groups."""

_COLORS = 6
_RING = 9
_LOG_FROM = 10.0
_CALLOUT = 30


@dataclass(frozen=True)
class FrontRow:
    """A point in the table below the drawing, with the *mark* of its group."""

    mark: Markup
    label: str
    x: str
    y: str
    chosen: bool
    remark: str


@dataclass(frozen=True)
class FrontChart:
    """*keys* are what the marks of the drawing mean, *chosen* the labels of the points that have a ring, and *log* says
    that x has a logarithmic scale.
    """

    drawing: Drawing
    keys: tuple[tuple[Markup, str], ...]
    chosen: str
    log: bool
    rows: tuple[FrontRow, ...]


def front_chart(figure: Front, *, size: tuple[int, int]) -> FrontChart | None:
    """Draw the points of *figure*, and their front as steps; None where no point has both an x and a y."""
    points = [replace(point, x=as_number(point.x), y=as_number(point.y)) for point in figure.points]
    points = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if not points:
        return None
    front, chosen = unbeaten(points), [point for point in points if point.chosen]
    on_front = set(front)
    marks = _marks(points)
    axes = _fitted(points, size)
    shown = _thinned(points, {*front, *chosen})
    parts = [grid(axes), tag("path", d=_steps(axes, front), class_="steps")]
    parts += [_marked(axes, point, marks[point.group], figure, beaten=point not in on_front) for point in shown]
    for point in chosen:
        parts += [_ring(axes.px(point.x), axes.py(point.y)), _callout(axes, point, shown, front)]
    label = f"{figure.title}: {len(points):,} points, {len(front):,} of them on the front"
    return FrontChart(
        Drawing(picture(parts, size=size, label=label), _remarks(len(figure.points), len(points), len(shown))),
        _keys(marks, chosen=bool(chosen)),
        ", ".join(point.label for point in chosen),
        axes.log,
        tuple(_row(point, marks[point.group], on_front=point in on_front) for point in _listed(front, chosen)),
    )


def unbeaten(points: Sequence[Point]) -> list[Point]:
    """The Pareto front, by x, where a smaller x and a larger y are better: the points that no other beats in one of
    both without being beaten in the other. Equal points beat neither.
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not found or point.y > found[-1].y or (point.x, point.y) == (found[-1].x, found[-1].y):
            found.append(point)
    return found


def _marks(points: Sequence[Point]) -> dict[str, Markup]:
    """A mark for each group, in the order in which they appear."""
    groups = dict.fromkeys(point.group for point in points)
    return {
        group: tag("path", d=_MARKS[index % len(_MARKS)], class_=f"mark c{index % _COLORS}")
        for index, group in enumerate(groups)
    }


def _fitted(points: Sequence[Point], size: tuple[int, int]) -> Axes:
    x, y = np.array([(point.x, point.y) for point in points], dtype=np.float64).T
    log = bool(x.min() > 0 and x.max() > _LOG_FROM * x.min())
    low, high = widen(*(math.log10(end) if log else end for end in (x.min(), x.max())))
    return fit_axes(size, x=(10**low, 10**high) if log else (low, high), y=widen(y.min(), y.max(), share=0.1), log=log)


def _thinned(points: Sequence[Point], kept: set[Point]) -> list[Point]:
    """As many of *points* as a drawing bears, and all that are *kept*: these come last, on top of the others."""
    others = [point for point in points if point not in kept]
    places = np.linspace(0, len(others) - 1, min(len(others), MAX_POINTS)).astype(int)
    last = sorted((point for point in points if point in kept), key=lambda point: point.chosen)
    return [*(others[place] for place in places), *last]


def _steps(axes: Axes, front: Sequence[Point]) -> str:
    """The best y that is to be had for an x: from the floor up to the first point, and past the last to the edge."""
    commands = [f"M{short(axes.px(front[0].x))} {short(axes.py(axes.y[0]))}"]
    commands += [f"H{short(axes.px(point.x))}V{short(axes.py(point.y))}" for point in front]
    return "".join([*commands, f"H{axes.width - RIGHT}"])


def _marked(axes: Axes, point: Point, mark: Markup, figure: Front, *, beaten: bool) -> Markup:
    tip = "\n".join(
        [point.label, point.group, f"{figure.x_label}: {number(point.x)}", f"{figure.y_label}: {number(point.y)}"]
    )
    place = f"translate({short(axes.px(point.x))} {short(axes.py(point.y))})"
    return tag("g", tag("title", tip), mark, transform=place, class_="beaten" if beaten else "unbeaten")


def _ring(x: float, y: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=_RING, class_="chosen")


def _callout(axes: Axes, point: Point, points: Sequence[Point], front: Sequence[Point]) -> Markup:
    """The label of *point*, beside it on the side where it fits and covers the least."""
    text = shortened(point.label, limit=_CALLOUT)
    x, y, width = axes.px(point.x), axes.py(point.y), text_width(text)
    marks = [(axes.px(other.x), axes.py(other.y)) for other in points if other != point]
    corners = [(axes.px(other.x), axes.py(other.y)) for other in front]
    rises = [(b[0], (a[1], b[1])) for a, b in pairwise([(corners[0][0], axes.height), *corners])]

    def trouble(anchor: str, baseline: float) -> tuple[float, int]:
        left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
        right, top, bottom = left + width, baseline - 12, baseline + 4
        outside = max(0.0, axes.left - left, right - axes.width, -top, bottom - axes.height + BOTTOM)
        covered = sum(left - 6 < a < right + 6 and top - 6 < b < bottom + 6 for a, b in marks)
        crossed = sum(left < a < right and low > top and high < bottom for a, (low, high) in rises)
        return outside, 2 * covered + crossed

    sides = [(anchor, baseline) for baseline in (y - 15, y + 24) for anchor in ("end", "start", "middle")]
    anchor, baseline = min(sides, key=lambda side: trouble(*side))
    return tag("text", text, x=x, y=baseline, text_anchor=anchor, class_="callout")


def _remarks(given: int, finite: int, shown: int) -> tuple[str, ...]:
    left_out = given - finite
    verb = "is" if left_out == 1 else "are"
    found = [f"{left_out:,} of {given:,} points without a finite x or y {verb} left out."] if left_out else []
    return (*found, f"{shown:,} of {finite:,} points are drawn.") if shown < finite else tuple(found)


def _keys(marks: Mapping[str, Markup], *, chosen: bool) -> tuple[tuple[Markup, str], ...]:
    ring = [(_key(_ring(0, 0)), "chosen")] if chosen else []
    line = tag("path", d="M-10 0H10", class_="steps")
    return (*((_key(mark), group) for group, mark in marks.items()), (_key(line), "front"), *ring)


def _key(mark: Markup) -> Markup:
    return tag("svg", mark, viewBox="-10 -10 20 20", aria_hidden="true", class_="key-mark")


def _listed(front: Sequence[Point], chosen: Sequence[Point]) -> list[Point]:
    return sorted(dict.fromkeys([*front, *chosen]), key=lambda point: (point.x, -point.y))


def _row(point: Point, mark: Markup, *, on_front: bool) -> FrontRow:
    remark = ("chosen" if on_front else "chosen, not on the front") if point.chosen else ""
    return FrontRow(_key(mark), point.label, number(point.x), number(point.y), point.chosen, remark)
