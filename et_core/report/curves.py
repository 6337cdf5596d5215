from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from et_core.report.data import ReportData, equal_metrics, series
from et_core.report.plots import MAX_POINTS, Line, ceiling, line_chart, smooth
from et_core.report.svg import Drawing

_WIDE, _SLIM = (460, 250), (300, 160)
_LINES = 6
_TRAIN = "train"


@dataclass(frozen=True)
class Plan:
    """A chart to be. *cells* are the keys of the history that it shows, and where the table of metrics has a value that
    was logged once only: (column, row).
    """

    title: str
    cells: Mapping[str, tuple[str, str]]
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


def charts_of(plans: Sequence[Plan], *, best_step: int | None) -> tuple[list[Chart], list[Chart]]:
    """The curves in two columns, and the last three as a row of small ones where their number is odd."""
    wide = len(plans) - 3 if len(plans) % 2 and len(plans) > 1 else len(plans)
    charts = [_chart(plan, _WIDE if index < wide else _SLIM, best_step=best_step) for index, plan in enumerate(plans)]
    return charts[:wide], charts[wide:]


def planned(data: ReportData) -> list[Plan]:
    """What the history of a run has for charts, empty or not."""
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
    shares_title = f"Metrics on {only}" if only else "Metrics"
    loss_lines = [*_train_lines(data, "loss", "train"), *_marked(data, losses, equal, first_color=1)]
    term_lines = [line for i, key in enumerate(terms) for line in _train_lines(data, key, key[5:], color=i)]
    return [
        Plan("Loss", {"loss": (_TRAIN, "loss"), **_by_split(losses)}, loss_lines),
        Plan(shares_title, _by_split(shares), _marked(data, shares, equal, short=bool(only))),
        *(Plan(_spoken(key), _by_split([key]), _marked(data, [key], equal)) for key in others),
        Plan("Terms of the loss", {key: (_TRAIN, key) for key in terms}, term_lines),
        *(_of_training(data, key, name) for key, name in readings.items()),
        _of_training(data, "lr", "learning rate"),
        _of_training(data, "tokens_per_second", "tokens per second"),
        _of_training(data, "grad_norm", "gradient norm", smoothed=True),
    ]


def _readings(data: ReportData) -> dict[str, str]:
    """The keys of what an objective logged beside the loss, and what they are called, each by another name."""
    logged = dict.fromkeys(key for line in data.history if "loss" in line for key in line)
    parts = [key.partition("/") for key in logged if "/" in key]
    names = {(group, name): name.replace("_", " ") for group, _, name in parts if group not in ("loss", "dev")}
    spoken = list(names.values())
    return {
        f"{group}/{name}": said if spoken.count(said) == 1 else f"{said} of {group}"
        for (group, name), said in names.items()
    }


def _by_split(keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    return {key: (key.partition("/")[0], key.partition("/")[2]) for key in keys}


def _of_training(data: ReportData, key: str, name: str, *, smoothed: bool = False) -> Plan:
    lines = _train_lines(data, key, name, smoothed=smoothed)
    return Plan(name[:1].upper() + name[1:], {key: (_TRAIN, name)}, lines)


def _chart(plan: Plan, size: tuple[int, int], *, best_step: int | None) -> Chart:
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
        label = ", ".join([label, *equal_to(equal[name])])
        lines.append(Line(label, found.steps, found.values, color % _LINES, role="marked"))
    return lines


def _spoken(key: str) -> str:
    split, _, name = key.partition("/")
    return f"{name} on {split}"


def equal_to(names: Sequence[str]) -> list[str]:
    return [f"equal to {', '.join(names)}"] if names else []
