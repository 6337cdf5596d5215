"""What the types of the app's settings cannot say about them, checked before any data is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

from et_core.config import ComponentConfig
from et_core.errors import ConfigError
from et_core.interfaces import LossSpec, check_options


def check_mode(mode: str, given: Mapping[str, tuple[object, Sequence[str]]]) -> None:
    """ConfigError for a setting that would change nothing in *mode*; *given* are values, each with its modes."""
    for name, (value, modes) in given.items():
        if value and mode not in modes:
            raise ConfigError(
                f"app.{name} has no effect with app.mode={mode}: it is for {' and '.join(modes)}. Leave it out."
            )


def check_names(names: Sequence[str], separator: str) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise ConfigError(
                f"app.labels names {name!r} {'twice' if times == 2 else f'{times} times'}. Name each label once."
            )
    if not separator:
        raise ConfigError(
            "app.label_separator is empty. Give what stands between two labels, such as ',', or leave it out."
        )


def check_weights(weights: object) -> None:
    if isinstance(weights, Mapping):
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(
                    f"app.class_weights gives the label {name!r} the weight {weight}. Give a number of at least 0."
                )


def _refuse_missing(weights: Any) -> Any:
    if isinstance(weights, Mapping):
        for name, weight in weights.items():
            if weight is None:
                start, colon, end = str(name).rpartition(":")
                spaced = f" In YAML a space follows the colon: {{{start}: {end}}}." if colon else ""
                raise ConfigError(
                    f"app.class_weights gives the label {name!r} no weight.{spaced or ' Write a number.'}"
                )
    return weights


Weights = Annotated[dict[str, float], BeforeValidator(_refuse_missing)]
"""Weights by label."""


def chosen_loss(loss: str | Mapping[str, Any] | None, **replaced: Any) -> LossSpec | None:
    """The registered loss that a user asks for, by name or as a mapping with its arguments.

    *replaced* are settings of the app's own losses, which would have no effect beside it.
    """
    if loss is None:
        return None
    arguments = {"name": loss} if isinstance(loss, str) else dict(loss)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError("app.loss has no name. Write app.loss=NAME, or app.loss={name: NAME, ARGUMENT: VALUE}.")
    for setting, value in replaced.items():
        if value:
            raise ConfigError(
                f"app.{setting} has no effect with app.loss={name}. Leave it out, and give the loss what it takes: "
                f"app.loss={{name: {name}, ARGUMENT: VALUE}}."
            )
    return LossSpec(name, check_options("losses", ComponentConfig(name=name, options=arguments), where="app.loss"))
