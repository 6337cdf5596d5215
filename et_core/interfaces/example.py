from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from et_core.errors import DataError


class Row(dict[str, Any]):
    """One record of a data file, keyed by role ("text", "label", ...), that knows where it was read."""

    __slots__ = ("columns", "index", "where")

    def __init__(
        self, values: Mapping[str, Any], *, where: str = "", index: int = 0, columns: Mapping[str, str] | None = None
    ):
        super().__init__(values)
        self.where = where
        self.index = index
        self.columns = dict(columns or {})

    def error(self, role: str, problem: str) -> DataError:
        """A DataError that names the file, the line and the column that plays *role*."""
        return DataError(f"{self.where}: column {self.columns.get(role, role)!r} {problem}")


@dataclass(frozen=True)
class Example:
    """One encoded window of a row, in NumPy, unpadded.

    *inputs* uses the names of ``Inputs.flatten`` without masks (these follow from the lengths); *targets* are arrays
    of shape [] or [n]; *extra* is what ``App.decode`` needs besides, such as character offsets.
    """

    inputs: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    row: int = 0
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Tokens of the longest text, which is what padding and the token budget go by."""
        return max((len(ids) for name, ids in self.inputs.items() if name.endswith(".ids")), default=1)
