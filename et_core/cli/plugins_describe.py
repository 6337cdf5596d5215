from __future__ import annotations

from collections import Counter

from et_core.registry import KINDS, Plugin

NOTHING = "nothing: hooks are functions et_register_... of the module itself, marked with @hookimpl"


def counts(plugin: Plugin) -> str:
    """How many names of each kind *plugin* registers: "1 backbone, 16 presets"."""
    found = Counter(entry.kind for entry in plugin.entries)
    told = (f"{count} {KINDS[kind].name if count == 1 else kind}" for kind, count in found.items())
    return ", ".join(told) or NOTHING


def describe(plugin: Plugin) -> dict[str, object]:
    """All that is known about *plugin*, as JSON values."""
    entries = [{"kind": e.kind, "name": e.name, "target": e.target, "summary": e.summary} for e in plugin.entries]
    return {
        "plugin": plugin.distribution,
        "version": plugin.version,
        "status": str(plugin.status),
        "reason": plugin.reason,
        "entries": entries,
    }
