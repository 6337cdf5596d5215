from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from et_core.interfaces.figures import Bars, Examples, Figure, Front, Graph, Matrix, Scatter
from et_core.report.data import ReportData, as_number, as_yaml, clean, equal_metrics, series
from et_core.report.front import front_chart
from et_core.report.graph import graph_drawings, spoken
from et_core.report.plots import MAX_POINTS, Line, ceiling, line_chart, scatter_chart, smooth
from et_core.report.svg import Drawing
from et_core.report.tables import headline_split, metric_names, number
from et_core.runfolder import write_text

_MATRIX_LABELS = 30
_WIDE, _SLIM, _SCATTER = (460, 250), (300, 160), (460, 340)
_TILES = 4
_LINES = 6
_CUT, _LONGEST = 320, 20_000
_OPEN_ROWS, _MAX_ROWS = 15, 60
_PAIRS, _BARS = 20, 30
_LONG_FACT = 40
_LINE, _LINES_TOGETHER = 30, 60
_HALF_MATRIX = 440


@dataclass(frozen=True)
class _Plan:
    """A chart to be, and the keys of the history that it shows."""

    title: str
    keys: Sequence[str]
    lines: Sequence[Line]

    @property
    def empty(self) -> bool:
        return not any(np.isfinite(line.values).any() for line in self.lines)

    @property
    def is_curve(self) -> bool:
        return not self.empty and any(len(line.steps) > 1 for line in self.lines)


@dataclass(frozen=True)
class Chart:
    title: str
    drawing: Drawing | None
    legend: tuple[tuple[str, str], ...] = ()


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
    plans = _plans(data)
    charts, slim_charts = _charts([plan for plan in plans if plan.is_curve], best_step=data.best_step)
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
        tiles.append((name, number(values[name]), ", ".join([*others, *_equal_to(equals)])))
    return tiles


def _equal_to(names: Sequence[str]) -> list[str]:
    return [f"equal to {', '.join(names)}"] if names else []


def _table(data: ReportData, left_out: Sequence[_Plan]) -> dict[str, dict[str, float]]:
    """The metrics by split, and what was logged once only and has no curve for that reason."""
    table = {split: dict(values) for split, values in data.metrics.items()}
    for plan in left_out:
        for key in plan.keys:
            values = series(data.history, key).values
            split, _, name = key.partition("/")
            if not _is_measured(key):
                split, name = "train", key if key.startswith("loss") else plan.title.lower()
            if np.isfinite(values).any():
                table.setdefault(split, {}).setdefault(name, float(values[0]))
    return table


def _charts(plans: Sequence[_Plan], *, best_step: int | None) -> tuple[list[Chart], list[Chart]]:
    """The curves in two columns, and the last three as a row of small ones where their number is odd."""
    wide = len(plans) - 3 if len(plans) % 2 and len(plans) > 1 else len(plans)
    charts = [_chart(plan, _WIDE if index < wide else _SLIM, best_step=best_step) for index, plan in enumerate(plans)]
    return charts[:wide], charts[wide:]


def _readings(data: ReportData) -> list[str]:
    """The keys under which an objective logged something of its own beside the loss."""
    keys = dict.fromkeys(key for line in data.history if "loss" in line for key in line)
    return [key for key in keys if "/" in key and key.partition("/")[0] not in ("loss", "dev")]


def _reading_plans(data: ReportData) -> list[_Plan]:
    readings = {key: key.partition("/")[2].replace("_", " ") for key in _readings(data)}
    plans = []
    for key, name in readings.items():
        shared = list(readings.values()).count(name) > 1
        spoken_name = f"{name} ({key.partition('/')[0]})" if shared else name
        lines = _train_lines(data, key, spoken_name, smoothed=False)
        plans.append(_Plan(spoken_name[:1].upper() + spoken_name[1:], [key], lines))
    return plans


def _plans(data: ReportData) -> list[_Plan]:
    keys = list(dict.fromkeys(key for line in data.history for key in line))
    readings = _readings(data)
    measured = [key for key in keys if "/" in key and not key.startswith("loss/") and key not in readings]
    # The loss keeps its chart, whatever equals it: the training loss is there to compare.
    names = sorted((key.partition("/")[2] for key in measured), key=lambda name: name != "loss")
    equal = equal_metrics(data, dict.fromkeys(names))
    measured = [key for key in measured if key.partition("/")[2] in equal]
    losses = [key for key in measured if key.endswith("/loss")]
    scores = [key for key in measured if key not in losses]
    terms = [key for key in keys if key.startswith("loss/")][:_LINES]
    # Only figures on one scale share an axis: a share of 0.9 is invisible beside a perplexity of 40.
    shares = [key for key in scores if np.nanmax(np.abs(series(data.history, key).values), initial=0.0) <= 1.0][:_LINES]
    others = [key for key in scores if key not in shares][:_LINES]
    splits = {key.partition("/")[0] for key in shares}
    only = splits.pop() if len(splits) == 1 else ""
    loss_lines = [*_train_lines(data, "loss", "train"), *_marked(data, losses, equal, first_color=1)]
    term_lines = [line for i, key in enumerate(terms) for line in _train_lines(data, key, key[5:], color=i)]
    speed = _train_lines(data, "tokens_per_second", "tokens per second", smoothed=False)
    return [
        _Plan("Loss", ["loss", *losses], loss_lines),
        _Plan(f"Metrics on {only}" if only else "Metrics", shares, _marked(data, shares, equal, short=bool(only))),
        *(_Plan(_spoken(key), [key], _marked(data, [key], equal)) for key in others),
        _Plan("Terms of the loss", terms, term_lines),
        _Plan("Learning rate", ["lr"], _train_lines(data, "lr", "learning rate", smoothed=False)),
        _Plan("Tokens per second", ["tokens_per_second"], speed),
        _Plan("Gradient norm", ["grad_norm"], _train_lines(data, "grad_norm", "gradient norm")),
    ]


def _chart(plan: _Plan, size: tuple[int, int], *, best_step: int | None) -> Chart:
    named = [line for line in plan.lines if line.role != "raw" and np.isfinite(line.values).any()]
    marked = any(line.role == "marked" for line in named)
    drawing = line_chart(plan.lines, label=plan.title, best_step=best_step if marked else None, size=size)
    legend = tuple((line.name, f"c{line.color}") for line in named if line.name.lower() != plan.title.lower())
    return Chart(plan.title, drawing, legend)


def _train_lines(data: ReportData, key: str, name: str, *, color: int = 0, smoothed: bool = True) -> list[Line]:
    found = series(data.history, key)
    count = len(found.values)
    if not smoothed or count < 40:
        return [Line(name, found.steps, found.values, color)]
    mean = smooth(np.minimum(found.values, ceiling(found.values)), span=min(max(count / 40, 5), MAX_POINTS))
    return [
        Line(name, found.steps, found.values, color, role="raw"),
        Line(f"{name} (smoothed)", found.steps, mean, color),
    ]


def _marked(
    data: ReportData,
    keys: Sequence[str],
    equal: Mapping[str, Sequence[str]],
    *,
    first_color: int = 0,
    short: bool = False,
) -> list[Line]:
    lines = []
    for color, key in enumerate(keys, start=first_color):
        found = series(data.history, key)
        split, _, name = key.partition("/")
        label = split if name == "loss" else name if short else _spoken(key)
        label = ", ".join([label, *_equal_to(equal[name])])
        lines.append(Line(label, found.steps, found.values, color % _LINES, role="marked"))
    return lines


def _spoken(key: str) -> str:
    split, _, name = key.partition("/")
    return f"{name} on {split}"


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
            return {"kind": "front", "title": figure.title, "half": True, "figure": figure, "chart": chart}


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
