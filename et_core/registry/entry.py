from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

from et_core.errors import ComponentError, PluginError
from et_core.registry.kinds import KINDS

_NAME = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")
_TARGET = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<attribute>[A-Za-z_]\w*)(?:\[(?P<key>[^\[\]]+)\])?")
_SUMMARY_WIDTH = 72


@dataclass(frozen=True)
class Entry:
    """What is known about a registered name without importing anything."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    summary: str
    aliases: tuple[str, ...] = ()
    replaces: str | None = None
    deprecated: str | None = None

    def __post_init__(self) -> None:
        kind = KINDS[self.kind].name
        if not isinstance(self.aliases, tuple):
            raise PluginError(f"{self.provider} registers the {kind} {self.name!r} with aliases that are not a tuple.")
        for name in (self.name, *self.aliases):
            if not _NAME.fullmatch(name):
                raise PluginError(
                    f"{self.provider} registers the {kind} name {name!r}. Names are lower case letters and digits, "
                    "joined by single '-' or '.'."
                )
        if not _TARGET.fullmatch(self.target):
            raise PluginError(
                f"{self.provider} registers the {kind} {self.name!r} with the target {self.target!r}. "
                "A target is 'module:attribute' or 'module:table[key]'."
            )
        if not self.summary.strip() or "\n" in self.summary or len(self.summary) > _SUMMARY_WIDTH:
            raise PluginError(
                f"{self.provider} registers the {kind} {self.name!r} with a summary of {len(self.summary)} "
                f"characters. It must be one line of 1 to {_SUMMARY_WIDTH}."
            )

    @property
    def qualified(self) -> str:
        return f"{self.distribution}/{self.name}"

    @property
    def provider(self) -> str:
        return f"{self.distribution} {self.version}"

    def load(self) -> Any:
        """Import the target and check it against its kind; ComponentError tells what is wrong with it."""
        kind = KINDS[self.kind]
        try:
            found = resolve_target(self.target)
        except (Exception, SystemExit) as error:
            raise ComponentError(
                f"{kind.name} {self.name!r} from {self.provider} failed to import.\n"
                f"  target: {self.target}\n"
                f"  cause:  {type(error).__name__}: {error}\n"
                f"Run 'et plugins check {self.distribution}' for the full traceback."
            ) from error
        interface = resolve_target(kind.interface)
        fits = isinstance(found, interface) if kind.instances else _is_subclass(found, interface)
        if not fits:
            wanted = "an instance" if kind.instances else "a subclass"
            raise ComponentError(
                f"{kind.name} {self.name!r} from {self.provider} is not {wanted} of {interface.__name__}.\n"
                f"  target: {self.target}\n"
                f"  found:  {_describe(found)}"
            )
        return found


def resolve_target(target: str) -> Any:
    """Import what ``module:attribute`` or ``module:table[key]`` points at."""
    match = _TARGET.fullmatch(target)
    if match is None:
        raise PluginError(f"{target!r} is not a target: write 'module:attribute' or 'module:table[key]'.")
    found = getattr(importlib.import_module(match["module"]), match["attribute"])
    return found if match["key"] is None else found[match["key"]]


def _is_subclass(found: object, interface: type) -> bool:
    return isinstance(found, type) and issubclass(found, interface)


def _describe(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__module__}.{found.__qualname__}"
    return f"an object of type {type(found).__name__}"
