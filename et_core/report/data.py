from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from et_core.interfaces.figures import Figure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReportData:
    """All that a report and a model card say about a run; every text in it may come from a stranger's data."""

    title: str
    app: str
    model: str
    task_line: str
    command: str
    facts: Mapping[str, str]
    config: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    """Split, then name, then value; the main metric of a split comes first."""
    history: Sequence[Mapping[str, Any]]
    """The lines of metrics.jsonl. Evaluations have keys like ``dev/accuracy``; lines of training have ``loss/NAME`` for
    the terms of the loss, and other ``GROUP/NAME`` for what the objective logs beside it.
    """
    figures: Sequence[Figure]
    notes: Sequence[str] = ()
    model_license: str | None = None
    usage: Mapping[str, str] = field(default_factory=dict)
    """Snippets for the card, by title."""
    best_step: int | None = None
    pipeline_tag: str | None = None
    """The Hub's word for what the app does, such as "text-classification"."""
    base_model: str | None = None
    """The Hub id of the model that training started from, where it has one and *model* does not name it."""


@dataclass(frozen=True)
class Series:
    """The values of one key of the history, in the order of their steps; nan where a value was not finite."""

    steps: Floats
    values: Floats


def series(history: Sequence[Mapping[str, Any]], key: str) -> Series:
    """Return what *history* holds under *key*. A resumed run logs some steps twice: the later line counts."""
    found = {
        as_number(line.get("step")): as_number(line[key])
        for line in history
        if key in line and np.isfinite(as_number(line.get("step")))
    }
    steps = sorted(found)
    return Series(np.array(steps, dtype=np.float64), np.array([found[step] for step in steps], dtype=np.float64))


def equal_metrics(data: ReportData, names: Iterable[str]) -> dict[str, list[str]]:
    """*names* without those that equal an earlier one wherever they were measured, which are listed under that one."""
    measured = _measured(data)
    kept: dict[str, list[str]] = {}
    for name in names:
        twin = next((other for other in kept if _equal(measured.get(other, {}), measured.get(name, {}))), None)
        if twin is None:
            kept[name] = []
        else:
            kept[twin].append(name)
    return kept


def _measured(data: ReportData) -> dict[str, dict[tuple[str, float | None], float]]:
    """Each metric's value by split and step; the value at the end has no step."""
    found: dict[str, dict[tuple[str, float | None], float]] = {}
    for line in data.history:
        step = as_number(line.get("step"))
        for key, value in line.items():
            split, _, name = key.partition("/")
            if name:
                found.setdefault(name, {})[split, step] = as_number(value)
    for split, values in data.metrics.items():
        for name, value in values.items():
            found.setdefault(name, {})[split, None] = as_number(value)
    return found


def _equal(one: Mapping[Any, float], other: Mapping[Any, float]) -> bool:
    left = np.array(list(one.values()), dtype=np.float64)
    if one.keys() != other.keys() or not np.isfinite(left).any():
        return False
    # The same figure computed in two ways (a mean squared error and the loss) differs in its last digits.
    return np.allclose(left, np.array([other[key] for key in one]), rtol=1e-5, atol=1e-9, equal_nan=True)


def as_number(value: object) -> float:
    """*value* as a float, nan where it is none or is not finite."""
    if not isinstance(value, int | float | np.integer | np.floating):
        return float("nan")
    # Nothing that a run measures is that large, and differences of such numbers overflow.
    return float(value) if -1e30 < value < 1e30 else float("nan")


def clean(text: str) -> str:
    """*text* without what no file may hold: lone surrogates and control characters become U+FFFD."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def as_yaml(value: object) -> str:
    """*value* as block YAML; what YAML has no place for (a path, an array) becomes a string or a list."""
    text: str = yaml.safe_dump(_plain(value), sort_keys=False, allow_unicode=True, width=100)
    return text.strip()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return clean(str(value))
