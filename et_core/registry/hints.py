from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from et_core.registry.kinds import Kind
from et_core.registry.names import normalize
from et_core.registry.plugin import Plugin, Status

if TYPE_CHECKING:
    from et_core.registry.plugin_set import PluginSet


class ProviderHints:
    """Says why a name is not registered, if it is known who provides it.

    The table (kind, name, distribution) is generated from the plugins of this repository and serves this alone.
    """

    def __init__(self, plugins: PluginSet, table: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._plugins = plugins
        self._table = table

    def explain(self, kind: Kind, name: str) -> str | None:
        """What keeps *name* (``name`` or ``distribution/name``) from being there; None if nothing is known."""
        distribution, _, bare = name.rpartition("/")
        if distribution:
            return self._explain_distribution(normalize(distribution))
        provider = self._read().get(kind.plural, {}).get(bare)
        if provider is None:
            return None
        plugin = self._plugins.get(provider)
        if plugin is None:
            return f"It is provided by {provider}, which is not installed: pip install {provider}"
        if plugin.status is Status.OK:
            return (
                f"It is provided by another version of {provider} than the installed {plugin.version}: "
                f"pip install --upgrade {provider}"
            )
        if plugin.status is Status.DISABLED:
            return f"It is provided by {provider}, which {self._plugins.limit} leaves out."
        return f"It is provided by {plugin.provider}, which {_with_remedy(plugin)}"

    def unusable(self) -> str | None:
        """Which plugins are installed and not there, without their errors; None if all are."""
        absent = [f"{p.distribution} ({p.status})" for p in self._plugins.plugins if p.status is not Status.OK]
        absent += [f"{name} (not installed)" for name in self._plugins.missing]
        return f"Not loaded: {', '.join(absent)}. See: et plugins list" if absent else None

    def _explain_distribution(self, distribution: str) -> str | None:
        plugin = self._plugins.get(distribution)
        if plugin is not None:
            return None if plugin.status is Status.OK else f"{plugin.provider} {_with_remedy(plugin)}"
        if any(distribution in providers.values() for providers in self._read().values()):
            return f"{distribution} is not installed: pip install {distribution}"
        return f"No plugin {distribution!r} is installed."

    def _read(self) -> Mapping[str, Mapping[str, str]]:
        import json
        from importlib import resources

        if self._table is None:
            self._table = json.loads(resources.files("et_core.registry").joinpath("providers.json").read_text("utf-8"))
        return self._table


def _with_remedy(plugin: Plugin) -> str:
    if plugin.status is not Status.BROKEN:
        return plugin.reason
    reason = plugin.reason if plugin.reason.endswith((".", "?")) else f"{plugin.reason}."
    check = f"et plugins check {plugin.distribution}"
    if not isinstance(plugin.error, ModuleNotFoundError):
        return f"{reason} Full traceback: {check}"
    return f"{reason} Try: pip install {_install(plugin.distribution)}; full traceback: {check}"


def _install(distribution: str) -> str:
    """What pip has to be told to bring what the plugin lacks."""
    import importlib.metadata

    try:
        extras = importlib.metadata.metadata(distribution).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        extras = []
    return f"'{distribution}[all]'" if "all" in extras else distribution
