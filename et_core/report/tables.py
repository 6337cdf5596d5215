from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from rich.table import Table
from rich.text import Text

from et_core.report.data import clean

ABSENT = "–"


def number(value: object) -> str:
    """A figure as people read it: four places, thousands grouped, a dash where there is none."""
    if value is None:
        return ABSENT
    if isinstance(value, np.generic):
        return number(value.item())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return _real(value) if isinstance(value, float) else str(value)


def _real(value: float) -> str:
    size = abs(value)
    if not math.isfinite(size):
        return ABSENT if math.isnan(value) else "∞" if value > 0 else "−∞"
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    return f"{value:,.1f}" if size >= 1000 else f"{value:.4f}"


def metric_names(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The names of all splits' metrics, each once, in the order in which they appear."""
    return list(dict.fromkeys(name for values in metrics.values() for name in values))


def headline_split(metrics: Mapping[str, Mapping[str, float]]) -> str | None:
    """The split whose figures come first: test, which no choice of a checkpoint has flattered, then dev, then any."""
    filled = [split for split, values in metrics.items() if values]
    return next((split for split in ("test", "dev", *filled) if split in filled), None)


def metrics_table(metrics: Mapping[str, Mapping[str, float]], *, title: str | None = None) -> Table:
    """One row a metric and one column a split, for the terminal; the main metric is bold."""
    table = Table(title=Text(clean(title)) if title else None, title_justify="left")
    table.add_column("metric")
    for split in metrics:
        table.add_column(Text(clean(split)), justify="right")
    for index, name in enumerate(metric_names(metrics)):
        cells = [number(values.get(name)) for values in metrics.values()]
        style = "bold" if index == 0 else ""
        table.add_row(Text(clean(name)), *(Text(cell) for cell in cells), style=style)
    return table
