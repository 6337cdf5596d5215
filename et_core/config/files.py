from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from et_core.config.schema import SHORT_FORMS
from et_core.errors import ConfigError

_DATA = (".tsv", ".csv", ".jsonl", ".parquet", ".arrow", ".gz")


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The settings in a YAML file, and the line of each key by the key's path; ConfigError where it cannot be read."""
    _refuse_other_things(path)
    text = _text(path)
    node = _composed(path, text)
    if node is None or node.tag == "tag:yaml.org,2002:null":
        state = "holds no settings. Write some" if text.strip() else "is empty. Write some settings"
        raise ConfigError(f"{path} {state} into it, such as 'app: classification'.")
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "text"
        raise ConfigError(f"{path} holds {kind}: expected keys and values, such as 'app: classification'.{_hint(path)}")
    lines = dict(_lines(node, ""))
    return {str(key): value for key, value in _values(path, text, lines).items()}, lines


def explained(error: OmegaConfBaseException, places: dict[str, str]) -> ConfigError:
    """What OmegaConf refused, with the setting it concerns and, out of *places*, where that is written."""
    path = str(error.full_key or "").partition("[")[0]
    where = f"{places.get(path, '')}{path}: " if path else ""
    return ConfigError(f"{where}{str(error).splitlines()[0]}")


def place(path: Path, line: int) -> str:
    """The start of a message about *line*."""
    return f"{path} line {line}: "


def _refuse_other_things(path: Path) -> None:
    if path.is_dir():
        raise ConfigError(
            f"{path} is a folder, not a config. Name a YAML file; data is named as data.train={path}.{_listing(path)}"
        )
    if path.suffix.lower() in _DATA:
        raise ConfigError(
            f"{path} is a file of data, not a config. Name it as data.train={path}, "
            "beside app=... and model=..., or in a config file."
        )
    if not path.is_file():
        raise ConfigError(f"there is no config file {str(path)!r}.{_listing(path.parent)}")


def _listing(folder: Path) -> str:
    near = sorted(str(other) for other in folder.glob("*.y*ml")) if folder.is_dir() else []
    return f"\nConfigs there: {', '.join(near[:10])}." if near else ""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).{_hint(path)}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error


def _composed(path: Path, text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _no_yaml(path, error) from error


def _values(path: Path, text: str, lines: dict[str, int]) -> dict[Any, Any]:
    try:
        values: Any = OmegaConf.to_container(OmegaConf.create(text))
    except yaml.YAMLError as error:
        raise _no_yaml(path, error) from error
    except OmegaConfBaseException as error:
        raise explained(error, {key: place(path, line) for key, line in lines.items()}) from error
    return dict(values)


def _no_yaml(path: Path, error: yaml.YAMLError) -> ConfigError:
    hint = _hint(path)
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or not mark:
        return ConfigError(f"{path} is no YAML file: {str(error).splitlines()[0]}.{hint}")
    where, reason = f"line {mark.line + 1}, column {mark.column + 1}", error.problem or error.context
    return ConfigError(f"{path} is no YAML file: {where}: {reason}.{hint}" if hint else f"{path} {where}: {reason}")


def _hint(path: Path) -> str:
    """For a file that is not called YAML."""
    if path.suffix.lower() in (".yaml", ".yml"):
        return ""
    return (
        f"\nIf it is a file of data, name it as data.train={path}, beside app=... and model=..., or in a config file."
    )


def _lines(node: yaml.MappingNode, path: str) -> Iterator[tuple[str, int]]:
    for key, value in node.value:
        here = f"{path}.{key.value}" if path else str(key.value)
        line = key.start_mark.line + 1
        yield here, line
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, here)
        elif here in SHORT_FORMS:
            yield f"{here}.{SHORT_FORMS[here]}", line
