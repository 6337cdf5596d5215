"""The kinds of component: what each is called, and the class that its targets must be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """*name* is the singular a message uses, *plural* the word in commands and hooks; targets subclass *interface*."""

    name: str
    plural: str
    interface: str
    instances: bool = False
    """True where targets are objects of the interface instead of classes."""

    @property
    def hook(self) -> str:
        return f"et_register_{self.plural}"


KINDS: dict[str, Kind] = {
    kind.plural: kind
    for kind in (
        Kind("backbone", "backbones", "et_core.interfaces:Backbone"),
        Kind("head", "heads", "et_core.interfaces:Head"),
        Kind("loss", "losses", "et_core.interfaces:Loss"),
        Kind("tokenizer", "tokenizers", "et_core.interfaces:Tokenizer"),
        Kind("segmenter", "segmenters", "et_core.interfaces:Segmenter"),
        Kind("strategy", "strategies", "et_core.interfaces:Strategy"),
        Kind("app", "apps", "et_core.interfaces:App"),
        Kind("objective", "objectives", "et_core.interfaces:Objective"),
        Kind("distiller", "distillers", "et_core.interfaces:Distiller"),
        Kind("augmenter", "augmenters", "et_core.interfaces:Augmenter"),
        Kind("source", "sources", "et_core.interfaces:Source"),
        Kind("preset", "presets", "et_core.interfaces.preset:Preset", instances=True),
        Kind("metric", "metrics", "et_core.interfaces:Metric"),
        Kind("optimizer", "optimizers", "et_core.interfaces:OptimizerFactory"),
        Kind("schedule", "schedules", "et_core.interfaces:Schedule"),
        Kind("tracker", "trackers", "et_core.interfaces:Tracker"),
    )
}
