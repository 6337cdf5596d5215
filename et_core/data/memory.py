"""Data that is already in memory. pandas and datasets are known by their names, so that neither is imported."""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from et_core.data.class_names import reader_of
from et_core.data.parts import Bad, Digest, Opened, Part, Record, check_unique, sampled
from et_core.errors import DataError

_BATCH = 1000
_ROWS = "A row is a dict, such as {'text': ...}. Run.predict also takes texts, and pairs as tuples: ('...', '...')."


class MemoryPart(Part):
    """Any iterable of mappings; a subclass knows its columns beforehand."""

    exact = False
    format_name = "memory"
    name = "the data in memory"

    def __init__(self, source: Any) -> None:
        self.source = source
        self.once = isinstance(source, Iterator)
        self._used = False

    def where(self, number: int) -> str:
        return f"in-memory rows[{number}]"

    def count(self) -> int | None:
        return len(self.source) if isinstance(self.source, Sized) else None

    @contextmanager
    def open(self, _wanted: Collection[str] | None, /) -> Iterator[Opened]:
        if self.once and self._used:
            raise DataError("an iterator can be read only once: pass a list of its rows.")
        self._used = True
        yield sampled(_mappings(self.source), once=self.once)

    def digest(self, digest: Digest, wanted: Collection[str], /) -> None:
        if self.once:
            raise DataError("an iterator has no fingerprint: pass a list of its rows.")
        columns = sorted(wanted)
        with self.open(wanted) as (_, records):
            for _, record in records:
                if not isinstance(record, Bad):
                    values = [record.get(column) for column in columns]
                    digest.update(json.dumps(values, default=_hashed).encode() + b"\n")


class FramePart(MemoryPart):
    """A pandas.DataFrame."""

    exact = True

    @contextmanager
    def open(self, wanted: Collection[str] | None, /) -> Iterator[Opened]:
        columns = [str(column) for column in self.source.columns]
        check_unique(columns, self.name)
        yield columns, self._records(columns, wanted)

    def _records(self, columns: list[str], wanted: Collection[str] | None) -> Iterator[Record]:
        places = [place for place, column in enumerate(columns) if wanted is None or column in wanted]
        names = [columns[place] for place in places]
        for number, values in enumerate(self.source.iloc[:, places].itertuples(index=False, name=None)):
            yield number, {name: _plain(value) for name, value in zip(names, values, strict=True)}


class DatasetPart(MemoryPart):
    """A datasets.Dataset. Where a column is of the type ClassLabel, its values are the names of the classes."""

    exact = True

    @contextmanager
    def open(self, wanted: Collection[str] | None, /) -> Iterator[Opened]:
        columns = list(self.source.column_names)
        yield columns, self._records(columns, wanted)

    def _records(self, columns: list[str], wanted: Collection[str] | None) -> Iterator[Record]:
        names = [column for column in columns if wanted is None or column in wanted]
        readers = {name: reader_of(self.source.features[name]) for name in names}
        number = 0
        for batch in self.source.with_format(None).select_columns(names).iter(batch_size=_BATCH):
            read = (batch[name] if reader is None else map(reader, batch[name]) for name, reader in readers.items())
            for values in zip(*read, strict=True):
                yield number, dict(zip(names, values, strict=True))
                number += 1


def memory_part(source: Any) -> MemoryPart | None:
    """A part for data in memory, or None where *source* is something else."""
    if isinstance(source, Mapping):
        keys = ", ".join(repr(key) for key in list(source)[:10])
        raise DataError(
            f"the data is one {type(source).__name__} with the keys {keys}. Pass a list of rows, or one of these."
        )
    if _is_a(source, "pandas", "DataFrame"):
        return FramePart(source)
    if _is_a(source, "datasets", "Dataset"):
        return DatasetPart(source)
    return MemoryPart(source) if isinstance(source, Iterable) else None


def _is_a(source: Any, package: str, name: str) -> bool:
    return any(base.__name__ == name and base.__module__.partition(".")[0] == package for base in type(source).__mro__)


def _mappings(source: Iterable[Any]) -> Iterator[Record]:
    for number, record in enumerate(source):
        if isinstance(record, Mapping):
            yield number, record
        else:
            yield number, Bad(f"{called(record)} where a row is expected", repr(record), _ROWS)


def called(value: Any) -> str:
    """The type of *value*, for messages."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


def _plain(value: Any) -> Any:
    """None for what pandas calls missing, and Python's own types for NumPy's."""
    if (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value.tolist() if hasattr(value, "tolist") else value


def _hashed(value: Any) -> str:
    return sha256(pickle.dumps(value)).hexdigest()
