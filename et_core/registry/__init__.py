"""Names: plugin discovery, the registries that plugins fill, and model references. Imports no component until asked."""

from et_core.registry.entry import Entry, resolve_target
from et_core.registry.kinds import KINDS, Kind
from et_core.registry.names import close_names, did_you_mean, join_or
from et_core.registry.plugin import GROUP, Plugin, Status
from et_core.registry.plugin_set import PluginSet, plugins, refresh, registry
from et_core.registry.ref import ModelRef
from et_core.registry.registries import Registry

__all__ = [
    "GROUP",
    "KINDS",
    "Entry",
    "Kind",
    "ModelRef",
    "Plugin",
    "PluginSet",
    "Registry",
    "Status",
    "close_names",
    "did_you_mean",
    "join_or",
    "plugins",
    "refresh",
    "registry",
    "resolve_target",
]
