from __future__ import annotations

from typing import Any

import click


class Group(click.Group):
    """A group that answers an unknown command with the nearest one, and with all that there are."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            from et_core.registry import did_you_mean

            meant = did_you_mean(name, known)
            raise click.UsageError(f"there is no command {name!r}.{meant} Commands: {', '.join(known)}.", ctx)
        return super().resolve_command(ctx, args)
