from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Mapping

import click

from et_core.cli.groups import Group
from et_core.cli.options import json_option, print_json, print_table
from et_core.registry import KINDS, Entry, Plugin, Status, plugins

_NOTHING = "nothing: hooks are functions et_register_... of the module itself, marked with @hookimpl"


@click.group("plugins", cls=Group)
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
    for name in plugins().missing:
        click.echo(f"{plugins().limit} names {name}, which is not installed.", err=True)


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
@json_option
def check(name: str, as_json: bool) -> None:
    """Import everything that the plugin NAME registers, and show in full what fails; exits with 1 if anything does."""
    plugin = plugins().find(name)
    errors = {(entry.kind, entry.name): _failure(entry) for entry in plugin.entries}
    if as_json:
        entries = [{"kind": kind, "name": entry, "error": error} for (kind, entry), error in errors.items()]
        print_json({**_describe(plugin), "entries": entries, "error": _plugin_error(plugin)})
    else:
        _print_check(plugin, errors)
    if plugin.status is not Status.OK or not plugin.entries or any(errors.values()):
        raise click.exceptions.Exit(1)


def _print_check(plugin: Plugin, errors: Mapping[tuple[str, str], str | None]) -> None:
    if plugin.status is not Status.OK:
        click.echo(f"{plugin.provider}  {plugin.status}: {plugin.reason}")
    elif not plugin.entries:
        click.echo(f"{plugin.provider} registers {_NOTHING}", err=True)
    for (kind, name), error in errors.items():
        click.echo(f"{'failed' if error else 'ok':<7} {kind:<12} {name}")
    failures = [error for error in (_plugin_error(plugin), *errors.values()) if error]
    for failure in failures:
        click.echo(failure, err=True)
    failed = sum(1 for error in errors.values() if error)
    click.echo(f"{plugin.provider}: {len(errors)} names, {len(errors) - failed} ok, {failed} failed")


def _failure(entry: Entry) -> str | None:
    """The traceback of importing *entry*, if that fails."""
    try:
        entry.load()
    except Exception as error:  # noqa: BLE001 - a plugin may fail in any way, and all of it is to be shown
        return "".join(traceback.format_exception(error))
    return None


def _plugin_error(plugin: Plugin) -> str | None:
    return "".join(traceback.format_exception(plugin.error)) if plugin.error else None


def _counts(plugin: Plugin) -> str:
    counts = Counter(entry.kind for entry in plugin.entries)
    told = (f"{count} {KINDS[kind].name if count == 1 else kind}" for kind, count in counts.items())
    return ", ".join(told) or _NOTHING


def _describe(plugin: Plugin) -> dict[str, object]:
    entries = [{"kind": e.kind, "name": e.name, "target": e.target, "summary": e.summary} for e in plugin.entries]
    return {
        "plugin": plugin.distribution,
        "version": plugin.version,
        "status": str(plugin.status),
        "reason": plugin.reason,
        "entries": entries,
    }
