from __future__ import annotations

import click

from et_core.cli.options import bad_rows_option, columns_option, parse_columns

_FORMATS = click.Choice(["tsv", "csv", "jsonl", "parquet"])


@click.command("predict")
@click.argument("run")
@click.option("--input", "source", required=True, metavar="FILE", help="Rows: a path, a glob, or - for standard input.")
@click.option(
    "--output", required=True, metavar="FILE", help=".tsv .csv .jsonl .parquet (.gz), or - for standard output."
)
@click.option("--keep", metavar="COLUMNS", help="Input columns to write too, with commas; all by default, '' for none.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--input-format", type=_FORMATS, help="For standard input; jsonl by default.")
@click.option("--output-format", type=_FORMATS, help="For standard output; jsonl by default.")
@columns_option
@bad_rows_option
def command(
    run: str,
    source: str,
    output: str,
    keep: str | None,
    precision: str,
    input_format: str | None,
    output_format: str | None,
    columns: tuple[str, ...],
    on_bad_row: str | None,
) -> None:
    """Predict every row of a file with the finished RUN, in order and in little memory."""
    from et_core import api

    written = api.load(run, precision=precision).predict_file(
        source,
        output,
        keep=None if keep is None else [name for name in keep.split(",") if name],
        on_bad_row=on_bad_row,
        columns=parse_columns(columns),
        input_format=input_format,
        output_format=output_format,
    )
    where = "" if output == "-" else f" in {output}"
    speed = written.rows / max(written.seconds, 1e-9)
    click.echo(f"{written.rows} predictions{where} ({written.seconds:.1f} s, {speed:,.0f} rows/s)", err=True)
    if written.skipped:
        first = written.first_skipped
        cause = f", the first: {first.where}: {first.reason}" if first else ""
        listed = f"; see {written.skipped_file}" if written.skipped_file else ""
        click.echo(f"rows left out: {written.skipped}{cause}{listed}", err=True)
