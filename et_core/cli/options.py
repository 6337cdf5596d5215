"""Options and output that several commands share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from et_core._json import finite
from et_core.log import show_log as show_log

if TYPE_CHECKING:
    from et_core.inference import Run, Written

json_option: Callable[..., Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def config_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """[CONFIG] [KEY=VALUE]..., handed to *command* as ``config`` and ``overrides``; the file may be left out."""

    @functools.wraps(command)
    def call(config: str | None, overrides: tuple[str, ...], **options: Any) -> Any:
        if config is not None and "=" in config:
            overrides, config = (config, *overrides), None
        return command(config=config, overrides=list(overrides), **options)

    return click.argument("config", required=False)(
        click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")(call)
    )


def run_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """RUN [data.KEY=VALUE]..., handed to *command* as ``run`` and ``overrides``, and --precision."""
    choice = click.Choice(["auto", "fp32", "bf16"])
    said = "auto is fp32 for a run that was told to train in it, else what is faster here."
    command = click.option("--precision", type=choice, default="auto", show_default=True, help=said)(command)
    command = click.argument("overrides", nargs=-1, metavar="[data.KEY=VALUE]...")(command)
    return click.argument("run")(command)


def report_written(written: Written, what: str) -> None:
    """Say on standard error how many of *what* were written, where, how fast, and what was left out."""
    where = "" if written.output == "-" else f" in {written.output}"
    speed = written.rows / max(written.seconds, 1e-9)
    click.echo(
        f"{written.rows} {what}{where} ({written.seconds:.1f} s, {speed:,.0f} rows/s, {written.precision})", err=True
    )
    if written.skipped:
        first = written.first_skipped
        cause = f", the first: {first.where}: {first.reason}" if first else ""
        listed = f"; see {written.skipped_file}" if written.skipped_file else ""
        click.echo(f"rows left out: {written.skipped}{cause}{listed}", err=True)


def print_json(value: Any) -> None:
    click.echo(json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns padded to their widest cell, the last one free; plain text, so that it pipes well."""
    table = [tuple(columns), *(tuple(row) for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns) - 1)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]).rstrip())


def print_finished(run: Run) -> None:
    """Say what a run that was trained came to, and what to do with it."""
    if run.metrics:
        print_metrics(run.results["metrics"])
    click.echo(f"\nmodel    {run.folder.model}\nreport   {run.report}\n")
    click.echo(f"Next:    et predict {run.path} --input FILE --output predictions.jsonl")


def print_metrics(metrics: Mapping[str, Mapping[str, float]]) -> None:
    from rich.console import Console

    from et_core.report import metrics_table

    Console().print(metrics_table(metrics))
