from __future__ import annotations

import dataclasses
from typing import Any

import click

from et_core.cli.options import json_option, print_json, print_table
from et_core.errors import ComponentError
from et_core.registry import Entry

_PRESETS = "presets"


@click.command("list")
@click.argument("kind", required=False, metavar="KIND")
@click.argument("pattern", default="*")
@json_option
def command(kind: str | None, pattern: str, as_json: bool) -> None:
    """List the registered names of KIND (backbones, apps, presets, ...) that match PATTERN, such as '*-en'."""
    from et_core.registry import KINDS, plugins

    if kind is None:
        raise click.UsageError(f"a kind is missing. Kinds: {', '.join(KINDS)}.")
    registry = plugins().registry(kind)
    wanted = set(registry.names(pattern))
    entries = [entry for entry in registry.entries if entry.name in wanted]
    if as_json:
        print_json([{**dataclasses.asdict(entry), **_details(entry)} for entry in entries])
        return
    if not entries:
        click.echo(f"no {registry.kind.name} matches {pattern!r}.", err=True)
        return
    if registry.kind.plural == _PRESETS:
        print_table(("name", "parameters", "licence", "commit", "summary"), map(_preset_row, entries))
        return
    print_table(("name", "from", "summary"), [(entry.name, entry.provider, entry.summary) for entry in entries])


def _preset_row(entry: Entry) -> tuple[str, ...]:
    details = _details(entry)
    if problem := details.get("problem"):
        return (entry.name, "broken", "", "", " ".join(problem.split()))
    has_commit = any(provider["kind"] == "hub" for provider in details["providers"])
    commit = ("pinned" if details["pinned"] else "unpinned") if has_commit else "-"
    return (entry.name, f"{details['parameters'] / 1e6:,.1f} M", details["license"], commit, entry.summary)


def _details(entry: Entry) -> dict[str, Any]:
    """What a preset says of itself; reading it costs nothing, unlike importing a model."""
    if entry.kind != _PRESETS:
        return {}
    try:
        preset = entry.load()
    except ComponentError as error:
        return {"problem": str(error)}
    return {**dataclasses.asdict(preset), "pinned": preset.pinned}
