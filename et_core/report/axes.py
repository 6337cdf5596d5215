from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from et_core.report.svg import tag

TOP, RIGHT, BOTTOM = 20, 12, 26
_CHARACTER = 7.0
# More numbers than these do not fit below the narrowest drawing.
_LOG_TICKS = 7


@dataclass(frozen=True)
class Axes:
    """What places values on a drawing; with *log*, x has a logarithmic scale and must be above zero."""

    width: int
    height: int
    left: float
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    def px(self, value: float) -> float:
        low, high = map(self._scaled, self.x)
        return self.left + (self._scaled(value) - low) / (high - low) * (self.width - self.left - RIGHT)

    def py(self, value: float) -> float:
        share = (min(max(value, self.y[0]), self.y[1]) - self.y[0]) / (self.y[1] - self.y[0])
        return self.height - BOTTOM - share * (self.height - BOTTOM - TOP)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value


def fit_axes(size: tuple[int, int], *, x: tuple[float, float], y: tuple[float, float], log: bool = False) -> Axes:
    """Axes over the ranges *x* and *y*, with room at the left for the numbers of y."""
    labels = [_tick(value) for value in ticks(*y, count=4)]
    return Axes(*size, left=10 + _CHARACTER * max((len(text) for text in labels), default=0), x=x, y=y, log=log)


def widen(low: float, high: float, *, share: float = 0.06) -> tuple[float, float]:
    """The range from *low* to *high* and a margin on both sides, never empty."""
    low, high = float(low), float(high)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = 0.1 * abs(low)
        return (low - margin, high + margin) if margin else (0.0, 1.0)
    return low - share * (high - low), high + share * (high - low)


def ticks(low: float, high: float, *, count: int) -> list[float]:
    """About *count* round numbers between *low* and *high*, which must differ."""
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10, 20) if factor * magnitude >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between *low* and *high*, evenly spread over a logarithmic scale that spans a factor of 10."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    finest = [[float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]]
    coarser = [[float(f"1e{power}") for power in powers if power % every == 0] for every in range(1, len(powers) + 1)]
    inside = [[value for value in values if low <= value <= high] for values in (*finest, *coarser)]
    return next(values for values in inside if len(values) <= _LOG_TICKS)


def grid(axes: Axes, *, first: str = "") -> Markup:
    """The lines and numbers of both axes; *first* stands before the first step, where the x axis counts steps."""
    right, bottom = axes.width - RIGHT, axes.height - BOTTOM
    parts = []
    for value in ticks(*axes.y, count=4):
        y = axes.py(value)
        parts.append(tag("line", x1=axes.left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", _tick(value), x=axes.left - 6, y=y + 4, text_anchor="end"))
    marks = log_ticks(*axes.x) if axes.log else ticks(*axes.x, count=max(2, axes.width // 90))
    for index, value in enumerate([mark for mark in marks if not first or mark.is_integer()]):
        x = axes.px(value)
        anchor = "start" if first and not index else "end" if x > right - 12 else "middle"
        parts.append(tag("text", (first if not index else "") + _tick(value), x=x, y=bottom + 18, text_anchor=anchor))
    return tag("g", *parts)


def _tick(value: float) -> str:
    size = abs(value)
    for limit, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= limit:
            return f"{value / unit:.4g}{letter}"
    if size == 0 or size >= 1e-3:
        return f"{value:.6g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
