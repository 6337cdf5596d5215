from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from et_core.interfaces.figures import Bars, Examples, Figure, Matrix, Scatter
from et_core.report.data import ReportData, as_number, as_yaml, clean, series
from et_core.report.plots import MAX_POINTS, Drawing, Line, ceiling, line_chart, scatter_chart, smooth
from et_core.report.tables import headline_split, metric_names, number
from et_core.runfolder import write_text

_MATRIX_LABELS = 30
_WIDE, _SLIM, _SCATTER = (420, 240), (340, 170), (420, 320)
_TILES = 4
_LINES = 6
_CUT, _LONGEST = 320, 20_000
_OPEN_ROWS, _MAX_ROWS = 15, 60
_PAIRS, _BARS = 20, 30


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
    charts, slim_charts = _charts(data)
    return {
        "data": data,
        "headline": headline,
        "tiles": _tiles(data.metrics, headline),
        "names": metric_names(data.metrics),
        "number": number,
        "charts": charts,
        "slim_charts": slim_charts,
        "figures": [_view(figure) for figure in data.figures],
        "config": as_yaml(data.config) if data.config else "",
    }


def _tiles(metrics: Mapping[str, Mapping[str, float]], headline: str | None) -> list[tuple[str, str, str]]:
    """Name, figure and small print of the first metrics; the loss comes last."""
    if headline is None:
        return []
    values = metrics[headline]
    names = sorted(values, key=lambda name: name == "loss")
    tiles = []
    for name in names[:_TILES]:
        others = [
            f"{split} {number(found[name])}" for split, found in metrics.items() if split != headline and name in found
        ]
        tiles.append((name, number(values[name]), ", ".join(others)))
    return tiles


def _charts(data: ReportData) -> tuple[list[Chart], list[Chart]]:
    """The curves in two columns, and the last three as a row of small ones where their number is odd."""
    plans = [(title, lines) for title, lines in _curves(data) if any(np.isfinite(line.values).any() for line in lines)]
    wide = len(plans) - 3 if len(plans) % 2 and len(plans) > 1 else len(plans)
    charts = [
        _chart(title, lines, _WIDE if index < wide else _SLIM, best_step=data.best_step)
        for index, (title, lines) in enumerate(plans)
    ]
    return charts[:wide], charts[wide:]


def _curves(data: ReportData) -> list[tuple[str, list[Line]]]:
    keys = list(dict.fromkeys(key for line in data.history for key in line))
    measured = [key for key in keys if "/" in key and not key.startswith("loss/")]
    losses = [key for key in measured if key.endswith("/loss")]
    scores = [key for key in measured if key not in losses]
    terms = [key for key in keys if key.startswith("loss/")][:_LINES]
    # Only figures on one scale share an axis: a share of 0.9 is invisible beside a perplexity of 40.
    shares = [key for key in scores if np.nanmax(np.abs(series(data.history, key).values), initial=0.0) <= 1.0][:_LINES]
    others = [key for key in scores if key not in shares][:_LINES]
    splits = {key.partition("/")[0] for key in shares}
    only = splits.pop() if len(splits) == 1 else ""
    return [
        ("Loss", [*_train_lines(data, "loss", "train"), *_marked(data, losses, first_color=1)]),
        (f"Metrics on {only}" if only else "Metrics", _marked(data, shares, short=bool(only))),
        *((_spoken(key), _marked(data, [key])) for key in others),
        (
            "Terms of the loss",
            [line for i, key in enumerate(terms) for line in _train_lines(data, key, key[5:], color=i)],
        ),
        ("Learning rate", _train_lines(data, "lr", "learning rate", smoothed=False)),
        ("Tokens per second", _train_lines(data, "tokens_per_second", "tokens per second", smoothed=False)),
        ("Gradient norm", _train_lines(data, "grad_norm", "gradient norm")),
    ]


def _chart(title: str, lines: Sequence[Line], size: tuple[int, int], *, best_step: int | None) -> Chart:
    named = [line for line in lines if line.role != "raw" and np.isfinite(line.values).any()]
    marked = any(line.role == "marked" for line in lines)
    drawing = line_chart(lines, label=title, best_step=best_step if marked else None, size=size)
    legend = tuple((line.name, f"c{line.color}") for line in named if line.name.lower() != title.lower())
    return Chart(title, drawing, legend)


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


def _marked(data: ReportData, keys: Sequence[str], *, first_color: int = 0, short: bool = False) -> list[Line]:
    lines = []
    for color, key in enumerate(keys, start=first_color):
        found = series(data.history, key)
        split, _, name = key.partition("/")
        label = split if name == "loss" else name if short else _spoken(key)
        lines.append(Line(label, found.steps, found.values, color % _LINES, role="marked"))
    return lines


def _spoken(key: str) -> str:
    split, _, name = key.partition("/")
    return f"{name} on {split}"


def _view(figure: Figure) -> dict[str, Any]:
    match figure:
        case Matrix():
            return {"kind": "matrix", "title": figure.title, "half": len(figure.labels) <= 4, **_matrix(figure)}
        case Scatter():
            drawing = scatter_chart(figure, size=_SCATTER)
            return {"kind": "scatter", "title": figure.title, "half": True, "figure": figure, "drawing": drawing}
        case Bars():
            return {"kind": "bars", "title": figure.title, "half": len(figure.values) <= 10, **_bars(figure)}
        case Examples():
            return {"kind": "examples", "title": figure.title, "half": False, "figure": figure, **_examples(figure)}


def _matrix(figure: Matrix) -> dict[str, Any]:
    labels = [str(label) for label in figure.labels]
    counts = np.array(figure.counts, dtype=np.int64).reshape(len(labels), len(labels))
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    shares = counts / np.maximum(rows, 1)[:, None]
    wide = len(labels) > _MATRIX_LABELS
    right = counts.diagonal()
    return {
        "labels": labels,
        "total": int(counts.sum()),
        "wrong": int(counts.sum() - right.sum()),
        "cells": [] if wide else _cells(labels, counts, shares),
        "rows": rows.tolist(),
        "recall": [_percent(hit, of) for hit, of in zip(right, rows, strict=True)],
        "precision": [_percent(hit, of) for hit, of in zip(right, columns, strict=True)],
        "pairs": _pairs(labels, counts, shares)[: _PAIRS if wide else _PAIRS // 2] if len(labels) > 8 else [],
    }


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
    wide = [max((len(row[i].text) for row in rows if i < len(row)), default=0) > 40 for i in range(len(figure.columns))]
    numeric = [all(row[i].numeric for row in rows if i < len(row)) for i in range(len(figure.columns))]
    return {
        "rows": rows[:_OPEN_ROWS],
        "more": rows[_OPEN_ROWS:],
        "kinds": [
            "n" if number_column else "wide" if wide_column else ""
            for number_column, wide_column in zip(numeric, wide, strict=True)
        ],
        "left_out": len(figure.rows) - len(rows),
    }


def _cell(value: object) -> Cell:
    if isinstance(value, int | float | np.number):
        return Cell(number(value), numeric=not isinstance(value, bool))
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else number(value)
    if len(text) <= _CUT:
        return Cell(text)
    short = text[:_CUT].rsplit(maxsplit=1)[0] if " " in text[_CUT // 2 : _CUT] else text[:_CUT]
    hidden = len(text) - _LONGEST
    return Cell(short, full=text if hidden <= 0 else f"{text[:_LONGEST]} … and {hidden:,} more characters")
