from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from et_core.data.encoders import Columns, Encoder
from et_core.errors import DataError

_ROW_GROUP = 8192


class ParquetEncoder(Encoder):
    """Row groups of 8192 rows. The first one fixes the types; a later value that would change is refused."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        super().__init__(stream, name)
        self._columns = Columns(name)
        self._held: list[list[Any]] = []
        self._writer: Any = None

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            self._held.append(self._columns.values(row))
            if len(self._held) == _ROW_GROUP:
                self._flush()

    def finish(self) -> None:
        if self._held or self._writer is None:
            self._flush()
        self._writer.close()

    def discard(self) -> None:
        if self._writer is not None:
            # Otherwise its destructor tries to write the rest, when nobody can catch what fails.
            self._writer.is_open = False

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = self._columns.names
        columns = list(zip(*self._held, strict=True)) if self._held else [() for _ in names]
        arrays = [self._array(name, values) for name, values in zip(names, columns, strict=True)]
        if self._writer is None:
            schema = pa.schema([pa.field(name, _filled(array.type)) for name, array in zip(names, arrays, strict=True)])
            self._writer = pq.ParquetWriter(self.stream, schema, write_page_checksum=True)
        schema = self._writer.schema
        fitted = [self._fitted(array, schema.field(place)) for place, array in enumerate(arrays)]
        self._writer.write_table(pa.Table.from_arrays(fitted, schema=schema), row_group_size=_ROW_GROUP)
        self._held.clear()

    def _array(self, name: str, values: Sequence[Any]) -> Any:
        import pyarrow as pa

        try:
            array = pa.array(values)
        except (pa.ArrowException, UnicodeError, OverflowError, TypeError) as error:
            raise self._refusal(name, f"values that no one type holds ({error})") from error
        if pa.types.is_binary(array.type) and any(isinstance(value, str) for value in values):
            raise self._refusal(name, "text and bytes")
        return array

    def _fitted(self, array: Any, field: Any) -> Any:
        import pyarrow as pa

        if not _fits(array.type, field.type):
            raise self._refusal(field.name, f"{array.type} after rows of {field.type}")
        try:
            return array.cast(field.type)
        except pa.ArrowException as error:
            raise self._refusal(
                field.name, f"values that are no {field.type} as in the rows before ({error})"
            ) from error

    def _refusal(self, name: str, problem: str) -> DataError:
        return DataError(f"{self.name}: column {name!r} holds {problem}. Write .jsonl, which takes values of any type.")


def _filled(kind: Any) -> Any:
    """*kind* with text in place of a type that is not known because all values so far were missing."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_filled(kind.value_type))
    if pa.types.is_struct(kind):
        # Parquet has no struct without fields.
        return pa.struct([pa.field(part.name, _filled(part.type)) for part in kind] or [pa.field("_", pa.string())])
    return kind


def _fits(kind: Any, wanted: Any) -> bool:
    """Whether a cast from *kind* to *wanted* can only widen; Arrow itself would cut fractions and drop fields."""
    import pyarrow as pa

    if kind == wanted or pa.types.is_null(kind):
        return True
    if pa.types.is_list(kind) and pa.types.is_list(wanted):
        return _fits(kind.value_type, wanted.value_type)
    if pa.types.is_struct(kind) and pa.types.is_struct(wanted):
        places = [wanted.get_field_index(part.name) for part in kind]
        return all(
            place >= 0 and _fits(part.type, wanted.field(place).type) for place, part in zip(places, kind, strict=True)
        )
    if pa.types.is_integer(kind):
        return bool(pa.types.is_integer(wanted) or pa.types.is_floating(wanted))
    return bool(pa.types.is_floating(kind) and pa.types.is_floating(wanted))
