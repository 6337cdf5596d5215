from __future__ import annotations

import click

from et_core.cli.options import config_arguments, print_finished, show_log


@click.command("distill")
@config_arguments
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option("--search-only", is_flag=True, help="Find the student's architecture, and train no student.")
@click.option("--quiet", is_flag=True, help="No progress, no table.")
def command(config: str | None, overrides: list[str], resume: bool, search_only: bool, quiet: bool) -> None:
    """Train a student on what a finished run knows: distill.teacher, by the terms of the loss in distill.terms.

    Where the model leaves its architecture open, as adabert@init does, it is searched for first.

    \b
    et distill CONFIG distill.teacher=./runs/sst2@local
    et distill CONFIG model=adabert@init --search-only
    """
    show_log()
    from et_core import api

    run = api.distill(config, overrides, resume=resume, search_only=search_only, progress=not quiet)
    if not quiet:
        print_finished(run)
