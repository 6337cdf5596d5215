from __future__ import annotations

import errno
import gzip
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from et_core.errors import RunFolderError


class Sink(ABC):
    """Where the bytes of an output go."""

    name: str
    stream: BinaryIO
    live: bool = False
    """Whether a reader may be waiting at the other end."""

    @abstractmethod
    def finish(self) -> None:
        """Make what was written final."""

    @abstractmethod
    def discard(self) -> None:
        """Leave nothing behind, as far as that is possible."""


class FileSink(Sink):
    """Writes ``NAME.partial`` and renames it at the end, so that the final name never shows half a file."""

    def __init__(self, path: Path, *, zipped: bool) -> None:
        self.name = str(path)
        self._path = path.resolve()  # a link stays a link
        self._partial = self._path.with_name(f"{self._path.name}.partial")
        self._file = self._partial.open("wb")
        self.stream = self._file
        if zipped:
            # No name and no time in the header: equal rows give equal bytes.
            self.stream = cast(BinaryIO, gzip.GzipFile("", "wb", 6, self._file, mtime=0))

    def finish(self) -> None:
        if self.stream is not self._file:
            self.stream.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        for stream in (self.stream, self._file):
            with suppress(OSError):
                stream.close()
        with suppress(OSError):
            self._partial.unlink()


class DirectSink(Sink):
    """Standard output, a device or a pipe: what is written is out."""

    live = True

    def __init__(self, path: Path | None, *, zipped: bool) -> None:
        self.name = "standard output" if path is None else str(path)
        self._file = None if path is None else path.open("wb")
        self.stream = sys.stdout.buffer if self._file is None else self._file
        self._target = self.stream
        if zipped:
            self.stream = cast(BinaryIO, gzip.GzipFile("", "wb", 6, self._target, mtime=0))

    def finish(self) -> None:
        if self.stream is not self._target:
            self.stream.close()
        self._target.flush()
        if self._file is not None:
            self._file.close()

    def discard(self) -> None:
        for stream in (self.stream, self._file):
            if stream not in (None, sys.stdout.buffer):
                with suppress(OSError):
                    stream.close()


def open_sink(path: Path | None, *, zipped: bool) -> Sink:
    """Open *path* for writing, or standard output without one; RunFolderError where it cannot be written."""
    if path is None:
        return DirectSink(None, zipped=zipped)
    if path.is_dir():
        raise RunFolderError(f"cannot write {path}: it is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise RunFolderError(
            f"cannot write {path}: there is no folder {path.parent}. Create it: mkdir -p '{path.parent}'"
        )
    with reported(str(path)):
        return (
            DirectSink(path, zipped=zipped) if path.exists() and not path.is_file() else FileSink(path, zipped=zipped)
        )


@contextmanager
def reported(name: str) -> Iterator[None]:
    """Turn failures of the disk into RunFolderError. A closed pipe stays a BrokenPipeError: its reader had enough."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFolderError(f"disk full while writing {name}. Free some space, or write elsewhere.") from error
        raise RunFolderError(f"cannot write {name}: {error.strerror or error}.") from error
