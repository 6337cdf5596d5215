from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from et_core.data.cache import cached_file
from et_core.errors import DataError
from et_core.interfaces import Example

_GROUPS = ("inputs", "targets", "extra")
_FORMAT = 1


class ExampleStore:
    """Encoded examples in a memory-mapped Arrow file: random access without holding them in memory."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        self._chunks = [_Chunk(batch) for batch in table.to_batches() if batch.num_rows]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in self._chunks)])
        nothing = np.zeros(0, np.int64)
        self.lengths = np.concatenate([nothing, *(chunk.lengths for chunk in self._chunks)])
        """Tokens of each example."""

        self._rows = np.concatenate([nothing, *(chunk.rows for chunk in self._chunks)])
        self.starts = np.flatnonzero(np.diff(self._rows, prepend=-1))
        """The position of each row's first example: as many as there are rows."""

        self.origins = self._rows[self.starts]
        """Which row each row was made of: itself, by its number, unless augmentation made it."""

        self._beside: tuple[tuple[ExampleStore, tuple[str, ...]], ...] = ()

    def beside(self, other: ExampleStore, *, leave_out: tuple[str, ...] = ()) -> ExampleStore:
        """These examples with the targets that *other* has for the same rows; DataError where its rows are others.

        Targets whose names begin with one of *leave_out* are not taken.
        """
        if not np.array_equal(self._rows, other._rows):
            raise DataError(
                f"{len(self)} examples of {len(self.starts)} rows cannot be joined with {len(other)} of "
                f"{len(other.starts)}."
            )
        joined = copy.copy(self)
        joined._beside = (*self._beside, (other, leave_out))
        return joined

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"no example {index} among {len(self)}")
        chunk = int(np.searchsorted(self._starts, index, side="right")) - 1
        example = self._chunks[chunk][index - int(self._starts[chunk])]
        if not self._beside:
            return example
        targets = dict(example.targets)
        for other, leave_out in self._beside:
            found = other[index].targets
            targets.update({name: value for name, value in found.items() if not name.startswith(leave_out)})
        return Example(example.inputs, targets, example.row, example.extra)

    @property
    def rows_seen(self) -> int:
        """One more than the highest row number, rows without an example counted."""
        return int(self._rows[-1]) + 1 if len(self._rows) else 0

    def used_ids(self) -> np.ndarray:
        """Every token id that occurs in any text, ascending."""
        found = [np.unique(ids) for chunk in self._chunks for ids in chunk.ids()]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def examples_of(self, rows: np.ndarray) -> np.ndarray:
        """The positions of all examples of *rows*, which count the rows of this store from 0, ascending."""
        wanted = np.zeros(len(self.starts), bool)
        wanted[rows] = True
        return np.flatnonzero(np.repeat(wanted, np.diff(self.starts, append=len(self))))

    def take(self, indices: Iterable[int]) -> list[Example]:
        return [self[int(index)] for index in indices]


class _Chunk:
    def __init__(self, batch: pa.RecordBatch) -> None:
        self.rows = batch.column("row").to_numpy()
        self._columns: list[tuple[str, str, np.ndarray, np.ndarray | None, tuple[int, ...]]] = []
        self.lengths = np.ones(batch.num_rows, np.int64)
        for field in batch.schema:
            group, _, name = field.name.partition(".")
            if group not in _GROUPS:
                continue
            column = batch.column(field.name)
            if not pa.types.is_large_list(field.type):
                self._columns.append((group, name, column.to_numpy(zero_copy_only=False), None, ()))
                continue
            offsets = column.offsets.to_numpy()
            trailing = tuple(json.loads((field.metadata or {}).get(b"shape", b"[]")))
            self._columns.append((group, name, column.values.to_numpy(zero_copy_only=False), offsets, trailing))
            if group == "inputs" and name.endswith(".ids"):
                self.lengths = np.maximum(self.lengths, np.diff(offsets))

    def __len__(self) -> int:
        return len(self.rows)

    def ids(self) -> list[np.ndarray]:
        return [values for group, name, values, _, _ in self._columns if group == "inputs" and name.endswith(".ids")]

    def __getitem__(self, index: int) -> Example:
        found: dict[str, dict[str, np.ndarray]] = {group: {} for group in _GROUPS}
        for group, name, values, offsets, trailing in self._columns:
            if offsets is None:
                found[group][name] = values[index]
            else:
                flat = values[offsets[index] : offsets[index + 1]]
                found[group][name] = flat.reshape(-1, *trailing) if trailing else flat
        return Example(found["inputs"], found["targets"], int(self.rows[index]), found["extra"])


def write_store(path: Path, chunks: Iterator[list[Example]]) -> None:
    """Write *chunks* of examples to *path*; DataError unless their fields are alike but for the first axis."""
    writer: Any = None
    schema: Any = None
    with pa.OSFile(str(path), "wb") as sink:
        for examples in chunks:
            if not examples:
                continue
            batch = _record_batch(examples)
            if writer is None:
                schema = batch.schema
                writer = pa.ipc.new_file(sink, schema)
            elif not schema.equals(batch.schema, check_metadata=True):
                raise DataError(_difference(schema, batch.schema))
            writer.write_batch(batch)
        if writer is None:
            writer = pa.ipc.new_file(sink, pa.schema([pa.field("row", pa.int64())]))
        writer.close()


def _record_batch(examples: Sequence[Example]) -> pa.RecordBatch:
    fields = [pa.field("row", pa.int64())]
    columns: list[pa.Array] = [pa.array([example.row for example in examples], pa.int64())]
    for group in _GROUPS:
        names = getattr(examples[0], group).keys()
        for example in examples:
            if getattr(example, group).keys() != names:
                raise DataError(
                    f"the encoded examples differ in their {group}: {_listed(names)} in the first ones, "
                    f"{_listed(getattr(example, group))} for row {example.row}. All have the same."
                )
        for name in names:
            arrays = [np.asarray(getattr(example, group)[name]) for example in examples]
            field, column = _column(f"{group}.{name}", arrays)
            fields.append(field)
            columns.append(column)
    return pa.record_batch(columns, schema=pa.schema(fields))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _difference(schema: pa.Schema, other: pa.Schema) -> str:
    for first, later in zip(schema, other, strict=False):
        if not first.equals(later, check_metadata=True):
            one, two = (
                f"{f.name} ({f.type}, {(f.metadata or {}).get(b'shape', b'[]').decode()})" for f in (first, later)
            )
            return f"the encoded examples differ in their fields: {one} in the first ones, {two} in later ones."
    return f"the encoded examples have {len(schema)} fields in the first ones, {len(other)} in later ones."


def _column(name: str, arrays: list[np.ndarray]) -> tuple[pa.Field, pa.Array]:
    first = arrays[0].shape
    for array in arrays:
        if array.ndim != len(first) or array.shape[1:] != first[1:]:
            raise DataError(
                f"{name} is of shape {list(array.shape)} where the first is {list(first)}: "
                "encoded examples may differ in their first axis alone."
            )
    if arrays[0].ndim == 0:
        values = pa.array(np.stack(arrays))
        return pa.field(name, values.type), values
    trailing = arrays[0].shape[1:]
    flat = pa.array(np.concatenate([array.reshape(-1) for array in arrays]))
    offsets = np.cumsum([0, *(array.size for array in arrays)])
    column = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)
    return pa.field(name, column.type, metadata={"shape": json.dumps(trailing)}), column


def cached_store(
    key: Mapping[str, Any], build: Callable[[], Iterator[list[Example]]], *, reuse: bool = True
) -> ExampleStore:
    """The store for *key*, built once, or anew without *reuse*; one that cannot be read is built anew.

    *key* holds everything the examples depend on, as JSON values, the content of the data included.
    """
    path = cached_file(
        "encoded", ".arrow", [_FORMAT, key], lambda staged: write_store(staged, build()), is_whole=reuse and _opens
    )
    return ExampleStore(path)


def _opens(path: Path) -> bool:
    try:
        ExampleStore(path)
    except (pa.ArrowInvalid, OSError):
        return False  # written as the machine went down
    return True
