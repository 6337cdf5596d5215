"""Small parts for the checks: the stand-ins, a tokenizer, sentences, and how two results are compared."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from et_core.errors import ConfigError
from et_core.interfaces import Tokenizer
from et_core.registry import plugins, registry

STAND_INS = Path(__file__).with_name("stand_ins.py").resolve()
"""The plugin file of the stand-ins, for ``plugins.files`` of a config."""

SENTENCES = (
    "a quiet film that stays with you",
    "the second half drags, and then it ends",
    "bright, quick and very funny",
    "no jokes land",
    "two hours of rain and one good line",
    "it is what it is: a sequel",
    "the children loved every minute of it",
    "badly lit, badly cut, badly played",
)
"""Texts of several lengths, of which no two are alike."""


def use_stand_ins() -> Path:
    """Make the components of ``et_core.testing.stand_ins`` known to the registry; their file, for a run's config."""
    plugins().add_file(STAND_INS)
    return STAND_INS


def loaded_files() -> list[str]:
    """The files of all plugins that are single files, which a run's config names for other processes to load."""
    return [plugin.origin for plugin in plugins().plugins if plugin.origin]


def small_tokenizer(name: str = "et-core/pretrained", *, vocab_size: int = 200) -> Tokenizer:
    """The registered tokenizer *name*, fitted on ``SENTENCES``; ConfigError where it cannot be fitted."""
    cls: type[Tokenizer] = registry("tokenizers").get(name)
    if not cls.trainable:
        raise ConfigError(
            f"the tokenizer {name!r} cannot be fitted on texts, so the checks have none. "
            "Give the suite one of its own, such as that of a small checkpoint."
        )
    return cls.fit(SENTENCES * 2, vocab_size=vocab_size)


def signature_flaw(kind: str, name: str, *, given: Collection[str] = ()) -> str:
    """What keeps a config from setting the options of the component *name*; the empty string for nothing.

    *given* are the keywords that are not the user's to set; a component that is given some may take ``**rest``.
    """
    cls = registry(kind).get(name)
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.name in given:
            continue
        if parameter.kind is parameter.VAR_KEYWORD and given:
            continue
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            return f"takes {str(parameter).partition(':')[0]}, which no config can fill"
        if parameter.annotation is parameter.empty:
            return f"has no type for its option {parameter.name!r}, so no value of it is refused"
        if parameter.default is parameter.empty:
            return f"has no default for its option {parameter.name!r}"
    return ""


def difference(found: Any, expected: Any, *, tolerance: float = 0.0, where: str = "") -> str:
    """How *found* differs first from *expected*, in words; the empty string where it does not.

    Looks into mappings, sequences, dataclasses and arrays; numbers may differ by *tolerance*, and nan equals nan.
    """
    place = where.lstrip(".") or "it"
    if dataclasses.is_dataclass(expected) and type(found) is type(expected):
        found, expected = vars(found), vars(expected)
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        if missing := [key for key in expected if key not in found]:
            return f"{place} lacks {missing[0]!r}"
        if surplus := [key for key in found if key not in expected]:
            return f"{place} has {surplus[0]!r} besides"
        inner = ((found[key], expected[key], f"{where}.{key}") for key in expected)
        return next(filter(None, (difference(a, b, tolerance=tolerance, where=at) for a, b, at in inner)), "")
    if isinstance(expected, np.ndarray | np.generic | Tensor):
        return _array_difference(np.asarray(found), np.asarray(expected), tolerance, place)
    if isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
        if type(found) is not type(expected):
            return f"{place} is a {type(found).__name__} instead of a {type(expected).__name__}"
        if len(found) != len(expected):
            return f"{place} has {len(found)} items instead of {len(expected)}"
        items = (
            difference(a, b, tolerance=tolerance, where=f"{where}[{number}]")
            for number, (a, b) in enumerate(zip(found, expected, strict=True))
        )
        return next(filter(None, items), "")
    return "" if _same(found, expected, tolerance) else f"{place} is {found!r} instead of {expected!r}"


def _same(found: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return abs(found - expected) <= tolerance or found == expected or (math.isnan(found) and math.isnan(expected))
    return type(found) is type(expected) and bool(found == expected)


def _array_difference(found: np.ndarray, expected: np.ndarray, tolerance: float, place: str) -> str:
    if found.shape != expected.shape:
        return f"{place} has the shape {list(found.shape)} instead of {list(expected.shape)}"
    if expected.dtype.kind not in "fc":
        others = int((found != expected).sum())
        return f"{place} has {others} other values of {expected.size}" if others else ""
    if np.array_equal(found, expected, equal_nan=True):
        return ""
    far = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())
    return f"{place} is off by {far:.2g}" if not far <= tolerance else ""


def child_environment() -> dict[str, str]:
    """The environment of a new process that finds the modules that this one does, and orders its sets otherwise."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "77"}
