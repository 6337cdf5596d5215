from __future__ import annotations

import click

from et_core.cli.options import report_written, run_arguments

_FORMATS = click.Choice(["tsv", "csv", "jsonl", "parquet"])


@click.command("predict")
@run_arguments
@click.option("--input", "source", required=True, metavar="FILE", help="Rows: a path, a glob, or - for standard input.")
@click.option(
    "--output", required=True, metavar="FILE", help=".tsv .csv .jsonl .parquet (.gz), or - for standard output."
)
@click.option("--keep", metavar="COLUMNS", help="Input columns to write too, with commas; all by default, '' for none.")
@click.option("--input-format", type=_FORMATS, help="Whatever the extension says; jsonl for -.")
@click.option("--output-format", type=_FORMATS, help="Whatever the extension says; jsonl for -.")
def command(
    run: str,
    overrides: tuple[str, ...],
    source: str,
    output: str,
    keep: str | None,
    precision: str,
    input_format: str | None,
    output_format: str | None,
) -> None:
    """Predict every row of a file with the finished RUN, in order and in little memory.

    Rows are read as in training but for what is said here, such as data.columns.text=title, data.separator=";" or
    data.on_bad_row=skip.
    """
    from et_core import api

    written = api.load(run, precision=precision).predict_file(
        source,
        output,
        overrides,
        keep=None if keep is None else [name for name in keep.split(",") if name],
        input_format=input_format,
        output_format=output_format,
    )
    report_written(written, "predictions")
