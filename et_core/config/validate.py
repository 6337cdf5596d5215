from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from et_core.config.schema import SHORT_FORMS, RunConfig
from et_core.errors import ConfigError
from et_core.registry import close_names, did_you_mean

T = TypeVar("T")


def build_config(values: Mapping[str, Any], places: Mapping[str, str] | None = None) -> RunConfig:
    """Turn plain nested values into a RunConfig; ConfigError names the first wrong key with its path.

    *places* says by path how the message begins, such as "run.yaml line 3: ".
    """
    return _build(RunConfig, values, "", places or {})


def refuse_dotted_keys(values: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """ConfigError for ``{"data.dev": ...}`` among nested *values*, in which a dot has no meaning."""
    for key in values:
        if _is_dotted(key, RunConfig):
            raise ConfigError(_nest(key, places))


def _build(cls: type[T], values: Any, path: str, places: Mapping[str, str]) -> T:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{places.get(path, '')}{path} is {_shown(values)}: expected keys and values.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls, include_extras=True)
    open_ended = path in SHORT_FORMS
    arguments: dict[str, Any] = {"options": {}} if open_ended else {}
    for key, value in values.items():
        here = f"{path}.{key}" if path else str(key)
        where = places.get(here, "")
        if key in fields and key != "options":
            nested = dataclasses.is_dataclass(hints[key])
            arguments[key] = (
                _build(hints[key], value, here, places) if nested else check_value(hints[key], value, f"{where}{here}")
            )
        elif open_ended:
            arguments["options"][str(key)] = value
        elif _is_dotted(key, cls):
            raise ConfigError(_nest(here, places))
        else:
            raise ConfigError(f"{where}{here} is not a setting. {_suggest(here)}")
    return cls(**arguments)


def _is_dotted(key: Any, cls: type) -> bool:
    section, dot, _ = str(key).partition(".")
    return bool(dot) and section in {field.name for field in dataclasses.fields(cls)}


def _nest(path: str, places: Mapping[str, str]) -> str:
    nested = "..."
    for name in reversed(path.split(".")):
        nested = f'{{"{name}": {nested}}}'
    in_file = path in places
    other = (
        f"write it on the command line: {path}=VALUE" if in_file else "pass it as the second argument, the overrides"
    )
    return f"{places.get(path, '')}{path} is written with a dot. Nest it: {nested}, or {other}."


def check_arguments(
    target: Callable[..., Any], options: Mapping[str, Any], *, where: str, owner: str, given: Iterable[str] = ()
) -> dict[str, Any]:
    """Check the keys a user wrote against the signature of the component they are for, before anything runs.

    *where* is the section ("model"), *owner* what the message calls the component; *given* are parameters that are not
    the user's to set. Returns the values, converted to the annotated types.
    """
    # A dataclass may inherit fields from another module, where its annotations have to be looked up.
    annotated = target.__init__ if inspect.isclass(target) and not dataclasses.is_dataclass(target) else target
    hints = typing.get_type_hints(annotated, include_extras=True)
    parameters = [
        name
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD) and name not in given
    ]
    checked = {}
    for key, value in options.items():
        if key not in parameters:
            meant = did_you_mean(key, parameters)
            known = ", ".join(parameters) or "none"
            raise ConfigError(f"{where}.{key} is not an argument of {owner}.{meant} Arguments: {known}.")
        checked[key] = check_value(hints.get(key, Any), value, f"{where}.{key}")
    return checked


def check_value(hint: Any, value: Any, path: str) -> Any:
    """Return *value* as the type *hint* says, or raise ConfigError. A number becomes text where text is wanted."""
    section = _section(hint)
    if section is not None and isinstance(value, Mapping):
        return _build_section(section, value, path)
    error = ConfigError(f"{path} is {_shown(value)}: expected {describe(hint)}.{_missing_space(value)}")
    if isinstance(value, bool) and not _admits_bool(hint):
        raise error
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as cause:
        raise error from cause


def _build_section(section: type[Any], values: Mapping[str, Any], path: str) -> Any:
    arguments = check_arguments(section, values, where=path, owner=path)
    required = _required(section)
    if missing := [name for name in required if name not in arguments]:
        raise ConfigError(f"{path} is {_shown(values)}: {missing[0]} is missing. Write {_keys(required)}.")
    try:
        return section(**arguments)
    except ValueError as error:
        raise ConfigError(f"{path} is {_shown(values)}: {error}.") from error


def _required(section: type[Any]) -> list[str]:
    """The fields of a dataclass that have no default."""
    nothing = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(section) if f.default is nothing and f.default_factory is nothing]


def _keys(names: Iterable[str]) -> str:
    return f"keys {' and '.join(names)}"


def _section(hint: Any) -> type[Any] | None:
    """The dataclass whose fields are the keys of a value that is *hint*, if it is one, or one or a plain value."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    choices = typing.get_args(hint) if is_union else (hint,)
    found = [choice for choice in choices if dataclasses.is_dataclass(choice)]
    others = [choice for choice in choices if (typing.get_origin(choice) or choice) in (dict, Mapping, Any)]
    return found[0] if len(found) == 1 and not others else None  # type: ignore[return-value]


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def _missing_space(value: Any) -> str:
    """What to write for ``{a:1}``, which YAML reads as a key "a:1" without a value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            name, colon, rest = str(key).partition(":")
            if inner is None and colon and rest:
                return f" Write a space after the colon: {{{name}: {rest}}}."
    return ""


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    if dataclasses.is_dataclass(hint):
        return TypeAdapter(hint)
    return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True))


def describe(hint: Any) -> str:
    """What a value of the type *hint* is, in words."""
    if isinstance(hint, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else ()):
        return describe(hint.__value__)
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint) or (Any, Any)
    if origin is Annotated:
        return describe(arguments[0]) + _bounds(arguments[1:])
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin in (list, tuple):
        items = _describe_items(arguments[0])
        return f"a list of {items}" if items else "a list"
    if origin is dict:
        items = _describe_items(arguments[1])
        return f"keys with {items}" if items else "keys and values"
    if dataclasses.is_dataclass(hint) and (required := _required(hint)):  # type: ignore[arg-type]
        return _keys(required)
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    dict: "keys and values",
    list: "a list",
}

_PLURALS = {int: "whole numbers", float: "numbers", str: "text"}


def _describe_items(hint: Any) -> str | None:
    if typing.get_origin(hint) is Annotated:
        inner, *bounds = typing.get_args(hint)
        items = _describe_items(inner)
        return items and items + _bounds(bounds)
    return _PLURALS.get(hint)


def _bounds(annotations: Iterable[Any]) -> str:
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    parts = [
        f"{word} {getattr(bound, name)}"
        for annotation in annotations
        for bound in getattr(annotation, "metadata", ())
        for name, word in words.items()
        if hasattr(bound, name)
    ]
    return f" {' and '.join(parts)}" if parts else ""


def _admits_bool(hint: Any) -> bool:
    if hint in (bool, Any):
        return True
    return any(_admits_bool(argument) for argument in typing.get_args(hint) if argument is not hint)


def _suggest(path: str) -> str:
    known = dict(_known_keys(RunConfig, ""))
    leaf = path.rpartition(".")[2]
    section = path.rpartition(".")[0]
    for key, others in known.items():
        if leaf in others and (key.rpartition(".")[0] == section or "." not in path):
            return f"Did you mean {key}?"
    # By the last part alone: whole paths in one section are all alike.
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == section}
    leaves = {key.rpartition(".")[2]: key for key in known}
    elsewhere = [key for key in known if key.rpartition(".")[2] == leaf or leaf in known[key]]
    near = close_names(leaf, siblings, count=1) or close_names(leaf, leaves, count=1)
    close = elsewhere or [siblings.get(name) or leaves[name] for name in near]
    if close:
        return f"Did you mean {close[0]}?"
    return f"Settings{f' of {section}' if section else ''}: {', '.join(siblings)}."


def _known_keys(cls: type, path: str) -> Iterable[tuple[str, tuple[str, ...]]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name == "options":
            continue
        here = f"{path}.{field.name}" if path else field.name
        yield here, tuple(field.metadata.get("also", ()))
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _known_keys(hints[field.name], here)
