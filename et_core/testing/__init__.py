"""The conformance kit: what every backbone, head, loss, ... promises, as checks that a plugin's author runs."""

from typing import TYPE_CHECKING

from et_core._lazy import exports

if TYPE_CHECKING:
    from et_core.testing.app import AppConformance
    from et_core.testing.backbone import BackboneConformance
    from et_core.testing.distiller import DistillerConformance
    from et_core.testing.head import HeadConformance
    from et_core.testing.loss import LossConformance
    from et_core.testing.objective import ObjectiveConformance
    from et_core.testing.plugin import PluginConformance
    from et_core.testing.strategy import StrategyConformance
    from et_core.testing.suite import Check, CheckFailed, Conformance, Outcome, Status, check, run_suite
    from et_core.testing.suites import suites_of
    from et_core.testing.tokenizer import TokenizerConformance

__all__ = [
    "AppConformance",
    "BackboneConformance",
    "Check",
    "CheckFailed",
    "Conformance",
    "DistillerConformance",
    "HeadConformance",
    "LossConformance",
    "ObjectiveConformance",
    "Outcome",
    "PluginConformance",
    "Status",
    "StrategyConformance",
    "TokenizerConformance",
    "check",
    "run_suite",
    "suites_of",
]

_ORIGINS = {
    "AppConformance": "et_core.testing.app",
    "BackboneConformance": "et_core.testing.backbone",
    "Check": "et_core.testing.suite",
    "CheckFailed": "et_core.testing.suite",
    "Conformance": "et_core.testing.suite",
    "DistillerConformance": "et_core.testing.distiller",
    "HeadConformance": "et_core.testing.head",
    "LossConformance": "et_core.testing.loss",
    "ObjectiveConformance": "et_core.testing.objective",
    "Outcome": "et_core.testing.suite",
    "PluginConformance": "et_core.testing.plugin",
    "Status": "et_core.testing.suite",
    "StrategyConformance": "et_core.testing.strategy",
    "TokenizerConformance": "et_core.testing.tokenizer",
    "check": "et_core.testing.suite",
    "run_suite": "et_core.testing.suite",
    "suites_of": "et_core.testing.suites",
}

__getattr__, __dir__ = exports(__name__, _ORIGINS)
