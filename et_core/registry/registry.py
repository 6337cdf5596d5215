from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar

from et_core.errors import AmbiguousNameError, UnknownNameError
from et_core.registry.entry import Entry
from et_core.registry.kinds import Kind

T = TypeVar("T")


class Registry(Generic[T]):
    """The names of one kind. Only ``get`` and ``create`` import anything, and only the target that was asked for."""

    def __init__(self, kind: Kind, entries: Iterable[Entry] = (), *, hint: Callable[[Kind, str], str | None] | None = None):
        self.kind = kind
        self._entries = tuple(entries)
        self._hint = hint

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All rows that are registered, in the order of their names, also those that another one replaces."""
        return tuple(sorted(self._entries, key=lambda entry: (natural_key(entry.name), entry.distribution)))

    def names(self, pattern: str = "*") -> list[str]:
        """The names that match a shell *pattern*, in natural order ("bert-2" before "bert-10"), without aliases."""
        found = {entry.name for entry in self._entries if fnmatchcase(entry.name, pattern)}
        return sorted(found, key=natural_key)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._candidates(name))

    def find(self, name: str) -> Entry:
        """Return what is known about *name* without importing it; *name* may be qualified as ``distribution/name``."""
        candidates = self._candidates(name)
        if not candidates:
            raise UnknownNameError(self._unknown(name))
        if len(candidates) > 1:
            raise AmbiguousNameError(self._ambiguous(name, candidates))
        return candidates[0]

    def get(self, name: str) -> type[T]:
        """Import what *name* stands for and check that it is what this kind asks for."""
        found: type[T] = self.find(name).load()
        return found

    def create(self, name: str, **kwargs: Any) -> T:
        """Build the component that *name* stands for."""
        return self.get(name)(**kwargs)

    def _candidates(self, name: str) -> list[Entry]:
        distribution, _, bare = name.rpartition("/")
        found = [
            entry
            for entry in self._entries
            if bare in (entry.name, *entry.aliases) and distribution in ("", entry.distribution)
        ]
        if distribution:
            return found
        replaced = {entry.replaces for entry in found}
        kept = [entry for entry in found if entry.distribution not in replaced]
        # Two plugins that replace each other cancel out: the user has to choose, not the order of loading.
        return kept or found

    def _ambiguous(self, name: str, candidates: list[Entry]) -> str:
        width = max(len(entry.qualified) for entry in candidates)
        rows = [f"  {entry.qualified:<{width}}   ({entry.provider})" for entry in sorted(candidates, key=lambda e: e.qualified)]
        return (
            f"{self.kind.name} {name!r} is registered by {len(candidates)} installed plugins. "
            "Say which one, or uninstall the other:\n" + "\n".join(rows)
        )

    def _unknown(self, name: str) -> str:
        lines = [f"unknown {self.kind.name} {name!r}."]
        hint = self._hint(self.kind, name.rpartition("/")[2]) if self._hint else None
        known = sorted({n for entry in self._entries for n in (entry.name, *entry.aliases)}, key=natural_key)
        if hint:
            lines.append(hint)
        elif close := close_names(name, known):
            lines.append(f"Did you mean {join_or(close)}?")
        lines.append(self._listing(name))
        return "\n".join(lines)

    def _listing(self, name: str) -> str:
        names = self.names()
        if not names:
            return f"No installed plugin registers any {self.kind.name}. Run 'et plugins list'."
        if len(names) <= _FEW:
            return f"Registered {self.kind.plural}: {', '.join(names)}."
        near = close_names(name, names, count=5, cutoff=0.0)
        return f"{len(names)} {self.kind.plural} are registered, among them {', '.join(near)}. See: et list {self.kind.plural}"


_FEW = 20


def natural_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def close_names(name: str, known: Iterable[str], *, count: int = 2, cutoff: float = 0.6) -> list[str]:
    """The *known* names most like *name*, best first."""
    import difflib  # only an error path needs it, and every command would pay for it

    return difflib.get_close_matches(name, list(known), n=count, cutoff=cutoff)


def join_or(names: Iterable[str]) -> str:
    return " or ".join(repr(name) for name in names)
