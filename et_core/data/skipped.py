from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from et_core.data.sinks import reported
from et_core.data.writers import RowWriter, open_writer

_KEPT = 1000
_RAW_LENGTH = 2000


@dataclass(frozen=True)
class SkippedRow:
    """A row that was left out: where it stands, why, and the start of its text."""

    where: str
    reason: str
    raw: str


@dataclass
class Ledger:
    """The rows that one iteration left out: all of them go to *forward*, or without it the first 1000 are kept."""

    forward: Callable[[SkippedRow], None] | None = None
    total: int = 0
    rows: list[SkippedRow] = field(default_factory=list)

    def add(self, where: str, reason: str, raw: str) -> None:
        self.total += 1
        row = SkippedRow(where, reason, raw[:_RAW_LENGTH])
        if self.forward is not None:
            self.forward(row)
        elif len(self.rows) < _KEPT:
            self.rows.append(row)


class SkippedFile:
    """Rows left out, written to *path* as they occur; on success without any, an earlier file there is removed.

    A context manager. Without a *path* the rows are only counted.
    """

    def __init__(self, path: Path | None) -> None:
        self.total = 0
        self.first: SkippedRow | None = None
        self._path = path
        self._writer: RowWriter | None = None

    @property
    def written(self) -> str | None:
        """The file, once it holds rows."""
        return None if self._writer is None else str(self._path)

    def add(self, row: SkippedRow) -> None:
        self.total += 1
        self.first = self.first or row
        if self._path is None:
            return
        if self._writer is None:
            self._writer = open_writer(self._path, format="jsonl")
        self._writer.write([dataclasses.asdict(row)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, traceback)
        elif kind is None and self._path is not None:
            with reported(str(self._path)):
                self._path.expanduser().unlink(missing_ok=True)
