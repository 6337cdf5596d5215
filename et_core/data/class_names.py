"""Columns of the datasets library whose numbers stand for named classes (ClassLabel), in memory and in its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Read = Callable[[Any], Any]
_METADATA = b"huggingface"


def readers_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, Read]:
    """What makes names of the numbers of a file's columns, by column, from the *metadata* of its Arrow schema."""
    try:
        features = json.loads((metadata or {}).get(_METADATA, b"{}"))["info"]["features"]
        found = {name: reader_of(feature) for name, feature in features.items()}
    except (ValueError, KeyError, TypeError, AttributeError):  # none, or that of another tool
        return {}
    return {name: read for name, read in found.items() if read is not None}


def reader_of(feature: Any) -> Read | None:
    """The same for one column of the type *feature*, an object of datasets or its JSON; None where there are none."""
    if isinstance(feature, list):
        return _of_lists(reader_of(feature[0])) if feature else None
    if (_part(feature, "_type") or type(feature).__name__) == "ClassLabel":
        names = list(_part(feature, "names"))
        return lambda value: _name(names, value)
    inner = _part(feature, "feature")
    return None if inner is None else _of_lists(reader_of(inner))


def _name(names: list[str], value: Any) -> Any:
    """The class *value*; what is no whole number, as other tools leave it under the old description, stays as it is."""
    if type(value) is not int or value >= len(names):
        return value
    # By the convention of datasets, -1 is a row without a label.
    return names[value] if value >= 0 else None


def _part(feature: Any, name: str) -> Any:
    return feature.get(name) if isinstance(feature, Mapping) else getattr(feature, name, None)


def _of_lists(read: Read | None) -> Read | None:
    if read is None:
        return None
    return lambda values: [*map(read, values)] if isinstance(values, list) else values
