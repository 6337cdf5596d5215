from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from et_core.errors import ComponentError, PluginError
from et_core.registry.kinds import KINDS

_NAME = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")
_TARGET = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<attribute>[A-Za-z_]\w*)(?:\[(?P<key>[^\[\]]+)\])?")
_SUMMARY_WIDTH = 72


@dataclass(frozen=True)
class Entry:
    """What is known about a registered name without importing anything."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    summary: str
    aliases: tuple[str, ...] = ()
    replaces: str | None = None
    deprecated: str | None = None

    def __post_init__(self) -> None:
        kind = KINDS[self.kind].name
        for argument in ("name", "target", "summary"):
            if not isinstance(value := getattr(self, argument), str):
                raise PluginError(
                    f"{self.provider} registers a {kind} with {argument}={value!r}, of type {type(value).__name__}. "
                    "It is text."
                )
        if not isinstance(self.aliases, tuple):
            raise PluginError(f"{self.provider} registers the {kind} {self.name!r} with aliases that are not a tuple.")
        for name in (self.name, *self.aliases):
            if not _NAME.fullmatch(name):
                raise PluginError(
                    f"{self.provider} registers the {kind} name {name!r}. Names are lower case letters and digits, "
                    "joined by single '-' or '.'."
                )
        if not _TARGET.fullmatch(self.target):
            raise PluginError(
                f"{self.provider} registers the {kind} {self.name!r} with the target {self.target!r}. "
                "A target is 'module:attribute' or 'module:table[key]'."
            )
        if not self.summary.strip() or "\n" in self.summary or len(self.summary) > _SUMMARY_WIDTH:
            raise PluginError(
                f"{self.provider} registers the {kind} {self.name!r} with a summary of {len(self.summary)} "
                f"characters. It must be one line of 1 to {_SUMMARY_WIDTH}."
            )

    @property
    def qualified(self) -> str:
        return f"{self.distribution}/{self.name}"

    @property
    def provider(self) -> str:
        return f"{self.distribution} {self.version}"

    def load(self) -> Any:
        """Import the target and check it against its kind; ComponentError tells what is wrong with it."""
        kind = KINDS[self.kind]
        try:
            found = resolve_target(self.target)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise ComponentError(
                f"{kind.name} {self.name!r} from {self.provider} failed to import.\n"
                f"  target: {self.target}\n"
                f"  cause:  {type(error).__name__}: {error}\n"
                f"Run 'et plugins check {self.distribution}' for the full traceback."
            ) from error
        interface = resolve_target(kind.interface)
        fits = isinstance(found, interface) if kind.instances else _is_subclass(found, interface)
        if not fits:
            wanted = "an instance" if kind.instances else "a subclass"
            raise ComponentError(
                f"{kind.name} {self.name!r} from {self.provider} is not {wanted} of {interface.__name__}.\n"
                f"  target: {self.target}\n"
                f"  found:  {_describe(found)}"
            )
        if not kind.instances and (lacks := _lacks(found, interface)):
            raise ComponentError(
                f"{kind.name} {self.name!r} from {self.provider} is not whole: {'; '.join(lacks)}.\n"
                f"  target: {self.target}\n"
                f"What a {kind.name} has to have: the docstring of et_core.interfaces.{interface.__name__}"
            )
        return found

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call *function*, which is what the name stands for or a part of it.

        ComponentError where its signature does not take what it is given. What it raises itself passes through.
        """
        signature = inspect.signature(function)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            given = [*(type(value).__name__ for value in args), *(f"{name}=" for name in kwargs)]
            raise ComponentError(
                f"{KINDS[self.kind].name} {self.name!r} from {self.provider} cannot be built: {error}.\n"
                f"  called: {function.__qualname__}({', '.join(given)})\n"
                f"  takes:  {function.__qualname__}{_without_types(signature)}\n"
                "What it has no use for may go to '**rest'."
            ) from error
        return function(*args, **kwargs)


def resolve_target(target: str) -> Any:
    """Import what ``module:attribute`` or ``module:table[key]`` points at."""
    match = _TARGET.fullmatch(target)
    if match is None:
        raise PluginError(f"{target!r} is not a target: write 'module:attribute' or 'module:table[key]'.")
    found = getattr(importlib.import_module(match["module"]), match["attribute"])
    return found if match["key"] is None else found[match["key"]]


def _is_subclass(found: object, interface: type) -> bool:
    return isinstance(found, type) and issubclass(found, interface)


def _lacks(found: type, interface: type) -> list[str]:
    """What *interface* asks for, by an abstract method or a ClassVar without a value, and the class *found* has not."""
    methods = sorted(getattr(found, "__abstractmethods__", ()))
    lacks = [f"it does not define {', '.join(methods)}"] if methods else []
    for name, annotation in inspect.get_annotations(interface).items():
        if not str(annotation).startswith("ClassVar["):
            continue
        value = inspect.getattr_static(found, name, None)
        if not hasattr(found, name):
            lacks.append(f"it does not set {name}, a {annotation[9:-1]}")
        elif annotation == "ClassVar[frozenset[str]]" and not isinstance(value, Set | property):
            lacks.append(f"its {name} is {value!r}, not a frozenset of names")
    return lacks


def _without_types(signature: inspect.Signature) -> str:
    parameters = [found.replace(annotation=inspect.Parameter.empty) for found in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def _describe(found: object) -> str:
    if isinstance(found, type):
        return f"the class {found.__module__}.{found.__qualname__}"
    return f"an object of type {type(found).__name__}"
