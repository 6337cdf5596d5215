from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from markupsafe import Markup

from et_core.interfaces.figures import Scatter
from et_core.report.axes import BOTTOM, TOP, Axes, fit_axes, grid, widen
from et_core.report.data import Floats, as_number
from et_core.report.svg import Drawing, picture, short, tag
from et_core.report.tables import number

MAX_POINTS = 1000
_STRIPS = 60
# An axis spans at least this share of its values: closer up, noise would look like a trend.
_LEAST_SPAN = 0.1
# Of fewer values none counts as a spike.
_SPIKES_FROM = 20


@dataclass(frozen=True)
class Line:
    """A curve over steps. *color* counts the colours of the page's stylesheet; values that are nan leave a gap."""

    name: str
    steps: Floats
    values: Floats
    color: int = 0
    role: Literal["line", "raw", "marked"] = "line"


def line_chart(
    lines: Sequence[Line], *, label: str, best_step: int | None = None, size: tuple[int, int]
) -> Drawing | None:
    """Draw *lines* over a common axis of steps; None where they hold no finite value."""
    lines = [line for line in lines if np.isfinite(line.values).any()]
    if not lines:
        return None
    values = np.concatenate([line.values for line in lines])
    steps = np.concatenate([line.steps for line in lines])
    low, high, cut = _value_range(values[np.isfinite(values)])
    axes = fit_axes(size, x=widen(min(steps.min(), 0.0), steps.max(), share=0.0), y=(low, high))
    best = best_step if best_step is not None and axes.x[0] <= best_step <= axes.x[1] else None
    parts = [grid(axes, first="step "), *(_best_rule(axes, best) if best is not None else ())]
    parts += [_curve(axes, line, best) for line in lines]
    parts.append(_strips(axes, lines))
    remarks = [f"Values above {high:.3g} are cut."] if cut else []
    missing = int(sum((~np.isfinite(line.values)).sum() for line in lines if line.role != "raw"))
    if missing:
        first = min(line.steps[~np.isfinite(line.values)].min(initial=math.inf) for line in lines)
        remarks.append(
            f"{missing:,} {'value is' if missing == 1 else 'values are'} not finite, first at step {first:,.0f}."
        )
    return Drawing(picture(parts, size=size, label=label), tuple(remarks))


def scatter_chart(figure: Scatter, *, size: tuple[int, int]) -> Drawing | None:
    """Draw true against predicted values on the same scale, and where they are equal; None without points."""
    pairs = np.array([(as_number(x), as_number(y)) for x, y in figure.points], dtype=np.float64).reshape(-1, 2)
    finite = pairs[np.isfinite(pairs).all(axis=1)]
    if not len(finite):
        return None
    shown = finite[np.linspace(0, len(finite) - 1, min(len(finite), MAX_POINTS)).astype(int)]
    span = widen(finite.min(), finite.max())
    axes = fit_axes(size, x=span, y=span)
    (x1, x2), (y1, y2) = map(axes.px, span), map(axes.py, span)
    ideal = tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="ideal")
    dots = [tag("circle", cx=axes.px(x), cy=axes.py(y), r=3) for x, y in shown]
    parts = [grid(axes), ideal, tag("g", *dots, class_="dots")]
    remarks = [f"{len(shown):,} of {len(finite):,} points are drawn."] if len(shown) < len(finite) else []
    if len(finite) < len(pairs):
        remarks.append(f"{len(pairs) - len(finite):,} points are not finite.")
    return Drawing(picture(parts, size=size, label=figure.title), tuple(remarks))


def thin(steps: Floats, values: Floats, *, limit: int = MAX_POINTS) -> tuple[Floats, Floats]:
    """Keep about *limit* points. Each stretch keeps its lowest and highest value, so that no spike is lost."""
    if len(values) <= limit:
        return steps, values
    kept: list[int] = []
    for part in np.array_split(np.arange(len(values)), limit // 2):
        finite = part[np.isfinite(values[part])]
        extremes = (
            {int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])}
            if len(finite)
            else {int(part[0])}
        )
        kept += sorted(extremes)
    return steps[kept], values[kept]


def smooth(values: Floats, *, span: float) -> Floats:
    """Exponential mean over about *span* values, without the pull to zero at its start; nan stays nan."""
    rate, mean, weight = 2.0 / (span + 1.0), 0.0, 0.0
    result = np.full(len(values), np.nan)
    for index, value in enumerate(values):
        if np.isfinite(value):
            mean += rate * (value - mean)
            weight += rate * (1.0 - weight)
            result[index] = mean / weight
    return result


def ceiling(values: Floats) -> float:
    """The height at which a curve is cut off: one spike must not press the rest of it into a flat line."""
    finite = values[np.isfinite(values)]
    typical = float(np.quantile(finite, 0.98, method="lower")) if len(finite) >= _SPIKES_FROM else 0.0
    return 1.5 * typical if 0 < 10 * typical < finite.max() else math.inf


def _value_range(values: Floats) -> tuple[float, float, bool]:
    low, high = float(values.min()), float(values.max())
    cut = high > (top := ceiling(values))
    high = min(high, top)
    if 0 <= low < 0.3 * high:
        return 0.0, high * 1.05, cut
    padded_low, padded_high = widen(low, high)
    lacking = _LEAST_SPAN * max(abs(low), abs(high)) - (padded_high - padded_low)
    if lacking > 0:
        padded_low, padded_high = padded_low - lacking / 2, padded_high + lacking / 2
    return padded_low, min(padded_high, 1.0) if low < high <= 1 else padded_high, cut


def _best_rule(axes: Axes, step: int) -> list[Markup]:
    x = axes.px(step)
    anchor = "start" if x < axes.left + 30 else "end" if x > axes.width - 30 else "middle"
    rule = tag("line", x1=x, x2=x, y1=TOP - 4, y2=axes.height - BOTTOM, class_="best")
    return [rule, tag("text", "best", x=x, y=TOP - 8, text_anchor=anchor, class_="best-label")]


def _curve(axes: Axes, line: Line, best: int | None) -> Markup:
    steps, values = thin(line.steps, line.values)
    points = [(axes.px(step), axes.py(value)) for step, value in zip(steps, values, strict=True)]
    parts = [tag("path", d=_path(points), class_=line.role)]
    finite = [(step, point) for step, point in zip(steps, points, strict=True) if np.isfinite(point[1])]
    if len(finite) == 1 or (line.role == "marked" and len(finite) <= _STRIPS):
        parts += [tag("circle", cx=x, cy=y, r=2.5) for _, (x, y) in finite]
    if line.role == "marked":
        parts += [tag("circle", cx=x, cy=y, r=5, class_="ring") for step, (x, y) in finite if step == best]
    return tag("g", *parts, class_=f"c{line.color}")


def _path(points: Sequence[tuple[float, float]]) -> str:
    commands: list[str] = []
    pen = False
    for index, (x, y) in enumerate(points):
        if not math.isfinite(y):
            pen = False
            continue
        alone = not pen and (index + 1 == len(points) or not math.isfinite(points[index + 1][1]))
        commands.append(f"{'L' if pen else 'M'}{short(x)} {short(y)}" + ("h0" if alone else ""))
        pen = True
    return "".join(commands)


def _strips(axes: Axes, lines: Sequence[Line]) -> Markup:
    """Invisible columns whose tooltips read the curves out."""
    edges = np.linspace(*axes.x, _STRIPS + 1)
    parts = []
    for left, right in pairwise(edges.tolist()):
        spoken, last = [], 0.0
        for line in lines:
            inside = (line.steps >= left) & ((line.steps < right) | (line.steps == axes.x[1]) & (right == axes.x[1]))
            if line.role != "raw" and inside.any():
                last = max(last, float(line.steps[inside][-1]))
                spoken.append(f"{line.name} {number(float(line.values[inside][-1]))}")
        if spoken:
            tip = tag("title", "\n".join([f"step {last:,.0f}", *spoken]))
            width = axes.px(right) - axes.px(left)
            parts.append(tag("rect", tip, x=axes.px(left), width=width, y=TOP, height=axes.height - BOTTOM - TOP))
    return tag("g", *parts, class_="strips")
