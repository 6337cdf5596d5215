from __future__ import annotations

from typing import Protocol


class Register(Protocol):
    """What each hook is handed: a call for every name that the plugin adds to this kind."""

    def __call__(
        self,
        name: str,
        target: str,
        *,
        summary: str,
        aliases: tuple[str, ...] = (),
        replaces: str | None = None,
        deprecated: str | None = None,
    ) -> None:
        """Add *name*, to be imported from *target* when it is first used.

        *target* is ``module:attribute``, or ``module:table[key]`` for one entry of a mapping. *summary* is one line of
        at most 72 characters. *replaces* names the distribution whose entry of the same name this one overrides on
        purpose. *deprecated* says what to use instead.
        """
