"""How names are compared, sorted and suggested."""

from __future__ import annotations

import re
from collections.abc import Iterable


def normalize(distribution: str) -> str:
    """The canonical spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts "name-2" before "name-10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def close_names(name: str, known: Iterable[str], *, count: int = 2, cutoff: float = 0.6) -> list[str]:
    """The *known* names most like *name*, whatever its case, best first."""
    import difflib  # only an error path needs it, and every command would pay for it

    by_lower = {candidate.lower(): candidate for candidate in known}
    return [by_lower[found] for found in difflib.get_close_matches(name.lower(), by_lower, n=count, cutoff=cutoff)]


def did_you_mean(name: str, known: Iterable[str], count: int = 1) -> str:
    """ " Did you mean 'this'?", to follow a sentence that refuses *name*; empty if nothing *known* is like it."""
    close = close_names(name, known, count=count)
    return f" Did you mean {join_or(close)}?" if close else ""


def join_or(names: Iterable[str]) -> str:
    return " or ".join(repr(name) for name in names)
