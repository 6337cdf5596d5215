"""Which distributions declare a plugin; nothing of theirs is imported."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint

from et_core.registry.names import normalize
from et_core.registry.plugin import GROUP


@dataclass(frozen=True)
class Found:
    """A distribution and its entry points in the group; *problem* says why they cannot be read."""

    distribution: str
    version: str
    points: tuple[EntryPoint, ...] = ()
    problem: str = ""


def discover() -> list[Found]:
    """Look through sys.path. A distribution that lies there twice (editable and wheel) counts once.

    ``importlib.metadata.entry_points`` would parse every distribution's file and stop at the first malformed one.
    """
    found: dict[str, Found] = {}
    for distribution in importlib.metadata.distributions():
        if not _declares(distribution):
            continue
        name, _ = _identity(distribution)
        imported = _imported(name)
        if imported and _declares(imported):
            found[normalize(name)] = _examine(imported)
    return list(found.values())


def group(points: Iterable[EntryPoint]) -> list[Found]:
    """The same for entry points that are given; those of a second copy of a distribution are left out."""
    first: dict[str, Distribution | None] = {}
    grouped: dict[str, list[EntryPoint]] = {}
    for point in points:
        name = normalize((point.dist and _identity(point.dist)[0]) or point.name)
        if first.setdefault(name, point.dist) is point.dist:
            grouped.setdefault(name, []).append(point)
    return [Found(name, _identity(first[name])[1], tuple(listed)) for name, listed in grouped.items()]


def _declares(distribution: Distribution) -> bool:
    try:
        text = distribution.read_text("entry_points.txt")
    except (OSError, UnicodeDecodeError):
        return False
    return f"[{GROUP}]" in (text or "")


def _imported(name: str) -> Distribution | None:
    """The copy that Python imports, which need not be the first one with an entry point."""
    try:
        return importlib.metadata.distribution(name) if name else None
    except importlib.metadata.PackageNotFoundError:
        return None


def _examine(distribution: Distribution) -> Found:
    name, version = _identity(distribution)
    try:
        points = tuple(distribution.entry_points.select(group=GROUP))
    except (TypeError, ValueError) as error:
        return Found(normalize(name), version, problem=f"has an entry_points.txt that cannot be read: {error}")
    return Found(normalize(name), version, points)


def _identity(distribution: Distribution | None) -> tuple[str, str]:
    """Name and version, at one reading of the metadata, which may be empty after an installation that was cut off."""
    if distribution is None:
        return "", "0"
    fields = distribution.metadata
    return (fields.get_all("Name") or [""])[0], (fields.get_all("Version") or ["0"])[0]
