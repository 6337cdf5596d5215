"""Files of vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from et_core.data import RowWriter, open_writer
from et_core.data.encoders import Encoder
from et_core.data.sinks import open_sink
from et_core.errors import DataError

FORMATS = ("npy", "jsonl", "parquet")
_DIGITS = 8
"""After the point in text: an fp32 number of a vector of unit length has no more."""


class _NpyEncoder(Encoder):
    """NumPy's own format, written row by row; the head, which holds the number of rows, is written again at the end."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        super().__init__(stream, name)
        self._rows = self._width = 0
        self._write_head()

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        vectors = np.stack([row["vector"] for row in rows]).astype("<f4")
        self._rows += len(vectors)
        self._width = vectors.shape[1]
        self.stream.write(vectors.tobytes())

    def finish(self) -> None:
        self.stream.seek(0)
        self._write_head()

    def _write_head(self) -> None:
        # NumPy leaves room in it for any number of rows, so that it keeps its length.
        shape = (self._rows, self._width)
        np.lib.format.write_array_header_1_0(self.stream, {"shape": shape, "fortran_order": False, "descr": "<f4"})


def vector_format(output: str | Path, chosen: str | None) -> str:
    """Of "npy", "jsonl" and "parquet" what *output* is written in: as *chosen*, or as its extension says.

    DataError for another format, and for a .npy file that cannot be completed at its beginning.
    """
    path = Path(output).expanduser()
    stream = str(output) == "-" or (path.exists() and not path.is_file())
    extension = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    name = chosen or ("jsonl" if stream else extension)
    if name not in FORMATS:
        raise DataError(f"{output}: vectors are written as .npy, .jsonl, .jsonl.gz or .parquet.")
    if name == "npy" and (stream or path.name.lower().endswith(".gz")):
        raise DataError(
            f"{output}: a .npy file is completed at its beginning, which a stream or a .gz file does not allow. "
            "Write .jsonl to it."
        )
    return name


def open_vectors(output: str | Path, name: str) -> RowWriter:
    """Write rows that hold a ``vector`` [H] to *output*, in the format *name*."""
    if name != "npy":
        return open_writer(output, format=name)
    sink = open_sink(Path(output).expanduser(), zipped=False)
    return RowWriter(sink, _NpyEncoder(sink.stream, sink.name))


def written(vector: np.ndarray, name: str) -> Any:
    """*vector* as a file of the format *name* holds it; in text with as many digits as it has."""
    return vector.astype(np.float64).round(_DIGITS).tolist() if name == "jsonl" else vector
