from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from et_core.errors import ConfigError, PluginError
from et_core.registry.hints import ProviderHints
from et_core.registry.kinds import KINDS
from et_core.registry.names import did_you_mean, normalize
from et_core.registry.plugin import GROUP, Plugin, Status
from et_core.registry.registries import Registry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from et_core.registry.discovery import Found

_CORE = "et-core"


class PluginSet:
    """All plugins found through entry points, each loaded in its own guard, and the registries they fill.

    *entry_points* replaces discovery (tests; frozen programs without metadata). *only* limits plugins by distribution
    name: None loads all, an empty collection none but the core's own. *strict* raises on the first plugin that is not
    usable. *hints* replaces the table of who provides what: {plural of the kind: {name: distribution}}.
    """

    def __init__(
        self,
        entry_points: Iterable[EntryPoint] | None = None,
        *,
        only: Iterable[str] | None = None,
        strict: bool = False,
        hints: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        # Here, because who only reads a reference shall not pay for pluggy and importlib.metadata.
        from et_core.registry.discovery import discover, group
        from et_core.registry.loading import Loader

        self._only = None if only is None else tuple(dict.fromkeys(normalize(name) for name in only))
        self._strict = strict
        self._hints = ProviderHints(self, hints)
        self._loader = Loader()
        self._plugins: dict[str, Plugin] = {}
        self._registries: dict[str, Registry[Any]] = {}
        self._owners: dict[str, str] = {}
        """Which distribution an entry point is of, by its name."""
        for found in discover() if entry_points is None else group(entry_points):
            self._owners |= {normalize(point.name): found.distribution for point in found.points}
            self._add(self._load(found))

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin that was found, usable or not, by distribution name."""
        return tuple(self._plugins[name] for name in sorted(self._plugins))

    @property
    def only(self) -> frozenset[str] | None:
        return None if self._only is None else frozenset(self._only)

    @property
    def limit(self) -> str:
        """*only* as a user writes it."""
        return f"ET_PLUGINS={','.join(self._only or ())!r}"

    @property
    def missing(self) -> tuple[str, ...]:
        """What *only* names and nobody installed."""
        return tuple(name for name in self._only or () if name not in self._plugins)

    def get(self, distribution: str) -> Plugin | None:
        return self._plugins.get(normalize(distribution))

    def find(self, distribution: str) -> Plugin:
        plugin = self.get(distribution)
        if plugin is None:
            owner = self._owners.get(normalize(distribution))
            raise PluginError(
                f"no plugin {distribution!r} is installed."
                + (
                    f" It is an entry point of {owner}: plugins go by their distribution's name.\n"
                    if owner
                    else f"{did_you_mean(normalize(distribution), self._plugins)}\n"
                )
                + f"Installed plugins: {', '.join(sorted(self._plugins)) or 'none'}."
            )
        return plugin

    def registry(self, kind: str) -> Registry[Any]:
        """The registry of a *kind*, by its plural or singular name."""
        plural = kind if kind in KINDS else next((k.plural for k in KINDS.values() if k.name == kind), None)
        if plural is None:
            raise ConfigError(f"unknown kind {kind!r}.{did_you_mean(kind, KINDS)}\nKinds: {', '.join(KINDS)}.")
        if plural not in self._registries:
            rows = [entry for plugin in self.plugins for entry in plugin.entries if entry.kind == plural]
            self._registries[plural] = Registry(KINDS[plural], rows, hints=self._hints)
        return self._registries[plural]

    def add_file(self, path: Path) -> Plugin:
        """Load one Python file with hooks as a plugin of its own, for components that are not packaged.

        A run names such files under ``plugins.files``. The plugin's name is the file's stem; targets may use the stem
        as their module. Loading the same file twice changes nothing.
        """
        from et_core.registry.files import check_file, forget_file, import_file

        path = path.resolve()
        name = normalize(path.stem)
        known = self._plugins.get(name)
        if known is not None and known.origin == str(path):
            return known
        if known is not None:
            other = known.origin or f"the installed {known.provider}"
            raise PluginError(f"{path} would be the plugin {name!r}, which {other} already is. Rename the file.")
        check_file(path)
        plugin = self._loader.load(name, "0", lambda: import_file(path), origin=str(path))
        if plugin.status is not Status.OK:
            forget_file(path)
            raise PluginError(f"{path} {plugin.reason}") from plugin.error
        self._add(plugin)
        self._registries.clear()
        return plugin

    def require(self, requirements: Iterable[str]) -> None:
        """Check lines such as ``et-bert>=0.1`` against what is installed and usable."""
        for text in requirements:
            self._require(text)

    def _require(self, text: str) -> None:
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            message = f"plugins.required: {text!r} is not a requirement. Write one such as 'et-bert>=0.1'."
            raise ConfigError(message) from error
        plugin = self.get(requirement.name)
        if plugin is None:
            raise PluginError(f"this run requires {text}, which is not installed: pip install '{text}'")
        if plugin.status is not Status.OK:
            raise PluginError(f"this run requires {text}, but {plugin.problem}") from plugin.error
        # As pip does: a pre-release that somebody installed on purpose counts.
        if not requirement.specifier.contains(plugin.version, prereleases=True):
            raise PluginError(f"this run requires {text}, but {plugin.provider} is installed: pip install '{text}'")

    def _add(self, plugin: Plugin) -> None:
        if self._strict and plugin.status in (Status.BROKEN, Status.INCOMPATIBLE):
            raise PluginError(plugin.problem) from plugin.error
        self._plugins[plugin.distribution] = plugin

    def _load(self, found: Found) -> Plugin:
        # Without the core's own names no command would work, and a limit to one plugin would have to repeat it.
        if self._only is not None and found.distribution not in (*self._only, _CORE):
            return Plugin(found.distribution, found.version, Status.DISABLED, f"is left out by {self.limit}.")
        problem = found.problem
        if not problem and len(found.points) != 1:
            names = ", ".join(point.name for point in found.points) or "none"
            problem = f"declares {len(found.points)} entry points in the group {GROUP!r} ({names}). Declare one."
        if problem:
            return Plugin(found.distribution, found.version, Status.BROKEN, problem)
        return self._loader.load(found.distribution, found.version, found.points[0].load)


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
