from __future__ import annotations

import click

from et_core.cli.options import json_option, print_json, print_metrics, run_arguments, show_log


@click.command("evaluate")
@run_arguments
@click.option("--data", required=True, metavar="FILE", help="Labelled rows: a path, a glob, or - for standard input.")
@click.option("--skipped", metavar="FILE", help="Where left-out rows go; RUN/evaluate.skipped.jsonl by default.")
@json_option
def command(
    run: str,
    overrides: tuple[str, ...],
    data: str,
    precision: str,
    skipped: str | None,
    as_json: bool,
) -> None:
    """Measure the finished RUN on labelled data.

    Rows are read as in training but for what is said here, such as data.columns.label=stars.
    """
    from et_core import api

    show_log()
    metrics = api.load(run, precision=precision).evaluate(data, overrides, skipped_file=skipped)
    if as_json:
        print_json(metrics)
    else:
        print_metrics({data: metrics})
