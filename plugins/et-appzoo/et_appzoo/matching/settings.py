"""What the types of the app's settings cannot say about them, checked before any data is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from et_appzoo.labels import grade
from et_appzoo.settings import check_mode, check_names
from et_core.errors import ConfigError
from et_core.registry import registry

_NAMED = ("single-label", "graded")
_MODES_OF: Mapping[str, tuple[str, ...]] = {
    "labels": _NAMED,
    "positive_label": ("single-label",),
    "class_weights": _NAMED,
    "label_smoothing": _NAMED,
    "relevant_from": ("graded", "regression"),
    "threshold": ("single-label",),
}
_TOWERS_OF = {"domains": 1, "dropout": 1, "pooling": 2, "projection_dim": 2, "threshold": 2}


def check_settings(given: Mapping[str, Any]) -> None:
    """ConfigError for one of the settings *given* by name that has no effect beside the others, or cannot be."""
    mode, towers, head = given["mode"], given["towers"], given["head"]
    check_names(given["labels"] or (), ",")
    _check_domains(given["domains"] or ())
    said = {name: value is not None for name, value in given.items()}
    said |= {"pooling": given["pooling"] != "mean", "threshold": given["threshold"] != "auto"}
    said["label_smoothing"] = given["label_smoothing"] > 0
    check_mode(mode, {name: (said[name], modes) for name, modes in _MODES_OF.items()})
    for name, wanted in _TOWERS_OF.items():
        if said[name] and towers != wanted:
            raise ConfigError(
                f"app.{name} has no effect with app.towers={towers}: it is for app.towers={wanted}. Leave it out."
            )
    if head is not None and ("towers" in registry("heads").get(head).needs) != (towers == 2):
        reads = "one vector a text" if towers == 1 else "two texts that were read together"
        raise ConfigError(
            f"app.head={head} takes {reads}, which app.towers={towers} does not give. Set app.towers={3 - towers}, or "
            "take another head: et list heads"
        )


def graded_names(labels: Sequence[str]) -> list[str]:
    """The names of the grades *labels*, from the lowest on."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(
            f"app.labels holds {', '.join(map(repr, labels))}: with app.mode=graded they are numbers. "
            "For names take app.mode=single-label."
        )
    return [grade(number) for number in sorted(numbers)]


def _check_domains(domains: Sequence[str]) -> None:
    for name, times in Counter(domains).items():
        if times > 1 or not name.strip():
            raise ConfigError(f"app.domains names {name!r} {times} times. Name each domain once, with a name.")
