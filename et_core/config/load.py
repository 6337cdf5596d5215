from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from et_core.config.schema import IN_MEMORY, SHORT_FORMS, RunConfig, is_rows, to_dict
from et_core.config.validate import build_config
from et_core.errors import ConfigError

Overrides = Mapping[str, Any] | Sequence[str]


@dataclass(frozen=True)
class Loaded:
    """A config with the origin of each value: "default", "FILE:LINE" or "override"."""

    config: RunConfig
    origins: dict[str, str]


def load_config(source: str | Path | Mapping[str, Any] | None = None, overrides: Overrides | None = None) -> Loaded:
    """Read a YAML file or nested values, lay *overrides* over them, and check every key and type.

    *overrides* are ``["train.epochs=1"]`` or ``{"train.epochs": 1}``; later ones win. ``${...}`` is resolved as
    OmegaConf does. Data held in memory may stand in ``data.train`` and ``data.dev``.
    """
    base, lines = _read(source)
    rows, base = _take_memory(base)
    layers: list[tuple[Mapping[str, Any], str]] = [({}, "default")]
    config = OmegaConf.create(_spell_out(base))
    more, pairs = _override_pairs(overrides)
    rows.update(more)
    for key, value in pairs:
        _apply(config, key, value)
        layers.append((dict(_leaves(_spell_out({key: value}) if key in SHORT_FORMS else {key: value})), "override"))
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        where = f"{source}: " if isinstance(source, (str, Path)) else ""
        raise ConfigError(f"{where}{str(error).splitlines()[0]}") from error
    run = build_config(_paths_as_text(values))
    for name, value in rows.items():
        setattr(run.data, name, value)
    return Loaded(run, _origins(run, lines, layers))


def _read(source: str | Path | Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, str]]:
    if source is None:
        return {}, {}
    if isinstance(source, Mapping):
        return copy.copy(dict(source)), dict.fromkeys((key for key, _ in _leaves(_spell_out(dict(source)))), "given")
    path = Path(source)
    if not path.is_file():
        near = sorted(str(other) for other in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        listing = f"\nConfigs there: {', '.join(near[:10])}." if near else ""
        raise ConfigError(f"there is no config file {str(source)!r}.{listing}")
    try:
        text = path.read_text("utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = OmegaConf.to_container(OmegaConf.create(text)) if node is not None else {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: {error.problem or error.context}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds {type(values).__name__}: expected keys and values, such as 'app: classification'."
        )
    return {str(key): value for key, value in values.items()}, {key: f"{path}:{line}" for key, line in _lines(node, "")}


def _lines(node: yaml.Node | None, path: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = f"{path}.{key.value}" if path else key.value
            yield from _lines(value, here)
    elif node is not None:
        yield (f"{path}.{SHORT_FORMS[path]}" if path in SHORT_FORMS else path), node.start_mark.line + 1


def _override_pairs(overrides: Overrides | None) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    if overrides is None:
        return {}, []
    pairs = list(overrides.items()) if isinstance(overrides, Mapping) else [_parse_pair(text) for text in overrides]
    rows = {key.removeprefix("data."): value for key, value in pairs if _is_rows(key, value)}
    return rows, [(key, value) for key, value in pairs if not _is_rows(key, value)]


def _parse_pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text!r} is not an override. Write key=value, such as train.epochs=1.")
    if key in SHORT_FORMS:  # a reference may hold what YAML would read as something else, such as '1e5@zoo: x'
        return key, value
    try:
        return key, yaml.safe_load(value) if "${" not in value else value
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r}: the value is not valid YAML. Put it in quotes.") from error


def _apply(config: Any, key: str, value: Any) -> None:
    section = key.partition(".")[0]
    try:
        if key in SHORT_FORMS and not isinstance(value, Mapping):
            config[key] = {SHORT_FORMS[key]: value}
        elif isinstance(value, Mapping) and section == key:
            for inner, nested in value.items():
                _apply(config, f"{key}.{inner}", nested)
        else:
            OmegaConf.update(config, key, value, merge=True, force_add=True)
    except (OmegaConfBaseException, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the override {key}={value!r} does not fit the config: {str(error).splitlines()[0]}"
        ) from error


def _spell_out(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: {SHORT_FORMS[key]: value} if key in SHORT_FORMS and not isinstance(value, Mapping) else value
        for key, value in values.items()
    }


def _paths_as_text(value: Any) -> Any:
    """A saved config is YAML, which has no paths."""
    if isinstance(value, Mapping):
        return {key: _paths_as_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_paths_as_text(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _is_rows(key: str, value: Any) -> bool:
    return key in {f"data.{name}" for name in IN_MEMORY} and is_rows(value)


def _take_memory(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    data = values.get("data")
    if not isinstance(data, Mapping):
        return {}, values
    rows = {name: data[name] for name in IN_MEMORY if name in data and _is_rows(f"data.{name}", data[name])}
    return rows, {**values, "data": {key: value for key, value in data.items() if key not in rows}}


def _leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here, value


def _origins(
    run: RunConfig, lines: Mapping[str, str], layers: Iterable[tuple[Mapping[str, Any], str]]
) -> dict[str, str]:
    values = dict(_leaves(_spell_out(to_dict(run))))
    origins = dict.fromkeys(values, "default")
    origins.update({key: origin for key, origin in lines.items() if key in origins})
    for keys, name in layers:
        origins.update({key: name for key in keys if key in origins})
    return origins
