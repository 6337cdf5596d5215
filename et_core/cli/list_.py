from __future__ import annotations

import dataclasses
from typing import Any

import click

from et_core.cli.options import json_option, print_json, print_table


@click.command("list")
@click.argument("kind")
@click.argument("pattern", default="*")
@json_option
def command(kind: str, pattern: str, as_json: bool) -> None:
    """List the registered names of KIND (backbones, apps, presets, ...) that match PATTERN, such as 'bert-*'."""
    from et_core.registry import plugins

    registry = plugins().registry(kind)
    wanted = set(registry.names(pattern))
    entries = [entry for entry in registry.entries if entry.name in wanted]
    if as_json:
        print_json([{**dataclasses.asdict(entry), **_details(entry)} for entry in entries])
        return
    if not entries:
        click.echo(f"no {registry.kind.name} matches {pattern!r}.", err=True)
        return
    if registry.kind.instances:
        rows = [
            (
                entry.name,
                f"{d['parameters'] / 1e6:,.1f} M",
                d["license"],
                "pinned" if d["pinned"] else "unpinned",
                entry.summary,
            )
            for entry in entries
            for d in [_details(entry)]
        ]
        print_table(("name", "parameters", "licence", "commit", "summary"), rows)
        return
    print_table(("name", "from", "summary"), [(entry.name, entry.provider, entry.summary) for entry in entries])


def _details(entry: Any) -> dict[str, Any]:
    """What a preset says of itself; reading it costs nothing, unlike importing a model."""
    from et_core.registry import KINDS

    if not KINDS[entry.kind].instances:
        return {}
    preset = entry.load()
    return {**dataclasses.asdict(preset), "pinned": preset.pinned}
