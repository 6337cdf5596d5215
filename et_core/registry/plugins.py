from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from et_core.errors import ConfigError, EtError, PluginError
from et_core.hooks import API_VERSION, PROJECT, HookSpecs
from et_core.registry.entry import Entry
from et_core.registry.hints import ProviderHints
from et_core.registry.kinds import KINDS, Kind
from et_core.registry.plugin import Plugin, Status
from et_core.registry.registry import Registry, close_names

GROUP = "et.plugins"


class PluginSet:
    """All plugins found through entry points, each loaded in its own guard, and the registries they fill.

    *entry_points* replaces discovery (tests; frozen programs without metadata). *only* limits plugins by distribution
    name: None loads all, an empty collection none. *strict* raises on the first plugin that is not usable.
    """

    def __init__(
        self,
        entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
        *,
        only: Iterable[str] | None = None,
        strict: bool = False,
        hints: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._only = None if only is None else {normalize(name) for name in only}
        self._strict = strict
        self._hints = ProviderHints(self, hints)
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(HookSpecs)
        self._plugins: dict[str, Plugin] = {}
        points = importlib.metadata.entry_points(group=GROUP) if entry_points is None else entry_points
        for distribution, group in _by_distribution(points).items():
            self._add(self._load(distribution, group))
        self._registries: dict[str, Registry[Any]] = {}

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin that was found, usable or not, by distribution name."""
        return tuple(self._plugins[name] for name in sorted(self._plugins))

    @property
    def only(self) -> frozenset[str] | None:
        return None if self._only is None else frozenset(self._only)

    def find(self, distribution: str) -> Plugin:
        plugin = self._plugins.get(normalize(distribution))
        if plugin is None:
            close = close_names(normalize(distribution), self._plugins)
            suggestion = f" Did you mean {close[0]!r}?" if close else ""
            raise PluginError(
                f"no plugin {distribution!r} is installed.{suggestion}\n"
                f"Installed plugins: {', '.join(sorted(self._plugins)) or 'none'}."
            )
        return plugin

    def registry(self, kind: str) -> Registry[Any]:
        """The registry of a *kind*, by its plural or singular name."""
        plural = kind if kind in KINDS else next((k.plural for k in KINDS.values() if k.name == kind), None)
        if plural is None:
            close = close_names(kind, KINDS)
            suggestion = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"unknown kind {kind!r}.{suggestion}\nKinds: {', '.join(KINDS)}.")
        if plural not in self._registries:
            spec = KINDS[plural]
            rows = [e for p in self._plugins.values() if p.status is Status.OK for e in p.entries if e.kind == plural]
            self._registries[plural] = Registry(spec, rows, hint=self._hints)
        return self._registries[plural]

    def add_file(self, path: Path) -> Plugin:
        """Load one Python file with hooks as a plugin of its own, for components that are not packaged.

        A run names such files under ``plugins.files``. The plugin's name is the file's stem; targets may use the stem
        as their module. Loading the same file twice changes nothing.
        """
        path = path.resolve()
        name = normalize(path.stem)
        known = self._plugins.get(name)
        if known is not None:
            if known.origin != str(path):
                raise PluginError(f"{path} would be the plugin {name!r}, which {known.origin or 'a package'} already is.")
            return known
        plugin = self._stage(name, "0", lambda: _import_file(path), origin=str(path))
        if plugin.status is not Status.OK:
            raise PluginError(f"{path}: {plugin.reason}") from plugin.error
        self._add(plugin)
        self._registries.clear()
        return plugin

    def require(self, requirements: Iterable[str]) -> None:
        """Check lines such as ``et-bert>=0.1`` against what is installed and usable."""
        from packaging.requirements import InvalidRequirement, Requirement

        for text in requirements:
            try:
                requirement = Requirement(text)
            except InvalidRequirement as error:
                raise ConfigError(f"plugins.required: {text!r} is not a requirement. Write one such as 'et-bert>=0.1'.") from error
            plugin = self._plugins.get(normalize(requirement.name))
            if plugin is None:
                raise PluginError(f"this run requires {text}, which is not installed: pip install '{text}'")
            if plugin.status is not Status.OK:
                raise PluginError(f"this run requires {text}, but {plugin.distribution} is {plugin.status}: {plugin.reason}")
            if plugin.version not in requirement.specifier:
                raise PluginError(f"this run requires {text}, but {plugin.provider} is installed: pip install '{text}'")

    def _add(self, plugin: Plugin) -> None:
        if self._strict and plugin.status in (Status.BROKEN, Status.INCOMPATIBLE):
            raise PluginError(f"{plugin.provider} is {plugin.status}: {plugin.reason}") from plugin.error
        self._plugins[plugin.distribution] = plugin

    def _load(self, distribution: str, points: list[importlib.metadata.EntryPoint]) -> Plugin:
        version = points[0].dist.version if points[0].dist else "0"
        if self._only is not None and distribution not in self._only:
            return Plugin(distribution, version, Status.DISABLED, f"ET_PLUGINS={','.join(sorted(self._only))!r} leaves it out.")
        if len(points) > 1:
            reason = f"it declares {len(points)} entry points in the group {GROUP!r}; a distribution has one."
            return Plugin(distribution, version, Status.BROKEN, reason)
        return self._stage(distribution, version, points[0].load)

    def _stage(self, distribution: str, version: str, load: Any, *, origin: str = "") -> Plugin:
        """Run one plugin's hooks into a staging list, so that one failing half way registers nothing at all."""
        module: ModuleType | None = None
        try:
            module = load()
            _check_api(module, distribution, version)
            _check_hooks(module, distribution, version)
            self._manager.register(module, name=distribution)
            entries = self._collect(distribution, version)
        except Exception as error:
            if module is not None and self._manager.is_registered(module):
                self._manager.unregister(module)
            status = Status.INCOMPATIBLE if isinstance(error, _ApiMismatch) else Status.BROKEN
            reason = str(error) if isinstance(error, EtError) else f"{type(error).__name__}: {error}"
            return Plugin(distribution, version, status, reason, error=error, origin=origin)
        return Plugin(distribution, version, Status.OK, "", entries, origin=origin)

    def _collect(self, distribution: str, version: str) -> tuple[Entry, ...]:
        others = [plugin for name, plugin in self._manager.list_name_plugin() if name != distribution]
        staged: list[Entry] = []
        for plural, kind in KINDS.items():

            def register(name: str, target: str, *, summary: str, _kind: str = plural, **details: Any) -> None:
                entry = Entry(_kind, name, target, distribution, version, summary, **details)
                if entry not in staged:
                    staged.append(entry)

            self._manager.subset_hook_caller(kind.hook, others)(register=register)
        _check_unique(staged, distribution, version)
        return tuple(staged)


class _ApiMismatch(PluginError):
    pass


def normalize(distribution: str) -> str:
    """The canonical spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _by_distribution(
    points: Iterable[importlib.metadata.EntryPoint],
) -> dict[str, list[importlib.metadata.EntryPoint]]:
    """Group by distribution; one that lies twice on sys.path (editable and wheel) counts once, the first wins."""
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    seen: dict[str, object] = {}
    for point in points:
        name = normalize(point.dist.name if point.dist else point.name)
        place = str(getattr(point.dist, "_path", "")) if point.dist else ""
        if seen.setdefault(name, place) == place:
            found.setdefault(name, []).append(point)
    return found


def _check_api(module: ModuleType, distribution: str, version: str) -> None:
    api = getattr(module, "ET_API", None)
    if api is None:
        raise PluginError(f"{module.__name__} states no ET_API. Add the line: ET_API = {API_VERSION}")
    if api != API_VERSION:
        core = importlib.metadata.version("et-core")
        remedy = f"Upgrade {distribution}." if api < API_VERSION else f"Upgrade et-core, or install an older {distribution}."
        raise _ApiMismatch(f"{distribution} {version} speaks plugin API {api}; et-core {core} speaks {API_VERSION}. {remedy}")


def _check_hooks(module: ModuleType, distribution: str, version: str) -> None:
    known = {kind.hook for kind in KINDS.values()}
    for name, value in vars(module).items():
        if not name.startswith("et_") or not callable(value):
            continue
        if name not in known:
            close = close_names(name, known, count=1)
            suggestion = f" Did you mean {close[0]!r}?" if close else f" Hooks: {', '.join(sorted(known))}."
            raise PluginError(f"{distribution} {version} defines the unknown hook {name!r}.{suggestion}")
        if not hasattr(value, f"{PROJECT}_impl"):
            raise PluginError(f"{distribution} {version} defines {name} without @hookimpl, so it would never be called.")


def _check_unique(entries: list[Entry], distribution: str, version: str) -> None:
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        for name in (entry.name, *entry.aliases):
            if (entry.kind, name) in seen:
                raise PluginError(f"{distribution} {version} registers the {KINDS[entry.kind].name} name {name!r} twice.")
            seen.add((entry.kind, name))


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError("there is no such file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PluginError("it is not a Python file.")
    if path.stem in sys.modules:
        raise PluginError(f"a module named {path.stem!r} is already imported. Rename the file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


_loaded: PluginSet | None = None


def plugins() -> PluginSet:
    """The installed plugins, loaded once; ``ET_PLUGINS`` and ``ET_PLUGINS_STRICT`` are read at that moment."""
    global _loaded
    if _loaded is None:
        names = os.environ.get("ET_PLUGINS")
        only = None if names is None else [name for name in names.replace(" ", "").split(",") if name]
        _loaded = PluginSet(only=only, strict=os.environ.get("ET_PLUGINS_STRICT") == "1")
    return _loaded


def refresh() -> PluginSet:
    """Look again, for a notebook in which a plugin was installed after the first look."""
    global _loaded
    importlib.invalidate_caches()
    _loaded = None
    return plugins()


def registry(kind: str) -> Registry[Any]:
    """The registry of a *kind* ("backbones", "apps", ...) over the installed plugins."""
    return plugins().registry(kind)


__all__ = ["GROUP", "Kind", "PluginSet", "normalize", "plugins", "refresh", "registry"]
