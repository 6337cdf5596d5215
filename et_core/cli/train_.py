from __future__ import annotations

import click

from et_core.cli.options import config_arguments, print_finished, show_log


@click.command("train")
@config_arguments
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option("--quiet", is_flag=True, help="No progress, no table.")
def command(config: str | None, overrides: list[str], resume: bool, quiet: bool) -> None:
    """Train a model from CONFIG, a YAML file, and settings such as train.epochs=1; the file may be left out.

    \b
    et train CONFIG model=REF train.epochs=3
    et train app=APP model=REF data.train=FILE data.dev=0.1
    """
    show_log()
    from et_core import api

    run = api.train(config, overrides, resume=resume, progress=not quiet)
    if not quiet:
        print_finished(run)
