from __future__ import annotations

import traceback
from collections import Counter

import click

from et_core.cli.options import json_option, print_json, print_table
from et_core.registry import Plugin, Status, plugins


@click.group("plugins")
def command() -> None:
    """List, show and check plugins."""


@command.command("list")
@json_option
def list_plugins(as_json: bool) -> None:
    """List every plugin that is installed, and what became of it."""
    found = plugins().plugins
    if as_json:
        print_json([_describe(plugin) for plugin in found])
        return
    rows = [
        (p.distribution, p.version, str(p.status), _counts(p) if p.status is Status.OK else p.reason) for p in found
    ]
    print_table(("plugin", "version", "status", "registers"), rows)


@command.command("show")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show all that the plugin NAME registers."""
    plugin = plugins().find(name)
    if as_json:
        print_json(_describe(plugin))
        return
    click.echo(f"{plugin.provider}  {plugin.status}")
    if plugin.reason:
        click.echo(plugin.reason)
    if plugin.entries:
        click.echo()
        print_table(("kind", "name", "summary"), [(e.kind, e.name, e.summary) for e in plugin.entries])


@command.command("check")
@click.argument("name")
def check(name: str) -> None:
    """Import everything that the plugin NAME registers, and show in full what fails; exits with 1 if anything does."""
    plugin = plugins().find(name)
    failures: list[BaseException] = [plugin.error] if plugin.error else []
    if plugin.status is not Status.OK and not failures:
        click.echo(f"{plugin.provider}  {plugin.status}: {plugin.reason}")
        raise click.exceptions.Exit(1)
    for entry in plugin.entries:
        try:
            entry.load()
        except Exception as error:  # noqa: BLE001 - a plugin may fail in any way, and all of it is to be shown
            failures.append(error)
            click.echo(f"failed  {entry.kind:<12} {entry.name}")
        else:
            click.echo(f"ok      {entry.kind:<12} {entry.name}")
    for failure in failures:
        click.echo("".join(traceback.format_exception(failure)), err=True)
    total = len(plugin.entries)
    click.echo(f"{plugin.provider}: {total} names, {total - len(failures) if total else 0} ok, {len(failures)} failed")
    if failures:
        raise click.exceptions.Exit(1)


def _counts(plugin: Plugin) -> str:
    counts = Counter(entry.kind for entry in plugin.entries)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"


def _describe(plugin: Plugin) -> dict[str, object]:
    entries = [{"kind": e.kind, "name": e.name, "target": e.target, "summary": e.summary} for e in plugin.entries]
    return {
        "plugin": plugin.distribution,
        "version": plugin.version,
        "status": str(plugin.status),
        "reason": plugin.reason,
        "entries": entries,
    }
