from __future__ import annotations

from pathlib import Path

import click

from et_core.cli.options import show_log


@click.group("zoo")
def command() -> None:
    """Look after the presets."""


@command.command("pin")
@click.argument("pattern", default="*")
@click.option(
    "--file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The presets.json to fill in.",
)
def pin(pattern: str, file: Path) -> None:
    """Ask the Hub for commits and sha256 sums of the unpinned presets that match PATTERN, and write them down."""
    if not file.is_file():
        raise click.BadParameter(f"File '{file}' does not exist.", param_hint="--file")
    show_log()
    from et_core.sources import pin_presets

    pins = pin_presets(pattern, file=file)
    for pinned in pins:
        outcome = pinned.problem or f"{pinned.commit}, {len(pinned.sha256)} sums"
        click.echo(f"{pinned.preset:<28} {pinned.repo}: {outcome}")
    failed = sum(1 for pinned in pins if pinned.problem)
    click.echo(f"{len(pins) - failed} of {len(pins)} presets pinned in {file}")
    if failed:
        raise click.exceptions.Exit(1)
