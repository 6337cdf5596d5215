from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING

from et_core.registry.kinds import Kind
from et_core.registry.plugin import Status

if TYPE_CHECKING:
    from et_core.registry.plugins import PluginSet


class ProviderHints:
    """Says which known distribution provides a name that is not registered, and why it does not at the moment.

    The table is generated from the plugins of this repository and serves this message alone.
    """

    def __init__(self, plugins: PluginSet, table: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._plugins = plugins
        self._table = table

    def __call__(self, kind: Kind, name: str) -> str | None:
        provider = self._read().get(kind.plural, {}).get(name)
        if provider is None:
            return None
        plugin = next((p for p in self._plugins.plugins if p.distribution == provider), None)
        if plugin is None:
            return f"It is provided by {provider}, which is not installed: pip install {provider}"
        if plugin.status is Status.DISABLED:
            limit = ",".join(sorted(self._plugins.only or ()))
            return f"It is provided by {provider}, which ET_PLUGINS={limit!r} leaves out."
        if plugin.status is Status.INCOMPATIBLE:
            return f"It is provided by {plugin.provider}, which is incompatible: {plugin.reason}"
        if plugin.status is Status.BROKEN:
            return (
                f"It is provided by {plugin.provider}, which failed to load: {plugin.reason}\n"
                f"Full traceback: et plugins check {provider}"
            )
        return None

    def _read(self) -> Mapping[str, Mapping[str, str]]:
        if self._table is None:
            self._table = json.loads(resources.files("et_core.registry").joinpath("providers.json").read_text("utf-8"))
        return self._table
