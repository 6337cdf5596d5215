from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from et_core.registry.entry import Entry


class Status(StrEnum):
    """What became of a plugin that was found."""

    OK = "ok"
    DISABLED = "disabled"
    INCOMPATIBLE = "incompatible"
    BROKEN = "broken"


@dataclass(frozen=True)
class Plugin:
    """One distribution with an entry point: what it registered, or why it could not."""

    distribution: str
    version: str
    status: Status
    reason: str = ""
    entries: tuple[Entry, ...] = ()
    error: Exception | None = None
    origin: str = ""
    """The file, for a plugin that a run's config names."""

    @property
    def provider(self) -> str:
        return f"{self.distribution} {self.version}"
