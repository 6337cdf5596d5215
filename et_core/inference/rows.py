"""Rows on their way into a prediction, and beside one on their way out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from et_core.errors import ConfigError, DataError
from et_core.interfaces import Role


def fields_of(prediction: Any) -> dict[str, Any]:
    """The fields of a prediction that say something; shallow, as a deep copy would cost more than the model."""
    fields = {field.name: getattr(prediction, field.name) for field in dataclasses.fields(prediction)}
    return {name: value for name, value in fields.items() if value is not None}


def merged(kept: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of the input beside what was found; ConfigError where one would replace the other."""
    taken = kept.keys() & fields.keys()
    if taken:
        raise ConfigError(
            f"the input has a column {min(taken)!r} of its own, which the prediction would replace. "
            "Name the columns to keep without it: --keep COLUMN,COLUMN"
        )
    return {**kept, **fields}


def kept_columns(raw: Mapping[str, Any], keep: Sequence[str] | None) -> dict[str, Any]:
    if keep is None:
        return dict(raw)
    missing = [name for name in keep if name not in raw]
    if missing:
        raise ConfigError(f"--keep: the input has no column {missing[0]!r}. Columns: {', '.join(raw)}.")
    return {name: raw[name] for name in keep}


def as_rows(rows: Any, roles: Mapping[str, Role], *, caller: str = "predict") -> Any:
    """Bare texts, and tuples of them, as dicts keyed by *roles*; *caller* is named in messages."""
    if isinstance(rows, str):
        raise DataError(f"{caller} takes a list of texts: write [text] for one.")
    if isinstance(rows, tuple):
        raise DataError(f"{caller} takes a list: write [text, text] for two texts, [(text, text)] for a pair.")
    if isinstance(rows, Iterator) or hasattr(rows, "tolist"):  # a column of pandas, an array of NumPy
        rows = list(rows)
    names = list(roles)
    if isinstance(rows, list) and rows and isinstance(rows[0], str):
        return [{names[0]: text} for text in rows]
    if isinstance(rows, list) and rows and isinstance(rows[0], tuple):
        return [_by_role(texts, names, number) for number, texts in enumerate(rows)]
    return rows


def _by_role(texts: Any, names: Sequence[str], number: int) -> dict[str, Any]:
    if not isinstance(texts, tuple):
        raise DataError(f"in-memory rows[{number}]: a {type(texts).__name__} where the first row is a tuple of texts.")
    if len(texts) > len(names):
        raise DataError(f"in-memory rows[{number}] has {len(texts)} items; the app reads {', '.join(names)}.")
    return dict(zip(names, texts, strict=False))


def speaks_roles(source: Any, columns: Mapping[str, str]) -> bool:
    """Whether rows in memory are keyed by role instead of by the columns that the run was trained on."""
    if not isinstance(source, list) or not source or not isinstance(source[0], Mapping):
        return False
    return any(column not in source[0] and role in source[0] for role, column in columns.items())
