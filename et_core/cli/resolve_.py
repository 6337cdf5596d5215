from __future__ import annotations

import click

from et_core.cli.options import json_option, print_json, show_log


@click.command("resolve")
@click.argument("ref")
@json_option
def command(ref: str, as_json: bool) -> None:
    """Find the files behind the model reference REF, fetching them if need be, and show what they are."""
    show_log()
    from et_core.sources import describe, resolve

    described = describe(resolve(ref))
    if as_json:
        print_json(described)
        return
    for name in ("ref", "family", "license", "origin", "tokenizer"):
        click.echo(f"{name:<10} {described[name] or '-'}")
    size = f"{described['bytes'] / 2**20:,.1f} MiB" if described["weights"] else "fresh"
    click.echo(f"weights    {size}")
    for path in described["weights"]:
        click.echo(f"           {path}")
