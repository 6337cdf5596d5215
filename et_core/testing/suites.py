from __future__ import annotations

import importlib
from types import ModuleType

from et_core.errors import ComponentError
from et_core.registry import Entry, Plugin, plugins, resolve_target
from et_core.testing.plugin import PluginConformance
from et_core.testing.suite import Conformance

_BY_KIND = {
    "backbones": "et_core.testing.backbone:BackboneConformance",
    "heads": "et_core.testing.head:HeadConformance",
    "losses": "et_core.testing.loss:LossConformance",
    "tokenizers": "et_core.testing.tokenizer:TokenizerConformance",
    "strategies": "et_core.testing.strategy:StrategyConformance",
    "apps": "et_core.testing.app:AppConformance",
    "objectives": "et_core.testing.objective:ObjectiveConformance",
    "distillers": "et_core.testing.distiller:DistillerConformance",
}
"""The suite of each kind that has one; of the others, that they import is all that is checked."""


def suites_of(plugin: Plugin) -> list[type[Conformance]]:
    """The suites for *plugin*: of itself, those in the module it names, and one as it comes for all else it registers.

    ComponentError where the module it names as ET_CONFORMANCE cannot be imported.
    """
    declared = _declared(plugin)
    own = [suite for suite in declared if issubclass(suite, PluginConformance)] or [_plain(plugin)]
    return [*own, *(s for s in declared if s not in own), *(_default(e) for e in without_suite(plugin, declared))]


def without_suite(plugin: Plugin, declared: list[type[Conformance]]) -> list[Entry]:
    """What *plugin* registers of a kind with checks, and none of its *declared* suites is about."""
    covered = {_entry(suite) for suite in declared if not issubclass(suite, PluginConformance)}
    return [entry for entry in plugin.entries if entry.kind in _BY_KIND and entry not in covered]


def _declared(plugin: Plugin) -> list[type[Conformance]]:
    if not plugin.conformance:
        return []
    try:
        module = importlib.import_module(plugin.conformance)
    except Exception as error:
        raise ComponentError(
            f"{plugin.provider} names {plugin.conformance} as its ET_CONFORMANCE, which fails to import: "
            f"{type(error).__name__}: {error}"
        ) from error
    return suites_in(module)


def suites_in(module: ModuleType) -> list[type[Conformance]]:
    """The suites that *module* holds, in the order they are written: its classes that name a component."""
    found = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Conformance))
    return [suite for suite in found if suite.name]


def _entry(suite: type[Conformance]) -> Entry:
    return plugins().registry(suite.kind).find(suite.name)


def _plain(plugin: Plugin) -> type[PluginConformance]:
    return type("Plugin", (PluginConformance,), {"name": plugin.distribution})


def _default(entry: Entry) -> type[Conformance]:
    base: type[Conformance] = resolve_target(_BY_KIND[entry.kind])
    return type("Default", (base,), {"name": entry.qualified})
