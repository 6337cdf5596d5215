"""Checks of the options that several augmenters take."""

from __future__ import annotations

from et_core.errors import ConfigError


def check_rate(name: str, value: float) -> float:
    """*value*, if it is above 0 and at most 1; ConfigError that calls it *name* otherwise."""
    if not 0 < value <= 1:
        raise ConfigError(f"{name} is {value:g}. It is a share of the words: above 0 and at most 1.")
    return value


def check_count(name: str, value: int) -> int:
    """*value*, if it is at least 1; ConfigError that calls it *name* otherwise."""
    if value < 1:
        raise ConfigError(f"{name} is {value}. It has to be at least 1.")
    return value
