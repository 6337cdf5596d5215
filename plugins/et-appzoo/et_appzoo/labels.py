from __future__ import annotations

import ast
import io
import json
import math
import tokenize
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from et_core.errors import ConfigError
from et_core.interfaces import Row
from et_core.registry import did_you_mean

_FEW_NUMBERS = 10
_MANY_NUMBERS = 50
_LISTED = 20
_LONGEST = 40
_MISSING = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "null", "none", "-", "?"})
_SKIP = "leave bad rows out with data.on_bad_row=skip."


class Labels:
    """The label names of a task, learned or given, and how a row's value becomes a target."""

    def __init__(
        self, mode: str, *, names: Sequence[str] = (), separator: str = ",", positive: str | None = None
    ) -> None:
        self.mode = mode
        self._positive = positive
        self.names = tuple(names) if positive is None or not names else tuple(self._positive_last(names, "app.labels"))
        self.counts: tuple[int, ...] = ()
        self.range: tuple[float, float] | None = None
        """Regression: the least and the greatest number of the training rows."""

        self._separator = separator

    def fit(self, rows: Iterable[Row]) -> None:
        """Collect the names and how often each occurs; numbers sort as numbers, a positive label comes last."""
        counts: Counter[str] = Counter()
        values = 0
        self.range = None
        for row in rows:
            values += 1
            if self.mode == "regression":
                number = self._number(row)
                low, high = self.range or (number, number)
                self.range = min(low, number), max(high, number)
            else:
                self.check(row)
                counts.update(self._split(row))
        if self.mode == "regression" or not values:
            return
        if not self.names:
            self._refuse_numbers(counts, values)
            self.names = tuple(self._sorted(counts))
        if not self.names:
            raise ConfigError("no row of the training data has a label. Check data.columns.label.")
        self.counts = tuple(counts[name] for name in self.names)
        if len(self.names) < 2 and self.mode != "multi-label":
            raise ConfigError(
                f"the training data has only the label {self.names[0]!r}: at least two are needed. "
                "Check data.columns.label, and whether data.limit, or the share that data.dev holds out, "
                "took the rows with others."
            )

    def check(self, row: Row) -> None:
        """Raise ``Row.error`` if the row's label cannot be read, or is none of the names where these are known."""
        if self.mode == "regression":
            self._number(row)
            return
        for name in self._split(row):
            if self.names:
                self._index(row, name)

    def target(self, row: Row) -> np.ndarray:
        """Single label and graded: index []. Multi-label: 0 or 1 [C]. Regression: number []."""
        if self.mode == "regression":
            return np.asarray(self._number(row), np.float32)
        indices = [self._index(row, name) for name in self._split(row)]
        if self.mode != "multi-label":
            return np.asarray(indices[0], np.int64)
        target = np.zeros(len(self.names), np.float32)
        target[indices] = 1
        return target

    def _index(self, row: Row, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError:
            pass
        raise row.error(
            "label",
            f"holds {_cut(name)!r}.\nKnown labels: {shown(self.names)}.{did_you_mean(name, self.names)}\n"
            f"Correct it, or {_SKIP}",
        )

    def _split(self, row: Row) -> list[str]:
        value = row["label"]
        if self.mode == "multi-label":
            names = (self._name(part) for part in self._parts(row))
            return list(dict.fromkeys(name for name in names if name))
        if isinstance(value, (list, tuple)):
            raise row.error(
                "label",
                f"holds a list: {value!r}.\nFor several labels a row set app=classification and app.mode=multi-label.",
            )
        if self.mode == "graded":
            return [grade(self._number(row))]
        _refuse_object(row, value)
        name = self._name(value)
        if not name:
            raise row.error("label", f"is empty.\nWrite a label, or {_SKIP}")
        return [name]

    def _parts(self, row: Row) -> Sequence[Any]:
        """The labels of a list, of text that is a list written out, or of text with separators."""
        value = row["label"]
        if not isinstance(value, str):
            parts = value if isinstance(value, (list, tuple)) else [value]
            for part in parts:
                _refuse_object(row, part)
            return parts
        text = value.strip()
        if not (text.startswith("[") and text.endswith("]")):
            return text.split(self._separator)
        found = _read_list(text)
        if found is None:
            raise row.error(
                "label",
                f"holds {_cut(text)!r}, which is no list of labels.\n"
                f'Write ["red", "blue"], or labels with {self._separator!r} between them, or {_SKIP}',
            )
        return found

    def _name(self, value: Any) -> str:
        name = "" if value is None else str(value).strip()
        # pandas makes 0.0 and 1.0 of whole numbers where one of a column is missing.
        if isinstance(value, float) and value.is_integer() and name not in self.names:
            return str(int(value))
        return name

    def _number(self, row: Row) -> float:
        value = row["label"]
        number = math.nan
        if not isinstance(value, bool):
            with suppress(TypeError, ValueError, OverflowError):
                number = float(value)
        if math.isfinite(number):
            return number
        text = "" if value is None else str(value).strip()
        if not text:
            raise row.error("label", f"is empty.\nWrite a number, or {_SKIP}")
        if text.lower() in _MISSING:
            raise row.error("label", f"holds {value!r}, which stands for no value.\nWrite a number, or {_SKIP}")
        raise row.error(
            "label",
            f"holds {value!r}, which is not a number.\n"
            f"For names instead of numbers set app.mode=single-label, or {_SKIP}",
        )

    def _refuse_numbers(self, counts: Mapping[str, int], values: int) -> None:
        many = min(_MANY_NUMBERS, max(_FEW_NUMBERS, values // 2))
        if self.mode != "multi-label" and len(counts) > many and all(map(_is_decimal, counts)):
            raise ConfigError(
                f"the label column holds {len(counts)} different numbers in {values} rows. "
                "To predict a number set app.mode=regression; to treat them as names give app.labels."
            )

    def _sorted(self, names: Iterable[str]) -> list[str]:
        found = list(names)
        numeric = all(_is_decimal(name) for name in found)
        ordered = sorted(found, key=(lambda name: (float(name), name)) if numeric else None)
        return ordered if self._positive is None else self._positive_last(ordered, "the training data")

    def _positive_last(self, names: Sequence[str], where: str) -> list[str]:
        if self._positive not in names:
            raise ConfigError(f"app.positive_label is {self._positive!r}. Labels in {where}: {shown(names)}.")
        return [*(name for name in names if name != self._positive), self._positive]

    def state(self) -> dict[str, Any]:
        learned: dict[str, Any] = {"names": list(self.names), "counts": list(self.counts)}
        return learned if self.range is None else {**learned, "range": list(self.range)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.names = tuple(state["names"])
        self.counts = tuple(state["counts"])
        low, high = state.get("range", (None, None))
        self.range = None if low is None else (low, high)


def grade(number: float) -> str:
    """The name of the grade *number*: the same however the data spells it, 1, 1.0 or 01."""
    return str(int(number)) if number.is_integer() else repr(number)


def _refuse_object(row: Row, value: Any) -> None:
    if isinstance(value, (Mapping, list, tuple)):
        raise row.error(
            "label", f"holds {_cut(str(value))!r}, which is no label.\nWrite a name or a number, or {_SKIP}"
        )


def _is_decimal(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def shown(names: Sequence[str]) -> str:
    """The first of *names* for a message: long ones cut, those with a comma or a space in quotes."""
    cut = [_cut(name) for name in names[:_LISTED]]
    listed = ", ".join(repr(name) if "," in name or len(name.split()) != 1 else name for name in cut)
    return listed + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."


def _read_list(text: str) -> list[Any] | None:
    """The labels of a list as ``et predict`` or pandas writes it into a cell; None if it is none."""
    for read in (json.loads, _read_python):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = read(text)
            if isinstance(found, list) and all(isinstance(item, (str, int, float)) for item in found):
                return found
    return None


def _read_python(text: str) -> Any:
    found = ast.literal_eval(text)
    written = sum(token.type == tokenize.STRING for token in tokenize.generate_tokens(io.StringIO(text).readline))
    if written != sum(isinstance(item, str) for item in found):
        raise ValueError("Python makes one text of two without a comma, as in NumPy's ['red' 'blue']")
    return found
