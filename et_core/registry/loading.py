"""Turn one plugin module into rows, or into a reason why not; nothing that it does can harm another plugin."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pluggy

from et_core.errors import PluginError
from et_core.hooks import API_VERSION, PROJECT, HookSpecs
from et_core.registry.entry import Entry
from et_core.registry.kinds import KINDS, Kind
from et_core.registry.names import did_you_mean, normalize
from et_core.registry.plugin import Plugin, Status


class Loader:
    """Runs the hooks of one plugin at a time."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(HookSpecs)

    def load(self, distribution: str, version: str, load: Callable[[], ModuleType], *, origin: str = "") -> Plugin:
        """Import the module through *load*, check it, and collect what it registers.

        What the plugin prints meanwhile goes to standard error: standard output may be read by a program.
        """
        try:
            with contextlib.redirect_stdout(sys.stderr):
                module = load()
                _check_api(module, distribution)
                _check_hooks(module)
                conformance = _conformance(module)
                entries = self._collect(module, distribution, version)
            _check_unique(entries)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may fail in any way, such as a panic in Rust
            status = Status.INCOMPATIBLE if isinstance(error, _ApiMismatchError) else Status.BROKEN
            return Plugin(distribution, version, status, _reason(error), error=error, origin=origin)
        return Plugin(distribution, version, Status.OK, entries=entries, origin=origin, conformance=conformance)

    def _collect(self, module: ModuleType, distribution: str, version: str) -> tuple[Entry, ...]:
        staging = _Staging(distribution, version)
        try:
            self._manager.register(module, name=distribution)
            for caller in self._manager.get_hookcallers(module) or ():
                plural = caller.name.removeprefix("et_register_")
                caller(register=functools.partial(staging.register, KINDS[plural]))
        finally:
            staging.is_open = False
            # Off again, so that the next plugin's turn calls the next plugin alone.
            if self._manager.is_registered(module):
                self._manager.unregister(module)
        return tuple(staging.entries)


class _Staging:
    """Its ``register`` is what a hook gets; it only takes notes: a plugin that fails half way registers nothing."""

    def __init__(self, distribution: str, version: str) -> None:
        self.entries: dict[Entry, None] = {}
        self.is_open = True
        self._distribution = distribution
        self._version = version

    def register(
        self,
        kind: Kind,
        name: str,
        target: str,
        *,
        summary: str,
        aliases: tuple[str, ...] = (),
        replaces: str | None = None,
        deprecated: str | None = None,
    ) -> None:
        if not self.is_open:
            raise PluginError(f"{self._distribution} registers {name!r} too late: its hook has returned already.")
        try:
            entry = Entry(
                kind.plural,
                name,
                target,
                self._distribution,
                self._version,
                summary,
                aliases=aliases,
                replaces=None if replaces is None else normalize(replaces),
                deprecated=deprecated,
            )
        except PluginError as error:  # an entry by itself names its provider
            raise _FlawError(str(error).removeprefix(f"{self._distribution} {self._version} ")) from error
        self.entries[entry] = None


class _FlawError(PluginError):
    """A rule that a plugin breaks, as what follows its name: "registers the head name 'crf' twice."."""


class _ApiMismatchError(_FlawError):
    pass


def _reason(error: BaseException) -> str:
    if isinstance(error, _FlawError):
        return str(error)
    return f"failed to load: {type(error).__name__}: {' '.join(str(error).split())}"


def _check_api(module: ModuleType, distribution: str) -> None:
    api = getattr(module, "ET_API", None)
    if api is None:
        raise _FlawError(f"states no ET_API in {module.__name__}. Add the line: ET_API = {API_VERSION}")
    if not isinstance(api, int) or isinstance(api, bool):
        raise _FlawError(f"states ET_API = {api!r}. Write a whole number: ET_API = {API_VERSION}")
    if api == API_VERSION:
        return
    if api < API_VERSION:
        remedy = f"Upgrade {distribution}, or install a version of et-core that speaks {api}."
    else:
        remedy = f"Upgrade et-core, or install a version of {distribution} that speaks {API_VERSION}."
    raise _ApiMismatchError(f"speaks plugin API {api}; {_core()} speaks {API_VERSION}. {remedy}")


def _conformance(module: ModuleType) -> str:
    named = getattr(module, "ET_CONFORMANCE", "")
    if not isinstance(named, str) or not all(part.isidentifier() for part in named.split(".") if named):
        raise _FlawError(
            f"states ET_CONFORMANCE = {named!r}. It names the module with its suites, such as 'et_acme.conformance'."
        )
    return named


def _core() -> str:
    try:
        return f"et-core {importlib.metadata.version('et-core')}"
    except importlib.metadata.PackageNotFoundError:  # a frozen program without metadata
        return "et-core"


def _check_hooks(module: ModuleType) -> None:
    """Refuse what pluggy would pass over in silence: functions that look like hooks and would never be called."""
    known = {kind.hook for kind in KINDS.values()}
    for attribute, function in vars(module).items():
        if inspect.isclass(function) or not callable(function):
            continue
        marks: dict[str, Any] | None = getattr(function, f"{PROJECT}_impl", None)
        if marks is None and not attribute.startswith("et_"):
            continue
        hook = (marks or {}).get("specname") or attribute
        if hook not in known:
            meant = did_you_mean(hook, known) or f" Hooks: {', '.join(sorted(known))}."
            raise _FlawError(f"defines the unknown hook {hook!r}.{meant}")
        if marks is None:
            raise _FlawError(f"defines {hook} without @hookimpl, so it would never be called.")
        if inspect.isgeneratorfunction(function) or marks.get("wrapper") or marks.get("hookwrapper"):
            raise _FlawError(f"defines {hook} as a generator, which registers nothing. Write it without 'yield'.")
        _check_arguments(function, hook)


def _check_arguments(function: Callable[..., Any], hook: str) -> None:
    accepted = [name for name in inspect.signature(getattr(HookSpecs, hook)).parameters if name != "self"]
    asked = inspect.signature(function).parameters
    surplus = [p.name for p in asked.values() if p.default is p.empty and p.name not in accepted]
    if surplus:
        raise _FlawError(
            f"defines {hook}({', '.join(asked)}), but the hook hands out no {surplus[0]!r}. "
            f"Write {hook}({', '.join(accepted)})."
        )


def _check_unique(entries: tuple[Entry, ...]) -> None:
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        for name in (entry.name, *entry.aliases):
            if (entry.kind, name) in seen:
                raise _FlawError(f"registers the {KINDS[entry.kind].name} name {name!r} twice.")
            seen.add((entry.kind, name))
