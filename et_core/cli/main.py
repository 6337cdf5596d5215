from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from typing import TextIO

import click

from et_core.cli.groups import Group

_COMMANDS = {
    "train": "Train a model from a config file and key=value settings.",
    "distill": "Teach a small model what a finished run knows.",
    "evaluate": "Measure a finished run on labelled data.",
    "predict": "Predict a file with a finished run.",
    "embed": "Write the vectors of a file's texts with a finished run.",
    "config": "Show the resolved config of a run, and where each value comes from.",
    "list": "List what is registered: backbones, apps, presets, ...",
    "resolve": "Show what a model reference stands for.",
    "plugins": "List, show and check plugins.",
    "zoo": "Look after the presets.",
}


class _LazyGroup(Group):
    """A group whose commands are imported when they are called, so that help stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"et_core.cli.{cmd_name}_").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click would import every command to ask it for its help line.
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value:
        from importlib.metadata import version

        click.echo(f"et {version('et-core')}")
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Show the version.")
def cli() -> None:
    """Transfer learning for language models: fine-tune, evaluate and predict from one small config.

    \b
    et train config.yaml train.epochs=3
    et predict runs/config --input new.tsv --output predictions.jsonl

    --debug, anywhere, shows the traceback of an error.
    """


def _show_warnings_once() -> None:
    """Show a FutureWarning, which is meant for users, once and without the line of code that met it."""
    shown: set[str] = set()
    show_in_full = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, FutureWarning):
            show_in_full(message, category, filename, lineno, file, line)
        elif str(message) not in shown:
            shown.add(str(message))
            click.echo(f"et: warning: {message}", err=True)

    warnings.showwarning = show


def main() -> None:
    """Run the command line; errors a user can mend print without a traceback and exit with 2."""
    from et_core.errors import EtError, Interrupted

    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    _show_warnings_once()
    try:
        # Without click's standalone mode, the code of click's Exit is what the call returns.
        sys.exit(cli(arguments, prog_name="et", standalone_mode=False))
    except click.exceptions.Abort:
        sys.exit(130)
    except click.NoSuchOption as error:
        error.show()
        click.echo("Settings are written without dashes, such as train.lr=3e-5; et config shows them all.", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Interrupted as stop:
        click.echo(f"et: {stop}", err=True)
        sys.exit(128 + stop.signal_number)
    except EtError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"et: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        # Whoever read our output has closed it; a second message on the way out would only be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
