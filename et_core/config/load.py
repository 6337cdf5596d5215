from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from et_core.config.files import explained, place, read_file
from et_core.config.overrides import Overrides, override_pairs
from et_core.config.schema import IN_MEMORY, SHORT_FORMS, RunConfig, flatten, is_rows, spell_out, to_dict
from et_core.config.validate import build_config, refuse_dotted_keys
from et_core.errors import ConfigError


class _Source(NamedTuple):
    values: dict[str, Any]
    origins: dict[str, str]
    places: dict[str, str]
    """How a message about a key begins, by the key's path; empty where there is no file."""


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
    written = _read(source)
    refuse_dotted_keys(written.values, written.places)
    rows, base = _take_memory(written.values)
    more, pairs = _split_rows(override_pairs(overrides))
    rows.update(more)
    overridden = [key for pair in pairs for key in flatten(dict([pair]))]
    places = {key: where for key, where in written.places.items() if not _touched(key, overridden)}
    try:
        config = OmegaConf.create(_without_replaced(spell_out(base), pairs))
        for key, value in pairs:
            _apply(config, key, value)
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise explained(error, places) from error
    run = build_config(_paths_as_text(values), places)
    for name, value in rows.items():
        setattr(run.data, name, value)
    return LoadedConfig(run, _origins(run, written.origins, overridden=overridden))


def _read(source: str | Path | Mapping[str, Any] | None) -> _Source:
    if source is None:
        return _Source({}, {}, {})
    if isinstance(source, Mapping):
        return _Source(dict(source), dict.fromkeys(flatten(source), "given"), {})
    path = Path(source)
    values, lines = read_file(path)
    origins = {key: f"{path}:{line}" for key, line in lines.items()}
    return _Source(values, origins, {key: place(path, line) for key, line in lines.items()})


def _split_rows(pairs: Iterable[tuple[str, Any]]) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Data held in memory, which OmegaConf cannot hold, and all other *pairs* spelled out."""
    pairs = list(pairs)
    rows = {key.removeprefix("data."): value for key, value in pairs if _is_rows(key, value)}
    return rows, [pair for key, value in pairs if not _is_rows(key, value) for pair in spell_out({key: value}).items()]


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


def _touched(key: str, overridden: Iterable[str]) -> bool:
    """Whether the value of *key*, or a part of it, is another than the file's."""
    return any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in overridden)


def _origins(run: RunConfig, lines: Mapping[str, str], *, overridden: Iterable[str]) -> dict[str, str]:
    found = {**lines, **dict.fromkeys(overridden, "override")}
    return {key: found.get(key, "default") for key in flatten(to_dict(run))}
