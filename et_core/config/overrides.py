from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from et_core.config.schema import SHORT_FORMS
from et_core.errors import ConfigError

Overrides = Mapping[str, Any] | Sequence[str]
_BRACKETS = {"[": "]", "{": "}"}


def override_pairs(overrides: Overrides | None) -> list[tuple[str, Any]]:
    """Keys with dots, and their values; ConfigError for text that is no ``key=value``."""
    if overrides is None:
        return []
    if isinstance(overrides, str):
        overrides = [overrides]
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    return [_parse_pair(text, overrides[place + 1 :]) for place, text in enumerate(overrides)]


def _parse_pair(text: str, following: Sequence[str]) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text!r} is not an override. Write key=value, such as train.epochs=1.")
    if key in SHORT_FORMS and not value.lstrip().startswith("{"):
        # A reference may hold what YAML would read as something else, such as '1e5@zoo: x'.
        return key, value
    if len(value) == 1 and not value.isalnum() and value != "~":
        # A mark alone, such as a separator, which YAML would read as the start of something.
        return key, value
    try:
        return key, _read(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r}: the value is not valid YAML. {_advice(key, value, following)}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{text!r}: {str(error).splitlines()[0]}") from error


def _read(value: str) -> Any:
    read: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
    return read["value"]


def _advice(key: str, value: str, following: Sequence[str]) -> str:
    """How to write *value*; *following* are the next arguments, among which the shell may have left its rest."""
    if opened := _opened(value):
        for count in range(1, len(following) + 1):
            whole = " ".join([value, *following[:count]])
            if _is_valid(whole):
                return f"The shell splits at spaces: put the whole setting in quotes: {_quoted(f'{key}={whole}')}."
        return f"{opened!r} is never closed. Where spaces follow, put the whole setting in quotes: '{key}=...'."
    if value[:1] in _BRACKETS:
        marked = re.sub(r"(?<=[\[{,:])(\s*)([^\s\[\]{},:'\"][^\[\]{},:'\"]*)", r"\1'\2'", value)
        example = f"such as {_quoted(f'{key}={marked}')}" if _is_valid(marked) else "such as ['*']"
        return f"Put text with special characters in quotes of its own, {example}."
    quoted = "'" + value.replace("'", "''") + "'"
    return f"Put it in quotes of its own: {_quoted(f'{key}={quoted}')}."


def _opened(value: str) -> str:
    return next((mark for mark, end in _BRACKETS.items() if value.count(mark) > value.count(end)), "")


def _is_valid(value: str) -> bool:
    try:
        _read(value)
    except (yaml.YAMLError, OmegaConfBaseException):
        return False
    return True


def _quoted(setting: str) -> str:
    """*setting* as one word of a shell, which expands some characters within double quotes."""
    if "'" not in setting:
        return f"'{setting}'"
    return '"' + re.sub(r'(["$`\\])', r"\\\1", setting) + '"'
