from __future__ import annotations

import warnings
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Generic, Protocol, TypeVar

from et_core.errors import AmbiguousNameError, UnknownNameError
from et_core.registry.entry import Entry
from et_core.registry.kinds import Kind
from et_core.registry.names import close_names, did_you_mean, natural_key, normalize

T = TypeVar("T")

_FEW = 20


class Hints(Protocol):
    """What else is known about a name that is not registered."""

    def explain(self, kind: Kind, name: str) -> str | None: ...

    def unusable(self) -> str | None: ...


class Registry(Generic[T]):
    """The names of one kind. Only ``get`` and ``create`` import anything, and only the target that was asked for."""

    def __init__(self, kind: Kind, entries: Iterable[Entry] = (), *, hints: Hints | None = None) -> None:
        self.kind = kind
        self._entries = tuple(entries)
        self._hints = hints

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
        candidates = self._candidates(name) if isinstance(name, str) else []
        if not candidates:
            raise UnknownNameError(self._unknown(name))
        if len(candidates) > 1:
            raise AmbiguousNameError(self._ambiguous(name, candidates))
        return candidates[0]

    def get(self, name: str) -> type[T]:
        """Import what *name* stands for and check that it is what this kind asks for."""
        entry = self.find(name)
        if entry.deprecated is not None:
            text = f"{self.kind.name} {entry.name!r} from {entry.provider} is deprecated: {entry.deprecated}"
            warnings.warn(text, FutureWarning, stacklevel=2)
        found: type[T] = entry.load()
        return found

    def create(self, name: str, **kwargs: Any) -> T:
        """Build the component that *name* stands for."""
        created: T = self.find(name).call(self.get(name), **kwargs)
        return created

    def _candidates(self, name: str) -> list[Entry]:
        qualifier, slash, bare = name.rpartition("/")
        found = [entry for entry in self._entries if bare in (entry.name, *entry.aliases)]
        if slash:
            return [entry for entry in found if entry.distribution == normalize(qualifier)]
        replaced = {(entry.distribution, entry.replaces) for entry in found}
        # Two plugins that replace each other cancel out: the user has to choose, not the order of loading.
        overruled = {old for new, old in replaced if (old, new) not in replaced}
        return [entry for entry in found if entry.distribution not in overruled] or found

    def _ambiguous(self, name: str, candidates: list[Entry]) -> str:
        rows = sorted(f"  {entry.qualified}   ({entry.provider})" for entry in candidates)
        others = "the other" if len(candidates) == 2 else "the others"
        return (
            f"{self.kind.name} {name!r} is registered by {len(candidates)} installed plugins. "
            f"Say which one, or uninstall {others}:\n" + "\n".join(rows)
        )

    def _unknown(self, name: object) -> str:
        if not isinstance(name, str):
            return (
                f"a {self.kind.name} is named by text, not {name!r} of type {type(name).__name__}.\n{self._listing('')}"
            )
        lines = [f"unknown {self.kind.name} {name!r}."]
        hint = self._hints.explain(self.kind, name) if self._hints else None
        if hint:
            lines.append(hint)
        elif meant := did_you_mean(name, self._spellings(qualified="/" in name), count=2):
            lines.append(meant.strip())
        lines.append(self._listing(name))
        unusable = self._hints.unusable() if self._hints and not hint else None
        if unusable:
            lines.append(unusable)
        return "\n".join(lines)

    def _spellings(self, *, qualified: bool) -> list[str]:
        return sorted(
            {
                f"{entry.distribution}/{name}" if qualified else name
                for entry in self._entries
                for name in (entry.name, *entry.aliases)
            }
        )

    def _listing(self, name: str) -> str:
        names = self.names()
        if not names:
            return f"No installed plugin registers any {self.kind.name}."
        if len(names) <= _FEW:
            return f"Registered {self.kind.plural}: {', '.join(names)}."
        near = close_names(name, names, count=5, cutoff=0.0)
        return (
            f"{len(names)} {self.kind.plural} are registered, among them {', '.join(near)}. "
            f"See: et list {self.kind.plural}"
        )
