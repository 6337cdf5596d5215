from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from et_core.cli.options import json_option, print_json
from et_core.cli.plugins_describe import NOTHING, describe
from et_core.registry import Entry, Plugin, Status, plugins

if TYPE_CHECKING:
    from et_core.testing import Conformance, Outcome

_Failures = Mapping[tuple[str, str], str | None]


@click.command("check")
@click.argument("name")
@json_option
def check(name: str, as_json: bool) -> None:
    """Check all that the plugin NAME registers; exits with 1 if anything fails.

    Everything is imported, and what fails is shown in full. Then the conformance suites run: those in the module that
    the plugin names as ET_CONFORMANCE, and for all else the suite of its kind as it comes.
    """
    plugin = plugins().find(name)
    imports = {(entry.kind, entry.name): _failure(entry) for entry in plugin.entries}
    sound = plugin.status is Status.OK and bool(plugin.entries) and not any(imports.values())
    if not as_json:
        _print_imports(plugin, imports)
    checked = []
    for title, outcomes in _outcomes(plugin) if sound else ():
        checked.append((title, outcomes))
        if not as_json:
            _print_suite(title, outcomes)
    found = [outcome for _, outcomes in checked for outcome in outcomes]
    if as_json:
        print_json(_as_json(plugin, imports, checked))
    elif found:
        click.echo(f"{plugin.provider}: {_counted(found)}")
    if not sound or any(outcome.status == "failed" for outcome in found):
        raise click.exceptions.Exit(1)


def _outcomes(plugin: Plugin) -> Iterator[tuple[str, list[Outcome]]]:
    from et_core.testing import run_suite, suites_of

    for suite in suites_of(plugin):
        yield suite.title(), _with_progress(suite, run_suite(suite))


def _with_progress(suite: type[Conformance], outcomes: Iterator[Outcome]) -> list[Outcome]:
    """All of *outcomes*; meanwhile a terminal shows which suite is at work, as some take a while."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(f"{suite.title()} ...") if console.is_terminal else contextlib.nullcontext():
        return list(outcomes)


def _print_imports(plugin: Plugin, imports: _Failures) -> None:
    if plugin.status is not Status.OK:
        click.echo(f"{plugin.provider}  {plugin.status}: {plugin.reason}")
    elif not plugin.entries:
        click.echo(f"{plugin.provider} registers {NOTHING}", err=True)
    for (kind, name), error in imports.items():
        if error:
            click.echo(f"failed  {kind:<12} {name}")
    for failure in (_plugin_error(plugin), *imports.values()):
        if failure:
            click.echo(failure, err=True)
    failed = sum(1 for error in imports.values() if error)
    click.echo(f"{plugin.provider}: {len(imports)} names, {len(imports) - failed} import, {failed} fail")


def _print_suite(title: str, outcomes: list[Outcome]) -> None:
    click.echo(f"{title}: {_counted(outcomes)}")
    for outcome in outcomes:
        if outcome.status == "failed":
            click.echo(_indented(f"FAILED {outcome.check}: {_told(outcome.error)}"))
        elif outcome.reason:
            click.echo(f"  {outcome.status} {outcome.check}: {outcome.reason}")


def _counted(outcomes: list[Outcome]) -> str:
    counts = Counter(str(outcome.status) for outcome in outcomes)
    words = [(count, name) for name in ("passed", "failed", "expected failure", "skipped") if (count := counts[name])]
    told = (
        f"{count} {name}s" if name == "expected failure" and count > 1 else f"{count} {name}" for count, name in words
    )
    return f"{len(outcomes)} checks, {', '.join(told)}"


def _told(error: BaseException | None) -> str:
    """What a check found and what it is there for; the traceback too, where it is not the check that speaks."""
    from et_core.errors import EtError
    from et_core.testing import CheckFailed

    if isinstance(error, (CheckFailed, EtError)):
        return "\n".join([str(error), *getattr(error, "__notes__", ())])
    return "".join(traceback.format_exception(error)) if error else ""


def _indented(text: str) -> str:
    return "\n    ".join(f"  {text}".rstrip().splitlines())


def _failure(entry: Entry) -> str | None:
    """The traceback of importing *entry*, if that fails."""
    try:
        entry.load()
    except Exception as error:  # noqa: BLE001 - a plugin may fail in any way, and all of it is to be shown
        return "".join(traceback.format_exception(error))
    return None


def _plugin_error(plugin: Plugin) -> str | None:
    return "".join(traceback.format_exception(plugin.error)) if plugin.error else None


def _as_json(plugin: Plugin, imports: _Failures, checked: list[tuple[str, list[Outcome]]]) -> dict[str, Any]:
    suites = [
        {
            "suite": title,
            "checks": [
                {**dataclasses.asdict(dataclasses.replace(outcome, error=None)), "error": _told(outcome.error) or None}
                for outcome in outcomes
            ],
        }
        for title, outcomes in checked
    ]
    entries = [{"kind": kind, "name": name, "error": error} for (kind, name), error in imports.items()]
    return {**describe(plugin), "entries": entries, "error": _plugin_error(plugin), "suites": suites}
