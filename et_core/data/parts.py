from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from et_core.errors import DataError


class Bad(NamedTuple):
    """A record that cannot be used: why, its text as it stands in the file, and what to do."""

    reason: str
    raw: str
    advice: str = ""
    """Empty for that of the options it is read with."""


Record = tuple[int, Mapping[str, Any] | Bad]
"""A record's number (a line or row of its part) and its values by column."""

Opened = tuple[list[str], Iterator[Record]]
"""The columns of a part, and its records."""


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


class Part(ABC):
    """One file of a source, or a collection in memory."""

    exact: ClassVar[bool] = True
    """Whether every record has all columns; otherwise the columns are those of the first records."""

    once: bool = False
    """Whether it can be read one time only."""

    path: Path | None = None
    """Of a file."""

    format_name: str
    name: str
    """As error messages call it."""

    @property
    def headed(self) -> bool:
        """Whether its columns are what its first line says."""
        return False

    @abstractmethod
    def open(self, wanted: Collection[str] | None, /) -> AbstractContextManager[Opened]:
        """Start reading. Records hold at least the columns *wanted* (None: all) that there are.

        DataError where the part as a whole cannot be used; a bad record is given as ``Bad``.
        """

    @abstractmethod
    def where(self, number: int) -> str:
        """Where the record *number* is, for messages."""

    @abstractmethod
    def digest(self, digest: Digest, wanted: Collection[str], /) -> None:
        """Feed the content into *digest*."""

    def count(self) -> int | None:
        """How many records there are, or None where only reading tells."""
        return None


def check_unique(columns: Iterable[str], name: str) -> None:
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise DataError(f"{name}: two columns are called {column!r}. Rename one of them.")
        seen.add(column)


_SAMPLE = 64


def sampled(records: Iterator[Record], *, once: bool) -> Opened:
    """The columns that the first records have between them. A stream is not made to wait for more than one record."""
    head: list[Record] = list(islice(records, 1 if once else _SAMPLE))
    columns = {key: None for _, record in head if not isinstance(record, Bad) for key in record}
    return list(columns), chain(head, records)
