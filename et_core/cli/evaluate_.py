from __future__ import annotations

import click

from et_core.cli.options import bad_rows_option, columns_option, json_option, parse_columns, print_json, print_metrics


@click.command("evaluate")
@click.argument("run")
@click.option("--data", required=True, metavar="FILE", help="Labelled rows: a path, a glob, or - for standard input.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--skipped", metavar="FILE", help="Where left-out rows go; RUN/evaluate.skipped.jsonl by default.")
@columns_option
@bad_rows_option
@json_option
def command(
    run: str,
    data: str,
    precision: str,
    skipped: str | None,
    columns: tuple[str, ...],
    on_bad_row: str | None,
    as_json: bool,
) -> None:
    """Measure the finished RUN on labelled data."""
    from et_core import api

    metrics = api.load(run, precision=precision).evaluate(
        data, on_bad_row=on_bad_row, columns=parse_columns(columns), skipped_file=skipped
    )
    if as_json:
        print_json(metrics)
    else:
        print_metrics({data: metrics})
