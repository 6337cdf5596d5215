from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from et_core.data.encoders import CsvEncoder, Encoder, JsonLinesEncoder, TsvEncoder
from et_core.data.formats import WRITABLE, check_format, format_of
from et_core.data.parquet import ParquetEncoder
from et_core.data.sinks import Sink, open_sink, reported

_ENCODERS: Mapping[str, type[Encoder]] = {
    "tsv": TsvEncoder,
    "csv": CsvEncoder,
    "jsonl": JsonLinesEncoder,
    "parquet": ParquetEncoder,
}


class RowWriter:
    """Writes rows; a context manager, on whose success alone the file gets its name."""

    def __init__(self, sink: Sink, encoder: Encoder) -> None:
        self._sink = sink
        self._encoder = encoder

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add *rows*. DataError where the format cannot hold one, RunFolderError where the disk fails."""
        with reported(self._sink.name):
            self._encoder.write(rows)
            if self._sink.live:
                self._sink.stream.flush()

    def close(self) -> None:
        with reported(self._sink.name):
            self._encoder.finish()
            self._sink.finish()

    def discard(self) -> None:
        """Give up: leave nothing behind."""
        self._encoder.discard()
        self._sink.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        closed = False
        try:
            if kind is None:
                self.close()
                closed = True
        finally:
            if not closed:
                self.discard()


def open_writer(target: str | Path, *, format: str | None = None) -> RowWriter:  # noqa: A002
    """Write rows to *target*, or with "-" to standard output (jsonl, unless *format* says otherwise).

    The extension gives the format, one of tsv, csv, jsonl (each also .gz) and parquet. The first row fixes the columns
    of all but jsonl. The folder must exist. A file is written as ``NAME.partial`` and renamed at the end.
    """
    path = None if str(target) == "-" else Path(target).expanduser()
    if path is None or (format and not path.is_file() and path.exists()):
        name, zipped = check_format(format or "jsonl", known=WRITABLE), False
    else:
        name, zipped = format_of(str(path), known=WRITABLE, chosen=format)
    sink = open_sink(path, zipped=zipped)
    return RowWriter(sink, _ENCODERS[name](sink.stream, sink.name))
