from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from et_core._json import finite
from et_core.errors import ArtifactError, CheckpointError, RunFolderError

MANIFEST = "MANIFEST.json"
_FORMAT = 1
_FULL = {errno.ENOSPC: "disk full", errno.EDQUOT: "disk quota exceeded"}
_UNCHANGED = "What was there before is unchanged. Free some space, then run the same command again."


def write_text(path: Path, text: str) -> None:
    """Replace *path* by *text* in UTF-8: a reader, or a machine that comes back, finds the old file or the new one."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Replace *path* by *value* as indented JSON with null for NaN and infinities, the way ``write_text`` does."""
    write_text(path, json.dumps(finite(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace *path* by *data*, the way ``write_text`` does; its folder must exist. RunFolderError on a full disk."""
    temporary = _beside(path, ".tmp")
    with explain_full_disk(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _fsync(path.parent)


@contextmanager
def staged_folder(
    final: Path, *, manifest: bool = True, needs: int | None = None, advice: str = _UNCHANGED
) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes *final* when the block ends and is removed when it fails.

    *final* never holds a part: a folder that is there already goes to NAME.old, the new one takes its place, then
    NAME.old is removed. A reader finds the whole one of the two through ``current``, also when the writer was killed
    between the renames. Only one process may write *final*. *needs* (bytes) and *advice* are for the RunFolderError
    of a full disk.
    """
    with explain_full_disk(final, needs=needs, advice=advice):
        make_folder(final.parent)
        settle(final)
        folder = _beside(final, ".tmp")
        folder.mkdir()
        try:
            yield folder
            _seal(folder, manifest=manifest)
            _swap_in(folder, final)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def current(final: Path) -> Path:
    """Where the content of the staged folder *final* is: there, or in NAME.old while it is being replaced."""
    old = _beside(final, ".old")
    return old if not final.exists() and old.exists() else final


def settle(final: Path) -> None:
    """Clear away what a killed writer left beside *final*, and put an interrupted replacement back. For its writer."""
    unfinished, old = _beside(final, ".tmp"), _beside(final, ".old")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    if not old.exists():
        return
    if final.exists():
        shutil.rmtree(old)
    else:
        old.rename(final)
        _fsync(final.parent)


def verify(folder: Path, *, requires: Collection[str] = ()) -> None:
    """CheckpointError unless *folder* holds all files of its manifest unaltered, the names in *requires* among them."""
    damage = find_damage(folder, requires=requires)
    if damage:
        raise CheckpointError(f"{folder} cannot be used: {damage}")


def verify_model(folder: Path) -> None:
    """ArtifactError where a file of the model in *folder* is not as its manifest says; other tools write none."""
    if (folder / MANIFEST).is_file() and (damage := find_damage(folder)):
        raise ArtifactError(
            f"{folder} cannot be used: {damage}\n"
            f"Restore the file, or train anew. If it was changed on purpose, remove {folder / MANIFEST}."
        )


def find_damage(folder: Path, *, requires: Collection[str] = ()) -> str:
    """Say what is wrong with *folder* by its manifest, or nothing."""
    if not folder.is_dir():
        return "there is no such folder."
    if not (folder / MANIFEST).is_file():
        return f"it was not finished (no {MANIFEST})."
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return f"{MANIFEST} was altered: it lists no files."
    if manifest.get("format") != _FORMAT:
        return f"{MANIFEST} has the format {manifest.get('format')!r}; this version of et reads {_FORMAT}."
    unlisted = [f"{name} is not listed in {MANIFEST}." for name in requires if name not in manifest["files"]]
    damages = (_file_damage(folder / name, name, entry) for name, entry in manifest["files"].items())
    return next((damage for damage in (*unlisted, *damages) if damage), "")


def make_folder(path: Path) -> None:
    """Create *path* and its parents, each made to last through a power failure."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    _fsync(path.parent)


@contextmanager
def explain_full_disk(path: Path, *, needs: int | None = None, advice: str = _UNCHANGED) -> Iterator[None]:
    """Turn the error of a full disk into a RunFolderError that says what was being written and how much is free."""
    try:
        yield
    except Exception as error:
        what = _full_disk(error)
        if what is None:
            raise
        free = f"{_size_text(shutil.disk_usage(_existing(path)).free)} free"
        room = free if needs is None else f"needs about {_size_text(needs)}, {free}"
        raise RunFolderError(f"{what} while writing {path} ({room}).\n{advice}") from error


def _full_disk(error: Exception) -> str | None:
    if isinstance(error, OSError):
        return None if error.errno is None else _FULL.get(error.errno)
    # safetensors and tokenizers are written in Rust, and hand the number on in their text alone.
    return next((what for number, what in _FULL.items() if f"(os error {number})" in str(error)), None)


def _seal(folder: Path, *, manifest: bool) -> None:
    inside = sorted(folder.rglob("*"))
    files = {path.relative_to(folder).as_posix(): path for path in inside if path.is_file()}
    for path in files.values():
        # safetensors lets nobody but the owner read its files; give them what the umask gave the folder.
        path.chmod(folder.stat().st_mode & 0o666)
        _fsync(path)
    if manifest:
        rows = {name: {"size": path.stat().st_size, "sha256": file_sha256(path)} for name, path in files.items()}
        (folder / MANIFEST).write_text(json.dumps({"files": rows, "format": _FORMAT}, indent=2) + "\n", "utf-8")
        _fsync(folder / MANIFEST)
    for path in (*(path for path in inside if path.is_dir()), folder):
        _fsync(path)


def _swap_in(folder: Path, final: Path) -> None:
    old = _beside(final, ".old")
    replaces = final.exists()
    if replaces:
        final.rename(old)
    try:
        folder.rename(final)
    except OSError:
        if replaces:
            old.rename(final)
        raise
    _fsync(final.parent)
    if replaces:
        shutil.rmtree(old)


def _file_damage(path: Path, name: str, entry: Any) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("size"), int):
        return f"{MANIFEST} was altered: it does not say how long {name} is."
    if not path.is_file():
        return f"{name} is missing."
    size, wanted = path.stat().st_size, entry["size"]
    if size < wanted:
        return f"{name} is truncated: {size} of {wanted} bytes."
    if size > wanted:
        return f"{name} was altered: it has {size} bytes instead of {wanted}."
    try:
        digest = file_sha256(path)
    except OSError as error:
        return f"{name} cannot be read: {error}"
    return "" if digest == entry.get("sha256") else f"{name} was altered: its sha256 is not the one in {MANIFEST}."


def file_sha256(path: Path) -> str:
    """The sha256 of the content of *path*, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _existing(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def _size_text(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
