from __future__ import annotations

from typing import Any

import click

from et_core.cli.options import config_arguments, json_option, print_json


@click.command("config")
@config_arguments
@json_option
def command(config: str | None, overrides: list[str], as_json: bool) -> None:
    """Show every setting that CONFIG and key=value settings come to, and where each value comes from."""
    from et_core.config import flatten, load_config, to_dict

    loaded = load_config(config, overrides)
    values = to_dict(loaded.config)
    if as_json:
        print_json({"config": values, "origins": loaded.origins})
        return
    rows = [(key, _show(value), loaded.origins[key]) for key, value in flatten(values).items()]
    widths = [max(len(row[index]) for row in rows) for index in (0, 1)]
    for key, value, origin in rows:
        click.echo(f"{key:<{widths[0]}}  {value:<{min(widths[1], 40)}}  # {origin}")


def _show(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
