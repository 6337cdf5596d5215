from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from et_core.data.files import open_parts
from et_core.data.formats import ReadOptions
from et_core.data.parts import Bad, Part
from et_core.data.roles import Cell, bind, plan_cells, raw_of, values_of
from et_core.data.skipped import Ledger, SkippedRow
from et_core.errors import DataError
from et_core.interfaces.app import Role
from et_core.interfaces.example import Row

log = logging.getLogger("et")


def open_rows(
    source: Any,
    options: ReadOptions,
    *,
    roles: Mapping[str, Role],
    need_targets: bool,
    format: str | None = None,  # noqa: A002
) -> Rows:
    """Open files or data in memory, and check that they can be read and have the columns that *roles* ask for.

    *source* is a path, a glob, a list of these, "-" for standard input, a list of dicts, a pandas.DataFrame or a
    datasets.Dataset. *format* overrides what a file's extension says; standard input is jsonl without it. With
    *need_targets* a row without its target is a bad row; otherwise targets are read where they are.
    """
    options.check()
    cells = plan_cells(options.columns, roles, need_targets=need_targets)
    parts, description = open_parts(source, options, format_name=format)
    rows = Rows(parts, cells, options, description=description)
    rows.check()
    if need_targets and parts[0].count() == 0:
        raise DataError(f"{parts[0].name} has no rows.")
    return rows


class Rows:
    """Rows of a source, read anew at every iteration and never held in memory.

    ``Row.index`` is the position among the usable rows of the whole source. A source that can be read only once
    (standard input, an iterator) has no length and no fingerprint.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        cells: tuple[Cell, ...],
        options: ReadOptions,
        *,
        description: str,
        positions: np.ndarray | None = None,
    ) -> None:
        self._parts = parts
        self._cells = cells
        self._options = options
        self._positions = positions
        self._length = None if positions is None else len(positions)
        self._fingerprint: str | None = None
        self._ledger = Ledger()
        self.description = description
        self.on_skip: Callable[[SkippedRow], None] | None = None
        """Takes each row that an iteration leaves out, in place of ``skipped``."""

    @property
    def skipped(self) -> list[SkippedRow]:
        """The rows that the last iteration left out, the first 1000 of them."""
        return self._ledger.rows

    @property
    def skipped_total(self) -> int:
        return self._ledger.total

    @property
    def files(self) -> list[Path]:
        """The files that are read."""
        return [part.path for part in self._parts if part.path is not None]

    @property
    def once(self) -> bool:
        return any(part.once for part in self._parts)

    def __iter__(self) -> Iterator[Row]:
        self._ledger = Ledger(self.on_skip)
        for row, _ in self._walk(self._ledger, everything=False):
            yield row

    def raw(self) -> Iterator[tuple[Row, dict[str, Any]]]:
        """Rows, each with all columns of its file."""
        self._ledger = Ledger(self.on_skip)
        for row, record in self._walk(self._ledger, everything=True):
            yield row, dict(record)

    def __len__(self) -> int:
        if self.once:
            raise TypeError(f"{self._parts[0].name} can be read only once, so it has no length")
        if self._length is None:
            self._length = self._count()
        return self._length

    def __bool__(self) -> bool:
        return True  # otherwise `if rows` would read a whole file to count it

    def take(self, indices: Iterable[int]) -> list[Row]:
        """The rows at *indices*, which count the rows of this selection, in the order asked for."""
        order = [int(index) for index in indices]
        wanted = set(order)
        found: dict[int, Row] = {}
        walk = self._walk(Ledger(), everything=False) if wanted else iter(())
        for position, (row, _) in enumerate(walk):
            if position in wanted:
                found[position] = row
                if len(found) == len(wanted):
                    break
        if len(found) < len(wanted):
            raise IndexError(f"no row {min(wanted - found.keys())} in {self.description}")
        return [found[index] for index in order]

    def select(self, positions: np.ndarray) -> Rows:
        """The rows at *positions* (strictly ascending, counting the rows of this selection), still streaming."""
        chosen = np.asarray(positions, dtype=np.int64)
        if chosen.ndim != 1 or (chosen[:1] < 0).any() or (np.diff(chosen) <= 0).any():
            raise ValueError("positions must be one-dimensional, non-negative and strictly ascending")
        inside = chosen if self._positions is None else self._positions[chosen]
        return Rows(self._parts, self._cells, self._options, description=self.description, positions=inside)

    def skip(self, row: Row, reason: str) -> None:
        """Leave out *row*, which the caller found to be bad; DataError where the options say to stop at such rows."""
        short = reason.removeprefix(f"{row.where}: ")
        if self._options.on_bad_row == "stop":
            raise DataError(f"{row.where}: {short}")
        self._ledger.add(row.where, short, raw_of(row))

    def fingerprint(self) -> str:
        """A hash of the files' bytes (or the values in memory), of how they are read, and of the selection."""
        if self._fingerprint is None:
            options = self._options
            reading = [options.header, options.column_names, options.separator, options.on_bad_row]
            cells = [(cell.role, cell.column, cell.type.__name__, cell.needed) for cell in self._cells]
            formats = [part.format_name for part in self._parts]
            digest = hashlib.sha256(json.dumps([reading, cells, formats]).encode())
            for part in self._parts:
                part.digest(digest, self._columns)
            if self._positions is not None:
                digest.update(b"selection" + self._positions.astype("<i8").tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def check(self) -> None:
        """DataError where a part lacks a column, has no rows, or starts with a bad row.

        What a part may lack, as pairs may name no query, is told where the user named the column.
        """
        for part in self._parts:
            first = None if part.once else next(self._part(part, 0, Ledger(), everything=False), None)
            if first is None:
                continue
            for cell in self._cells:
                if cell.mapped and cell.role not in first[0].columns:
                    log.warning("%s has no column %r (data.columns.%s)", part.name, cell.column, cell.role)

    @property
    def _columns(self) -> frozenset[str]:
        return frozenset(cell.column for cell in self._cells)

    def _count(self) -> int:
        # With "skip" only reading tells which rows are bad; with "stop" a bad row ends the run anyway.
        counts = [part.count() if self._options.on_bad_row == "stop" else None for part in self._parts]
        known = [count for count in counts if count is not None]
        if len(known) == len(counts):
            return sum(known)
        return sum(1 for _ in self._walk(Ledger(), everything=False))

    def _walk(self, ledger: Ledger, *, everything: bool) -> Iterator[tuple[Row, Mapping[str, Any]]]:
        pairs = self._all(ledger, everything=everything)
        if self._positions is None:
            yield from pairs
            return
        wanted = iter(self._positions)
        target = next(wanted, None)
        for pair in pairs:
            if target is None:
                return
            if pair[0].index == target:
                yield pair
                target = next(wanted, None)
        if target is not None:
            raise DataError(
                f"{self.description} has no row number {target} any more: the data changed since it was opened."
            )

    def _all(self, ledger: Ledger, *, everything: bool) -> Iterator[tuple[Row, Mapping[str, Any]]]:
        index = 0
        for part in self._parts:
            for pair in self._part(part, index, ledger, everything=everything):
                yield pair
                index = pair[0].index + 1
        if self._positions is None:
            self._length = index

    def _part(
        self, part: Part, index: int, ledger: Ledger, *, everything: bool
    ) -> Iterator[tuple[Row, Mapping[str, Any]]]:
        with part.open(None if everything else self._columns) as (columns, records):
            cells = bind(self._cells, part, columns)
            named = {cell.role: cell.column for cell in cells}
            for number, record in records:
                values = record if isinstance(record, Bad) else values_of(cells, record)
                if isinstance(values, Bad):
                    self._leave_out(part.where(number), values, index, ledger)
                elif not isinstance(record, Bad):
                    yield Row(values, where=part.where(number), index=index, columns=named), record
                    index += 1

    def _leave_out(self, where: str, bad: Bad, index: int, ledger: Ledger) -> None:
        if self._options.on_bad_row == "stop":
            raise DataError(f"{where}: {bad.reason}.\n{bad.advice or self._options.remedy}")
        if self._holds(max(index - 1, 0)):
            ledger.add(where, bad.reason, bad.raw)

    def _holds(self, index: int) -> bool:
        """Whether row *index* is selected. A bad row goes with the row before it: of two splits, one counts it."""
        if self._positions is None:
            return True
        place = np.searchsorted(self._positions, index)
        return bool(place < len(self._positions) and self._positions[place] == index)
