from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from et_core.cli.groups import Group
from et_core.cli.options import show_log

if TYPE_CHECKING:
    from et_core.sources import Pin


@click.group("zoo", cls=Group)
def command() -> None:
    """Look after the presets."""


@command.command("pin")
@click.argument("pattern", default="*")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The presets.json to fill in; by default those of the installed plugins.",
)
def pin(pattern: str, file: Path | None) -> None:
    """Ask the Hub for commits and sha256 sums of the unpinned presets that match PATTERN, and write them down."""
    if file is not None and not file.is_file():
        raise click.BadParameter(f"File '{file}' does not exist.", param_hint="--file")
    show_log()
    from et_core.sources import pin_presets, preset_files

    files = preset_files(pattern) if file is None else [file]
    failed = sum([_show(pin_presets(pattern, file=path), path) for path in files])
    if failed:
        raise click.exceptions.Exit(1)


def _show(pins: list[Pin], file: Path) -> int:
    """Print what became of *pins* in *file*, and return how many could not be had."""
    for pinned in pins:
        outcome = pinned.problem or f"{pinned.commit}, {len(pinned.sha256)} sums"
        click.echo(f"{pinned.preset:<28} {pinned.repo}: {outcome}")
    failed = sum(1 for pinned in pins if pinned.problem)
    click.echo(f"{len(pins) - failed} of {len(pins)} presets pinned in {file}")
    return failed
