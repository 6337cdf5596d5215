"""Files that are made once and kept, by what they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from et_core.errors import DataError

_LIMIT_BYTES = 20 * 2**30


def cache_folder() -> Path:
    """Where encoded data is kept: ``$ET_CACHE_DIR``, else ``~/.cache/et``."""
    return Path(os.environ.get("ET_CACHE_DIR") or Path.home() / ".cache" / "et")


def cached_file(
    folder: str,
    suffix: str,
    key: Any,
    write: Callable[[Path], None],
    *,
    is_whole: Callable[[Path], bool] | Literal[False],
) -> Path:
    """The file for *key* in *folder* of the cache, written once: whole, or not at all.

    *key* holds everything the content depends on, as JSON values. A kept file that *is_whole* refuses is written anew,
    and every one where that is False. The least recently used go when those of a folder exceed 20 GiB together.
    DataError where the folder cannot be written to.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = cache_folder() / folder / f"{digest}{suffix}"
    if is_whole and path.is_file() and is_whole(path):
        path.touch()
        return path
    staged = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _prune(path.parent, suffix)
        write(staged)
        staged.replace(path)
    except OSError as error:
        raise DataError(
            f"encoded data cannot be kept in {path.parent}: {error.strerror or error}. "
            "Free some space there, or set ET_CACHE_DIR to another folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)
    return path


def code_fingerprint(cls: type) -> str:
    """A digest of the source that *cls* and its bases come from: their packages' folders, or their single files.

    A version number would not do: it stays the same while a plugin is being written.
    """
    files: set[Path] = set()
    for base in cls.__mro__[:-1]:
        if base.__module__ in ("abc", "typing"):
            continue
        file = Path(inspect.getfile(base))
        files |= set(file.parent.rglob("*.py")) if (file.parent / "__init__.py").is_file() else {file}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _prune(folder: Path, suffix: str) -> None:
    day_ago = time.time() - 86400
    for leftover, found in _files(folder, ".tmp"):
        if found.st_mtime < day_ago:
            leftover.unlink(missing_ok=True)
    total = 0
    for path, found in sorted(_files(folder, suffix), key=lambda file: file[1].st_mtime, reverse=True):
        total += found.st_size
        if total > _LIMIT_BYTES:
            path.unlink(missing_ok=True)


def _files(folder: Path, suffix: str) -> Iterator[tuple[Path, os.stat_result]]:
    """The files of *folder* with *suffix* that no other process takes away meanwhile."""
    for path in folder.glob(f"*{suffix}"):
        with contextlib.suppress(FileNotFoundError):
            yield path, path.stat()
