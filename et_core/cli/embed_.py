from __future__ import annotations

import click

from et_core.cli.options import report_written, run_arguments

_INPUTS = click.Choice(["tsv", "csv", "jsonl", "parquet"])
_OUTPUTS = click.Choice(["npy", "jsonl", "parquet"])


@click.command("embed")
@run_arguments
@click.option("--input", "source", required=True, metavar="FILE", help="Rows: a path, a glob, or - for standard input.")
@click.option("--output", required=True, metavar="FILE", help=".npy .jsonl (.gz) .parquet, or - for standard output.")
@click.option("--column", metavar="COLUMN", help="The column of the text; short for data.columns.text=COLUMN.")
@click.option("--keep", metavar="COLUMNS", help="Input columns to write too, with commas; all by default, '' for none.")
@click.option("--input-format", type=_INPUTS, help="Whatever the extension says; jsonl for -.")
@click.option("--output-format", type=_OUTPUTS, help="Whatever the extension says; jsonl for -.")
def command(
    run: str,
    overrides: tuple[str, ...],
    source: str,
    output: str,
    column: str | None,
    keep: str | None,
    precision: str,
    input_format: str | None,
    output_format: str | None,
) -> None:
    """Write the vector of each text of a file with the finished RUN, in order and in little memory.

    RUN is of an app that gives vectors of single texts, such as matching with app.towers=2. The output is an array of
    one row a text (.npy), or the input's columns and the vector (.jsonl, .parquet). Rows are read as in training but
    for what is said here, such as data.columns.text=title or data.on_bad_row=skip.
    """
    from et_core import api

    written = api.load(run, precision=precision).embed_file(
        source,
        output,
        overrides if column is None else (*overrides, f"data.columns.text={column}"),
        keep=None if keep is None else [name for name in keep.split(",") if name],
        input_format=input_format,
        output_format=output_format,
    )
    report_written(written, "vectors")
