from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from et_core.registry.entry import Entry

GROUP = "et.plugins"
"""The group of entry points that a plugin declares."""


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
    """Why it is not usable, as what follows its name: "failed to load: ..."."""

    entries: tuple[Entry, ...] = ()
    error: BaseException | None = None
    """What was raised, with its traceback."""

    origin: str = ""
    """The file, for a plugin that a run's config names."""

    conformance: str = ""
    """The module with the suites that check its components, where it names one (``ET_CONFORMANCE``)."""

    @property
    def provider(self) -> str:
        return f"{self.distribution} {self.version}"

    @property
    def problem(self) -> str:
        """The whole sentence that says why it is not usable."""
        return f"{self.provider} {self.reason}" if self.reason else ""
