"""Parquet and Arrow files. pyarrow is imported when one is opened: it takes longer to load than most text files."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from et_core.data.class_names import readers_of
from et_core.data.parts import Digest, Opened, Part, Record, check_unique
from et_core.data.text import digest_file, guarded, open_binary
from et_core.errors import DataError

_BATCH = 1024
_PIECE = 1 << 20


class ColumnarPart(Part):
    def __init__(self, path: Path, *, name: str, format_name: str, zipped: bool) -> None:
        self.path: Path = path
        self.name = name
        self.format_name = format_name
        self.zipped = zipped

    def where(self, number: int) -> str:
        return f"{self.name} row {number}"

    def digest(self, digest: Digest, _wanted: Collection[str], /) -> None:
        digest_file(self.path, self.name, digest)

    @contextmanager
    def open(self, wanted: Collection[str] | None, /) -> Iterator[Opened]:
        with self._stream() as stream:
            columns, batches = self._batches(stream, wanted)
            check_unique(columns, self.name)
            yield columns, self._records(batches)

    def count(self) -> int:
        with self._stream() as stream:
            return self._count(stream)

    @contextmanager
    def _stream(self) -> Iterator[IO[bytes]]:
        with open_binary(self.path, self.name) as stream:
            if not self.zipped:
                yield stream
                return
            # These formats are read from several places of the file, for which gzip would start over each time.
            with tempfile.TemporaryFile() as unzipped:
                self._unzip(stream, unzipped)
                yield unzipped

    def _unzip(self, stream: IO[bytes], target: IO[bytes]) -> None:
        with gzip.GzipFile(fileobj=stream) as zipped:
            for piece in guarded(iter(lambda: zipped.read(_PIECE), b""), self.name):
                try:
                    target.write(piece)
                    target.flush()
                except OSError as error:
                    raise DataError(
                        f"{self.name} cannot be unpacked into {tempfile.gettempdir()}: {error.strerror}. "
                        f"Unpack it yourself: gunzip '{self.name}', or set TMPDIR to a folder with more room."
                    ) from error
        target.seek(0)

    def _count(self, stream: Any) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self.format_name == "parquet":
                return int(pq.ParquetFile(stream).metadata.num_rows)
            return sum(batch.num_rows for batch in _arrow(stream)[1])
        except (pa.ArrowException, OSError) as error:
            raise self._corrupt(error) from error

    def _batches(self, stream: Any, wanted: Collection[str] | None) -> tuple[list[str], Iterator[Any]]:
        import pyarrow as pa

        try:
            return _parquet(stream, wanted) if self.format_name == "parquet" else _arrow(stream)
        except (pa.ArrowException, OSError) as error:
            raise self._corrupt(error) from error

    def _records(self, batches: Iterator[Any]) -> Iterator[Record]:
        number = 0
        for batch in self._guarded(batches):
            names = batch.schema.names
            for values in zip(*self._values(batch, number), strict=True):
                number += 1
                yield number, dict(zip(names, values, strict=True))
        if not number:
            raise DataError(f"{self.name} has no rows.")

    def _values(self, batch: Any, before: int) -> list[list[Any]]:
        try:
            columns = {name: column.to_pylist() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
            readers = readers_of(batch.schema.metadata)
            return [[*map(readers[name], values)] if name in readers else values for name, values in columns.items()]
        except (ValueError, OverflowError) as error:  # text that is no UTF-8, a date that Python cannot hold
            rows = f"rows {before + 1} to {before + batch.num_rows}"
            raise DataError(f"{self.name} {rows}: a value cannot be read: {error}. Write the file again.") from error

    def _guarded(self, batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        try:
            yield from batches
        except (pa.ArrowException, OSError) as error:
            raise self._corrupt(error) from error

    def _corrupt(self, error: Exception) -> DataError:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        return DataError(f"{self.name} is no complete {self.format_name} file: {reason}. Fetch or write it again.")


def _parquet(stream: Any, wanted: Collection[str] | None) -> tuple[list[str], Iterator[Any]]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream, page_checksum_verification=True)
    names = file.schema_arrow.names
    # A dot selects inside a struct, so a name that holds one cannot be asked for by itself.
    dotted = wanted is None or any("." in name for name in wanted)
    columns = None if dotted else [name for name in names if name in (wanted or ())]
    return names, file.iter_batches(batch_size=_BATCH, columns=columns)


def _arrow(stream: Any) -> tuple[list[str], Iterator[Any]]:
    import pyarrow as pa

    magic = stream.read(6)
    stream.seek(0)
    if magic == b"ARROW1":
        file = pa.ipc.open_file(stream)
        return file.schema.names, (file.get_batch(index) for index in range(file.num_record_batches))
    reader = pa.ipc.open_stream(stream)
    return reader.schema.names, iter(reader)
