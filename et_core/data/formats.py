from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from et_core.config import DataConfig
from et_core.errors import ConfigError, DataError
from et_core.registry import close_names, join_or

DELIMITED: Final = {"tsv": "\t", "csv": ","}
TEXT: Final = (*DELIMITED, "jsonl")
READABLE: Final = (*TEXT, "json", "parquet", "arrow")
WRITABLE: Final = (*TEXT, "parquet")


@dataclass(frozen=True)
class ReadOptions:
    """How to read data files. *header*, *column_names* and *separator* concern tsv and csv alone.

    *columns* maps a role of the app to a column. In a file without a header the columns are *column_names*, or without
    these "0", "1" and so on. *on_bad_row* is "stop" or "skip".
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    header: bool = True
    column_names: tuple[str, ...] = ()
    separator: str | None = None
    on_bad_row: str = "stop"
    remedy: str = "Correct the row, or leave such rows out with data.on_bad_row=skip."
    """What a bad row's error advises."""

    @classmethod
    def of(cls, data: DataConfig) -> ReadOptions:
        """The options that a run's config says."""
        return cls(
            columns=data.columns,
            header=data.header,
            column_names=tuple(data.column_names),
            separator=data.separator,
            on_bad_row=data.on_bad_row,
        )

    def check(self) -> None:
        """ConfigError where the options contradict each other."""
        if self.on_bad_row not in ("stop", "skip"):
            raise ConfigError(f"data.on_bad_row is {self.on_bad_row!r}. It can be 'stop' or 'skip'.")
        if self.header and self.column_names:
            raise ConfigError(
                "data.column_names is for files without a header: set data.header=false, or leave the names out."
            )
        if self.separator == "":
            raise ConfigError("data.separator is empty. Give one, such as ';', or leave it out.")

    def separator_of(self, format_name: str) -> str:
        """What stands between two fields; in YAML a tab is often written as backslash and t."""
        separator = DELIMITED[format_name] if self.separator is None else self.separator.replace("\\t", "\t")
        if format_name == "csv" and len(separator) != 1:
            raise ConfigError(f"data.separator is {self.separator!r}. A csv file takes one character, such as ';'.")
        return separator


def format_of(name: str, *, known: tuple[str, ...], chosen: str | None = None) -> tuple[str, bool]:
    """The format of the file *name* and whether it is gzipped; *chosen* overrides what the extension says."""
    lower = name.lower()
    zipped = lower.endswith(".gz")
    extension = lower.removesuffix(".gz").rpartition("/")[2].rpartition(".")[2]
    found = check_format(chosen, known=known) if chosen else extension
    if found not in known:
        raise DataError(f"{name}: the extension does not say a known format.{_hint(lower, known)}\n{_listing(known)}")
    if zipped and found not in _zippable(known):
        raise DataError(f"{name}: a {found} file is compressed as it is. Write it without .gz: {name[: -len('.gz')]}")
    return found, zipped


def check_format(name: str, *, known: tuple[str, ...]) -> str:
    if name not in known:
        close = close_names(name, known)
        meant = f" Did you mean {join_or(close)}?" if close else ""
        raise DataError(f"unknown format {name!r}.{meant} Known formats: {', '.join(known)}.")
    return name


def _hint(name: str, known: tuple[str, ...]) -> str:
    if name.endswith((".json", ".json.gz")):
        return " A file with one JSON object a line is called .jsonl."
    close = close_names(name.rpartition(".")[2], known)
    return f" Did you mean {join_or('.' + format_name for format_name in close)}?" if close else ""


def _listing(known: tuple[str, ...]) -> str:
    plain = ", ".join(f".{name}" for name in known)
    return f"Known extensions: {plain}, and {', '.join(f'.{name}.gz' for name in _zippable(known))}."


def _zippable(known: tuple[str, ...]) -> tuple[str, ...]:
    return READABLE if known == READABLE else TEXT
