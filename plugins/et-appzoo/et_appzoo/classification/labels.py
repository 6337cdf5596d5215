from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from et_core.errors import ConfigError
from et_core.interfaces import Row
from et_core.registry import did_you_mean

_FEW_NUMBERS = 10
_MANY_NUMBERS = 50


class Labels:
    """The label names of a task, learned or given, and how a row's value becomes a target."""

    def __init__(
        self, mode: str, *, names: Sequence[str] = (), separator: str = ",", positive: str | None = None
    ) -> None:
        self.mode = mode
        self._positive = positive
        self.names = tuple(names) if positive is None or not names else tuple(self._positive_last(names, "app.labels"))
        self.counts: tuple[int, ...] = ()
        self._separator = separator

    def fit(self, rows: Iterable[Row]) -> None:
        """Collect the names and how often each occurs; numbers sort as numbers, a positive label comes last."""
        counts: Counter[str] = Counter()
        values = 0
        for row in rows:
            values += 1
            if self.mode == "regression":
                self._number(row)
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
        if len(self.names) < 2 and self.mode == "single-label":
            raise ConfigError(
                f"the training data has only the label {self.names[0]!r}: at least two are needed. "
                "Check data.columns.label, or data.limit."
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
        """Single label: index []. Multi-label: 0 or 1 [C]. Regression: number []."""
        if self.mode == "regression":
            return np.asarray(self._number(row), np.float32)
        indices = [self._index(row, name) for name in self._split(row)]
        if self.mode == "single-label":
            return np.asarray(indices[0], np.int64)
        target = np.zeros(len(self.names), np.float32)
        target[indices] = 1
        return target

    def _index(self, row: Row, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError:
            pass
        shown = ", ".join(self.names[:20]) + (f" and {len(self.names) - 20} more" if len(self.names) > 20 else "")
        raise row.error("label", f"holds {name!r}.\nKnown labels: {shown}.{did_you_mean(name, self.names)}")

    def _split(self, row: Row) -> list[str]:
        value = row["label"]
        if self.mode == "multi-label":
            parts = value if isinstance(value, (list, tuple)) else str(value).split(self._separator)
            return list(dict.fromkeys(part for part in (str(part).strip() for part in parts) if part))
        if isinstance(value, (list, tuple)):
            raise row.error("label", f"holds a list: {value!r}.\nFor several labels a row set app.mode=multi-label.")
        name = str(value).strip()
        if not name:
            raise row.error("label", "is empty.\nWrite a label, or leave bad rows out with data.on_bad_row=skip.")
        return [name]

    def _number(self, row: Row) -> float:
        value = row["label"]
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise row.error(
                "label",
                f"holds {value!r}, which is not a number.\nFor names instead of numbers set app.mode=single-label.",
            )
        return number

    def _refuse_numbers(self, counts: Mapping[str, int], values: int) -> None:
        many = min(_MANY_NUMBERS, max(_FEW_NUMBERS, values // 2))
        if self.mode == "single-label" and len(counts) > many and all(map(_is_decimal, counts)):
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
            raise ConfigError(f"app.positive_label is {self._positive!r}. Labels in {where}: {', '.join(names)}.")
        return [*(name for name in names if name != self._positive), self._positive]

    def state(self) -> dict[str, Any]:
        return {"names": list(self.names), "counts": list(self.counts)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.names = tuple(state["names"])
        self.counts = tuple(state["counts"])


def _is_decimal(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
