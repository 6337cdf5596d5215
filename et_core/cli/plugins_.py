from __future__ import annotations

import click

from et_core.cli.groups import Group
from et_core.cli.options import json_option, print_json, print_table
from et_core.cli.plugins_check import check
from et_core.cli.plugins_describe import counts, describe
from et_core.cli.plugins_new import new
from et_core.registry import Status, plugins


@click.group("plugins", cls=Group)
def command() -> None:
    """List, show, check and begin plugins."""


command.add_command(check)
command.add_command(new)


@command.command("list")
@json_option
def list_plugins(as_json: bool) -> None:
    """List every plugin that is installed, and what became of it."""
    found = plugins().plugins
    if as_json:
        print_json([describe(plugin) for plugin in found])
        return
    rows = [(p.distribution, p.version, str(p.status), counts(p) if p.status is Status.OK else p.reason) for p in found]
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
        print_json(describe(plugin))
        return
    click.echo(f"{plugin.provider}  {plugin.status}")
    if plugin.reason:
        click.echo(plugin.reason)
    if plugin.entries:
        click.echo()
        print_table(("kind", "name", "summary"), [(e.kind, e.name, e.summary) for e in plugin.entries])
