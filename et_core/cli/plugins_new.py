from __future__ import annotations

import shlex
from pathlib import Path

import click

from et_core.scaffold import NewPlugin


@click.command("new")
@click.argument("distribution", metavar="NAME")
@click.option(
    "--kind",
    metavar="KIND",
    help="What it adds: backbone, app, loss, head, tokenizer, metric, objective, distiller, strategy.",
)
@click.option("--name", "component", metavar="NAME", help="What that is registered as; by default a name for the kind.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the package is written; by default ./NAME.")
def new(distribution: str, kind: str | None, component: str | None, folder: Path | None) -> None:
    """Write the plugin NAME: a package with one working component, its checks and a README, to start from.

    \b
    et plugins new acme-models --kind loss
    """
    plugin = NewPlugin.named(distribution, kind=kind, component=component)
    folder = folder or Path(distribution)
    files = plugin.write(folder)
    click.echo(f"{folder}:")
    for file in files:
        click.echo(f"  {file}")
    click.echo(f"It registers the {plugin.kind.name} {plugin.component!r}. Next:\n")
    for command in (f"cd {shlex.quote(str(folder))}", *plugin.next_commands):
        click.echo(f"  {command}")
