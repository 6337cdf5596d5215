from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from et_core.config.schema import IN_MEMORY, SHORT_FORMS, RunConfig, flatten, is_rows, spell_out, to_dict
from et_core.config.validate import build_config
from et_core.errors import ConfigError

Overrides = Mapping[str, Any] | Sequence[str]
_DATA = (".tsv", ".csv", ".jsonl", ".parquet", ".arrow", ".gz")


@dataclass(frozen=True)
class LoadedConfig:
    """A config with the origin of each value: "default", "FILE:LINE" or "override"."""

    config: RunConfig
    origins: dict[str, str]


def load_config(
    source: str | Path | Mapping[str, Any] | None = None, overrides: Overrides | None = None
) -> LoadedConfig:
    """Read a YAML file or nested values, lay *overrides* over them, and check every key and type.

    *overrides* are ``["train.epochs=1"]`` or ``{"train.epochs": 1}``; later ones win. One that names another component
    than *source* (``model=...``) drops the options that *source* gives its own. ``${...}`` is resolved as OmegaConf
    does. Data held in memory may stand in ``data.train`` and ``data.dev``.
    """
    base, lines = _read(source)
    rows, base = _take_memory(base)
    more, pairs = _override_pairs(overrides)
    rows.update(more)
    config = OmegaConf.create(_without_replaced(spell_out(base), pairs))
    for key, value in pairs:
        _apply(config, key, value)
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        where = f"{source}: " if isinstance(source, (str, Path)) else ""
        raise ConfigError(f"{where}{str(error).splitlines()[0]}") from error
    run = build_config(_paths_as_text(values))
    for name, value in rows.items():
        setattr(run.data, name, value)
    return LoadedConfig(run, _origins(run, lines, overridden=[key for pair in pairs for key in flatten(dict([pair]))]))


def _read(source: str | Path | Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, str]]:
    if source is None:
        return {}, {}
    if isinstance(source, Mapping):
        return dict(source), dict.fromkeys(flatten(source), "given")
    path = Path(source)
    if path.suffix in _DATA:
        raise ConfigError(
            f"{path} is a file of data, not a config. Name it as data.train={path}, "
            "beside app=... and model=..., or in a config file."
        )
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
    return rows, [pair for key, value in pairs if not _is_rows(key, value) for pair in spell_out({key: value}).items()]


def _parse_pair(text: str) -> tuple[str, Any]:
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
        read: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{text!r}: the value is not valid YAML. Put it in quotes of its own: '{key}=\"...\"'."
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{text!r}: {str(error).splitlines()[0]}") from error
    return key, read["value"]


def _without_replaced(base: Mapping[str, Any], pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """*base* without the sections for which *pairs* name another component: their options are not meant for it."""
    named = {key: value[SHORT_FORMS[key]] for key, value in pairs if key in SHORT_FORMS and SHORT_FORMS[key] in value}
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in base.items()}
    for path, name in named.items():
        section, _, key = path.rpartition(".")
        holder = kept.get(section) if section else kept
        if isinstance(holder, dict) and key in holder and holder[key].get(SHORT_FORMS[path]) != name:
            del holder[key]
    return kept


def _apply(config: Any, key: str, value: Any) -> None:
    try:
        OmegaConf.update(config, key, value, merge=True, force_add=True)
    except (OmegaConfBaseException, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the override {key}={value!r} does not fit the config: {str(error).splitlines()[0]}"
        ) from error


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


def _origins(run: RunConfig, lines: Mapping[str, str], *, overridden: Iterable[str]) -> dict[str, str]:
    found = {**lines, **dict.fromkeys(overridden, "override")}
    return {key: found.get(key, "default") for key in flatten(to_dict(run))}
