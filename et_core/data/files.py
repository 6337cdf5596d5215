from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from et_core.data.columnar import ColumnarPart
from et_core.data.formats import READABLE, TEXT, ReadOptions, check_format, format_of
from et_core.data.memory import called, memory_part
from et_core.data.parts import Part
from et_core.data.text import DelimitedPart, JsonLinesPart, JsonPart, TextPart
from et_core.errors import DataError
from et_core.registry import close_names, join_or

STDIN = "-"
_LISTED = 10
_TEXT_PARTS: dict[str, type[TextPart]] = {
    "tsv": DelimitedPart,
    "csv": DelimitedPart,
    "jsonl": JsonLinesPart,
    "json": JsonPart,
}


def open_parts(source: Any, options: ReadOptions, *, format_name: str | None) -> tuple[list[Part], str]:
    """The parts that *source* is made of, in order, and how config.yaml describes them."""
    paths = _paths(source)
    if paths is None:
        part = memory_part(source)
        if part is None:
            raise DataError(
                f"cannot read rows from {called(source)}. "
                "Pass a path, a glob, a list of these, a list of dicts, a pandas.DataFrame or a datasets.Dataset."
            )
        rows = part.count()
        return [part], "(in memory)" if rows is None else f"(in memory, {rows} rows)"
    parts = [part for path in paths for part in _parts(path, options, format_name)]
    return parts, ", ".join("(standard input)" if path == STDIN else path for path in paths)


def _paths(source: Any) -> list[str] | None:
    if isinstance(source, (str, os.PathLike)):
        return [os.fspath(source)]
    if isinstance(source, Sequence) and source and isinstance(source[0], (str, os.PathLike)):
        for item in source:
            if not isinstance(item, (str, os.PathLike)):
                raise DataError(f"a list of paths holds {called(item)}: {item!r}.")
        return [os.fspath(item) for item in source]
    return None


def _parts(text: str, options: ReadOptions, chosen: str | None) -> Iterator[Part]:
    if text == STDIN:
        name = check_format(chosen or "jsonl", known=TEXT)
        yield _text_part(None, "standard input", name, zipped=False, options=options)
        return
    for path in _found(text):
        name, zipped = format_of(str(path), known=READABLE, chosen=chosen)
        if name in _TEXT_PARTS:
            yield _text_part(path, str(path), name, zipped=zipped, options=options)
        else:
            yield ColumnarPart(path, name=str(path), format_name=name, zipped=zipped)


def _text_part(path: Path | None, name: str, format_name: str, *, zipped: bool, options: ReadOptions) -> TextPart:
    return _TEXT_PARTS[format_name](path, name=name, format_name=format_name, zipped=zipped, options=options)


def _found(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        return _saved_dataset(path)
    if path.exists():
        return [path]
    if not glob.has_magic(text):
        raise DataError(_missing(path, text))
    files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 absolute patterns too
    found = [file for file in files if file.is_file()]
    if not found:
        raise DataError(f"no file matches {text!r}.{_place(path.parent)}")
    return found


def _saved_dataset(folder: Path) -> list[Path]:
    """The Arrow files of a folder that datasets' ``save_to_disk`` wrote."""
    if (folder / "dataset_dict.json").is_file():
        splits = ", ".join(str(folder / child.parent.name) for child in sorted(folder.glob("*/state.json")))
        raise DataError(f"{folder} holds several splits. Name one of them: {splits}.")
    state = folder / "state.json"
    if not state.is_file():
        raise DataError(f"{folder} is a folder. Name a file, or a glob such as '{folder}/*.tsv'.{_contents(folder)}")
    try:
        return [folder / file["filename"] for file in json.loads(state.read_text("utf-8"))["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{state} is not what datasets' save_to_disk writes: {error!r}. Save it again.") from error


def _missing(path: Path, text: str) -> str:
    if not path.parent.is_dir():
        return f"there is no file {text!r}: there is no folder {str(path.parent)!r}.{_place(path.parent)}"
    children = sorted(child.name for child in path.parent.iterdir())
    # A common extension alone makes names alike.
    near = close_names(path.name, [name for name in children if close_names(_stem(path.name), [_stem(name)])])
    meant = f" Did you mean {join_or(str(path.parent / name) for name in near)}?" if near else ""
    return f"there is no file {text!r}.{meant}{_place(path.parent)}"


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _place(folder: Path) -> str:
    started = "" if folder.is_absolute() else f"\nPaths are relative to {Path.cwd()}."
    return f"{_contents(folder) if folder.is_dir() else ''}{started}"


def _contents(folder: Path) -> str:
    names = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
    if not names:
        return f"\nThe folder {folder} is empty."
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"\nFiles in {folder}: {', '.join(names[:_LISTED])}{more}."
