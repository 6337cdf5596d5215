from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from et_core.interfaces.figures import Bars, Examples, Figure, Front, Graph, Matrix, Scatter
from et_core.report.curves import Plan, charts_of, equal_to, planned
from et_core.report.data import ReportData, as_number, as_yaml, clean, equal_metrics, series
from et_core.report.front import front_chart
from et_core.report.graph import graph_drawings, spoken
from et_core.report.plots import scatter_chart
from et_core.report.tables import headline_split, metric_names, number
from et_core.runfolder import write_text

_MATRIX_LABELS = 30
_SCATTER = (460, 340)
_TILES = 4
_CUT, _LONGEST = 320, 20_000
_OPEN_ROWS, _MAX_ROWS = 15, 60
_PAIRS, _BARS = 20, 30
_LONG_FACT = 40
_LINE, _LINES_TOGETHER = 30, 60
_HALF_MATRIX = 440


@dataclass(frozen=True)
class MatrixCell:
    count: int
    share: float
    shade: float
    right: bool
    tip: str


@dataclass(frozen=True)
class Pair:
    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Cell:
    text: str
    full: str = ""
    numeric: bool = False


def write_report(data: ReportData, path: Path) -> None:
    """Write one HTML file to *path*, whole or not at all. It loads nothing and runs no script."""
    template = environment(autoescape=True).get_template("report.html.j2")
    write_text(path, clean(template.render(_context(data))))


def environment(*, autoescape: bool) -> Environment:
    loader = PackageLoader("et_core.report")
    return Environment(
        loader=loader, autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _context(data: ReportData) -> dict[str, Any]:
    headline = headline_split(data.metrics)
    plans = planned(data)
    charts, slim_charts = charts_of([plan for plan in plans if plan.is_curve], best_step=data.best_step)
    tiles = _tiles(data, headline)
    table = _table(data, [plan for plan in plans if not plan.is_curve])
    names = metric_names(table)
    # Halves stand first, so that they pair up; what needs the width of the page would leave one alone.
    figures = sorted(map(_view, data.figures), key=lambda view: not view["half"])
    return {
        "data": data,
        "headline": headline,
        "tiles": tiles,
        "table": table if len(names) > len(tiles) or table != data.metrics else {},
        "names": names,
        "number": number,
        "charts": charts,
        "slim_charts": slim_charts,
        "figures": figures,
        "long_fact": _LONG_FACT,
        "config": as_yaml(data.config) if data.config else "",
    }


def _tiles(data: ReportData, headline: str | None) -> list[tuple[str, str, str]]:
    """Name, figure and small print of the first metrics, equal ones once; the loss comes last."""
    if headline is None:
        return []
    values = data.metrics[headline]
    names = equal_metrics(data, sorted(values, key=lambda name: name == "loss"))
    tiles = []
    for name, equals in list(names.items())[:_TILES]:
        others = [
            f"{split} {number(found[name])}"
            for split, found in data.metrics.items()
            if split != headline and name in found
        ]
        tiles.append((name, number(values[name]), ", ".join([*others, *equal_to(equals)])))
    return tiles


def _table(data: ReportData, left_out: Sequence[Plan]) -> dict[str, dict[str, float]]:
    """The metrics by split, and what was logged once only and has no curve for that reason."""
    table = {split: dict(values) for split, values in data.metrics.items()}
    for plan in left_out:
        for key, (split, name) in plan.cells.items():
            values = series(data.history, key).values
            if np.isfinite(values).any():
                table.setdefault(split, {}).setdefault(name, float(values[0]))
    return table


def _view(figure: Figure) -> dict[str, Any]:
    match figure:
        case Matrix():
            return {"kind": "matrix", "title": figure.title, **_matrix(figure)}
        case Scatter():
            drawing = scatter_chart(figure, size=_SCATTER)
            return {"kind": "scatter", "title": figure.title, "half": True, "figure": figure, "drawing": drawing}
        case Bars():
            return {"kind": "bars", "title": figure.title, "half": len(figure.values) <= 10, **_bars(figure)}
        case Examples():
            return {"kind": "examples", "title": figure.title, "half": False, "figure": figure, **_examples(figure)}
        case Graph():
            return {"kind": "graph", "title": figure.title, "half": False, "figure": figure, **_graph(figure)}
        case Front():
            chart = front_chart(figure, size=_SCATTER)
            return {"kind": "front", "title": figure.title, "half": False, "figure": figure, "chart": chart}


def _graph(figure: Graph) -> dict[str, Any]:
    return {"drawings": graph_drawings(figure), "edges": spoken(figure)}


def _matrix(figure: Matrix) -> dict[str, Any]:
    labels = [str(label) for label in figure.labels]
    counts = np.array(figure.counts, dtype=np.int64).reshape(len(labels), len(labels))
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    shares = counts / np.maximum(rows, 1)[:, None]
    wide = len(labels) > _MATRIX_LABELS
    right = counts.diagonal()
    turned = len(labels) > 7
    return {
        "labels": labels,
        "half": not turned and _matrix_width(labels) <= _HALF_MATRIX,
        "turned": turned,
        # On a phone, words over narrow columns stand upright as well.
        "upright": max(map(len, labels), default=0) > 4,
        "total": int(counts.sum()),
        "wrong": int(counts.sum() - right.sum()),
        "cells": [] if wide else _cells(labels, counts, shares),
        "rows": rows.tolist(),
        "recall": [_percent(hit, of) for hit, of in zip(right, rows, strict=True)],
        "precision": [_percent(hit, of) for hit, of in zip(right, columns, strict=True)],
        "pairs": _pairs(labels, counts, shares)[: _PAIRS if wide else _PAIRS // 2] if len(labels) > 8 else [],
    }


def _matrix_width(labels: Sequence[str]) -> int:
    """About how many pixels a matrix takes whose labels are not turned: its cells, the labels and two columns more."""
    lengths = [8 * len(label) + 10 for label in labels]
    return sum(min(max(length, 64), 96) for length in lengths) + min(max([*lengths, 88]), 170) + 110


def _cells(labels: Sequence[str], counts: np.ndarray, shares: np.ndarray) -> list[list[MatrixCell]]:
    return [
        [
            MatrixCell(
                count=int(counts[i, j]),
                share=float(shares[i, j]),
                # The square root keeps a confusion of one row in a hundred visible.
                shade=float(shares[i, j] if i == j else np.sqrt(shares[i, j])),
                right=i == j,
                tip=f"true {true}, predicted {predicted}: {counts[i, j]:,} rows, {shares[i, j]:.1%} of {true}",
            )
            for j, predicted in enumerate(labels)
        ]
        for i, true in enumerate(labels)
    ]


def _pairs(labels: Sequence[str], counts: np.ndarray, shares: np.ndarray) -> list[Pair]:
    """The most frequent confusions, the most frequent first."""
    wrong = counts - np.diag(counts.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    places = [(int(flat) // len(labels), int(flat) % len(labels)) for flat in order]
    return [Pair(labels[i], labels[j], int(wrong[i, j]), float(shares[i, j])) for i, j in places if wrong[i, j]]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else number(None)


def _bars(figure: Bars) -> dict[str, Any]:
    values = {name: as_number(value) for name, value in figure.values.items()}
    finite = [abs(value) for value in values.values() if np.isfinite(value)]
    # Shares keep the full scale, so that a bar of 0.9 looks like 0.9 on every page.
    scale = max([*finite, 1.0])
    rows = [(name, value, abs(value) / scale if np.isfinite(value) else 0.0) for name, value in values.items()]
    ordered = len(rows) > _BARS
    if ordered:
        rows.sort(key=lambda row: row[1] if np.isfinite(row[1]) else -np.inf)
    return {"rows": rows[:_BARS], "more": rows[_BARS:], "ordered": ordered}


def _examples(figure: Examples) -> dict[str, Any]:
    rows = [[_cell(value) for value in row] for row in figure.rows[:_MAX_ROWS]]
    columns = [[row[i] for row in rows if i < len(row)] for i in range(len(figure.columns))]
    return {
        "rows": rows[:_OPEN_ROWS],
        "more": rows[_OPEN_ROWS:],
        "kinds": _kinds(columns),
        "left_out": len(figure.rows) - len(rows),
    }


def _kinds(columns: Sequence[Sequence[Cell]]) -> list[str]:
    """The class of each column: numbers, long text, or one line a cell while there is room for the text."""
    lengths = [max((len(cell.text) for cell in column), default=0) for column in columns]
    kinds = [
        "n" if all(cell.numeric for cell in column) else "wide" if length > 40 else ""
        for column, length in zip(columns, lengths, strict=True)
    ]
    room = _LINES_TOGETHER - sum(length for length, kind in zip(lengths, kinds, strict=True) if kind == "n")
    for index in sorted(range(len(kinds)), key=lambda index: lengths[index]):
        if not kinds[index] and lengths[index] <= min(_LINE, room):
            kinds[index] = "line"
            room -= lengths[index]
    return kinds


def _cell(value: object) -> Cell:
    if isinstance(value, int | float | np.number):
        return Cell(number(value), numeric=not isinstance(value, bool))
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else number(value)
    if len(text) <= _CUT:
        return Cell(text)
    short = text[:_CUT].rsplit(maxsplit=1)[0] if " " in text[_CUT // 2 : _CUT] else text[:_CUT]
    hidden = len(text) - _LONGEST
    return Cell(short, full=text if hidden <= 0 else f"{text[:_LONGEST]} … and {hidden:,} more characters")
