from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from et_core.cli.options import json_option, print_json


@click.command("config")
@click.argument("config", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@json_option
def command(config: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show every setting that CONFIG and key=value settings come to, and where each value comes from."""
    from et_core.config import load_config, to_dict
    from et_core.config.schema import SHORT_FORMS

    if config is not None and "=" in config:
        overrides, config = (config, *overrides), None
    loaded = load_config(config, list(overrides))
    values = to_dict(loaded.config)
    if as_json:
        print_json({"config": values, "origins": loaded.origins})
        return
    spelled = {
        key: {SHORT_FORMS[key]: value} if key in SHORT_FORMS and not isinstance(value, Mapping) else value
        for key, value in values.items()
    }
    rows = [(key, _show(value), loaded.origins.get(key, "default")) for key, value in _leaves(spelled)]
    widths = [max(len(row[index]) for row in rows) for index in (0, 1)]
    for key, value, origin in rows:
        click.echo(f"{key:<{widths[0]}}  {value:<{min(widths[1], 40)}}  # {origin}")


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here, value


def _show(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
