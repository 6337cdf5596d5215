from __future__ import annotations

import csv
import datetime
import io
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, BinaryIO

from et_core._json import finite
from et_core.errors import DataError

_OTHER = "Write .jsonl, which takes rows of any columns."
_TSV_SPACES = str.maketrans("\t\n\r", "   ")


class Encoder(ABC):
    """Writes rows to a stream in one format."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self.name = name

    @abstractmethod
    def write(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def finish(self) -> None:
        """Write what is held back."""
        return

    def discard(self) -> None:
        """Let go of what is held back."""
        return


class Columns:
    """The columns of the first row, which all others are held to."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows = 0
        self.names: list[str] = []
        self._known: set[str] = set()

    def values(self, row: Mapping[str, Any]) -> list[Any]:
        """The values of *row* in the order of the columns, None for one that it lacks."""
        if not self._rows:
            self.names = list(row)
            self._known = set(row)
        self._rows += 1
        if row.keys() - self._known:
            extra = ", ".join(repr(key) for key in row if key not in self._known)
            raise DataError(f"{self._name}: row {self._rows} has columns that the first row lacks: {extra}. {_OTHER}")
        return [row.get(name) for name in self.names]


class JsonLinesEncoder(Encoder):
    """Each row as one object with the keys that it has; NaN and infinities, which JSON lacks, are null."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            text = to_json(dict(row), self.name)
            try:
                data = text.encode()
            except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can hold
                data = json.dumps(json.loads(text)).encode()
            self.stream.write(data + b"\n")


class DelimitedEncoder(Encoder):
    """A header and one line a row. A missing value is empty, a list or dict is JSON."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        super().__init__(stream, name)
        self._columns = Columns(name)
        self._started = False

    @abstractmethod
    def line(self, cells: list[str]) -> str: ...

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            values = self._columns.values(row)
            if not self._started:
                self._started = True
                self._put(self._columns.names)
            self._put([value if isinstance(value, str) else self._cell(value) for value in values])

    def _put(self, cells: list[str]) -> None:
        line = self.line(cells)
        try:
            data = line.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.name}: a value holds {line[error.start]!r}, half of a surrogate pair, which is not text. "
                "Write .jsonl, which escapes it."
            ) from error
        self.stream.write(data)

    def _cell(self, value: Any) -> str:
        if value is None:
            return ""
        plain = value.tolist() if hasattr(value, "tolist") else value
        if isinstance(plain, (bool, int, float)):
            return str(plain)
        text = to_json(plain, self.name, compact=True)
        return str(json.loads(text)) if text.startswith('"') else text


class TsvEncoder(DelimitedEncoder):
    """No quoting and no escapes, as it is read: a tab or a line end inside a value becomes a space."""

    def line(self, cells: list[str]) -> str:
        line = "\t".join(cell.translate(_TSV_SPACES) for cell in cells)
        if not line or (len(cells) == 1 and line.isspace()):
            raise DataError(f"{self.name}: a TSV file of one column cannot hold an empty value. Write .jsonl.")
        return line + "\n"


class CsvEncoder(DelimitedEncoder):
    def line(self, cells: list[str]) -> str:
        text = io.StringIO(newline="")
        # Before Python 3.13 the csv module leaves a lone carriage return unquoted, and then cannot read it back.
        all_quoted = any("\r" in cell for cell in cells)
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL).writerow(
            cells
        )
        return text.getvalue()


def to_json(value: Any, name: str, *, compact: bool = False) -> str:
    separators = (",", ":") if compact else None
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators, default=_plain)
    except ValueError:
        return json.dumps(
            finite(value), ensure_ascii=False, separators=separators, default=lambda item: finite(_plain(item))
        )
    except TypeError as error:
        raise DataError(f"{name}: a value cannot be written as JSON: {error}. Write .parquet instead.") from error


def _plain(value: Any) -> Any:
    """What stands in JSON for a *value* that it has no type for."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (datetime.date, datetime.time, Decimal, uuid.UUID)):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON type")
