from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from et_core.data.parts import Bad, Part
from et_core.errors import ConfigError, DataError
from et_core.interfaces.app import Role
from et_core.interfaces.example import Row
from et_core.registry import close_names, join_or

_LISTED = 30


class Cell(NamedTuple):
    """What is read from one column."""

    role: str
    column: str
    type: type
    needed: bool
    """Whether a row without a value is a bad row."""

    mapped: bool
    """Whether the user named the column."""

    target: bool


def plan_cells(columns: Mapping[str, str], roles: Mapping[str, Role], *, need_targets: bool) -> tuple[Cell, ...]:
    """One cell a role; a role without an entry in *columns* reads the column of its own name."""
    for role in columns:
        if role not in roles:
            close = close_names(role, roles)
            meant = f" Did you mean data.columns.{close[0]}?" if close else ""
            raise ConfigError(f"data.columns.{role}: the app reads no {role!r}.{meant} It reads: {', '.join(roles)}.")
    return tuple(
        Cell(
            role=name,
            column=str(columns.get(name, name)),
            type=role.type,
            needed=role.required and (need_targets or not role.target),
            mapped=name in columns and (need_targets or not role.target),
            target=role.target,
        )
        for name, role in roles.items()
    )


def bind(cells: tuple[Cell, ...], part: Part, columns: list[str]) -> tuple[Cell, ...]:
    """The *cells* that *part* has columns for; DataError where a column is missing."""
    if not columns and part.count() == 0:
        return ()  # as an empty list, whose rows would have had all columns
    if not part.exact:
        # Its first rows may lack a column that later ones have, so only what every row needs must be among them.
        for cell in cells:
            if columns and cell.needed and cell.column not in columns:
                raise DataError(_missing(cell, part, columns, cells))
        return cells
    for cell in cells:
        if (cell.needed or (cell.mapped and not cell.target)) and cell.column not in columns:
            raise DataError(_missing(cell, part, columns, cells))
    return tuple(cell for cell in cells if cell.column in columns)


def values_of(cells: tuple[Cell, ...], record: Mapping[str, Any]) -> dict[str, Any] | Bad:
    """The values of *record* by role; a role without a value is left out."""
    values = {}
    for role, column, kind, needed, _, _ in cells:
        value = record.get(column)
        if value is None:
            if needed:
                absent = "is null" if column in record else "is missing"
                return Bad(f"column {column!r} {absent}, but {role!r} needs a value", raw_of(record))
        elif kind is str and type(value) is not str:
            if isinstance(value, (list, dict, tuple, bytes)):
                return Bad(f"column {column!r} holds a {type(value).__name__}, but {role!r} is text", raw_of(record))
            values[role] = str(value)
        else:
            values[role] = value
    return values


def raw_of(record: Mapping[str, Any] | Row) -> str:
    return json.dumps(dict(record), ensure_ascii=False, default=str)


def _missing(cell: Cell, part: Part, columns: list[str], cells: tuple[Cell, ...]) -> str:
    taken = {other.column for other in cells if other is not cell}
    setting = f"data.columns.{cell.role}"
    asked = f" ({setting})" if cell.mapped else f", which the app reads as its {cell.role!r}"
    close = [name for name in close_names(cell.column, columns) if name not in taken]
    header = ""
    if close:
        advice = f" Did you mean {join_or(close)}?" + ("" if cell.mapped else f" Then set {setting}={close[0]}.")
    elif len(columns) == 1 and (separator := _other_separator(columns[0])):
        advice = (
            f" Its only column is {columns[0]!r}: if {separator!r} separates columns, set data.separator={separator!r}."
        )
    else:
        advice = f" Say which column plays that role: {setting}=COLUMN."
        header = "\nIf the first line is a row and not a header: data.header=false." if part.headed else ""
    listed = ", ".join(columns[:_LISTED]) + (f", and {len(columns) - _LISTED} more" if len(columns) > _LISTED else "")
    return f"{part.name} has no column {cell.column!r}{asked}.{advice}\nColumns: {listed}.{header}"


def _other_separator(column: str) -> str | None:
    return next((mark for mark in (";", "\t", "|", ",") if mark in column), None)
