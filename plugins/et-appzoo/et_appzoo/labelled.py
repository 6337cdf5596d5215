from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from et_appzoo.labels import Labels, shown
from et_appzoo.settings import check_weights, chosen_loss
from et_core.errors import ConfigError
from et_core.interfaces import App, HeadSpec, LossSpec, Row
from et_core.registry import registry

# With their distributions, so that no plugin that registers the same name stands in the way.
_METRIC = "et-appzoo/{}"
_HEAD = "et-appzoo/pooled-linear"
"""For model families without a head of their own."""

_LOSSES = {
    "single-label": "et-core/cross-entropy",
    "graded": "et-core/cross-entropy",
    "multi-label": "et-core/binary-cross-entropy",
    "regression": "et-core/mse",
}
_PROBLEM_TYPES = {
    "single-label": "single_label_classification",
    "graded": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}


class LabelledApp(App):
    """What apps with a label a row share: the label's names, the layer that scores them, its loss, and metrics."""

    view: ClassVar[str] = "classes"
    pipeline_tag: ClassVar[str | None] = "text-classification"

    def __init__(self, settings: Mapping[str, Any], *, labels: Labels) -> None:
        """*settings* are an app's own by name, of which those are read that the apps share; *labels* knows the mode."""
        check_weights(settings["class_weights"])
        self.mode = labels.mode
        self.labels = labels
        self._class_weights: str | Mapping[str, float] | None = settings["class_weights"]
        self._smoothing: float = settings["label_smoothing"]
        self._dropout: float | None = settings["dropout"]
        self._head: str | None = settings["head"]
        self._loss = chosen_loss(
            settings["loss"], **{name: settings[name] for name in ("class_weights", "label_smoothing")}
        )

    @property
    def needs(self) -> frozenset[str]:
        needs: frozenset[str] = registry("heads").get(self._head or _HEAD).needs
        return needs

    @property
    def loss_settings(self) -> list[str]:
        """The settings that were given and say how the app's own loss is computed."""
        given = {
            "loss": self._loss is not None,
            "class_weights": self._class_weights is not None,
            "label_smoothing": self._smoothing > 0,
        }
        return [name for name, said in given.items() if said]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of target that its metrics are fed with (``Metric.modes``)."""
        return (self.mode,)

    def check(self, row: Row) -> None:
        self.labels.check(row)

    def describe(self) -> str:
        names = self.labels.names
        if self.mode == "regression":
            return "a number"
        listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        what = "grades" if self.mode == "graded" else "labels"
        return f"{'any of ' if self.mode == 'multi-label' else ''}{len(names)} {what}: {listed}"

    def answers(self) -> Any:
        return {"mode": self.mode, "labels": list(self.labels.names)}

    def target_of(self, prediction: Any) -> dict[str, Any]:
        return {"label": prediction.prediction}

    def head(self) -> HeadSpec:
        spec = {
            "num_outputs": len(self.labels.names) or 1,
            "labels": list(self.labels.names),
            "problem_type": _PROBLEM_TYPES[self.mode],
            "dropout": self._dropout,
        }
        task = "sequence-classification" if self._head is None else ""
        return HeadSpec(task, self._head or _HEAD, spec)

    def loss(self) -> LossSpec:
        own = self.own_loss()
        if self._loss is None:
            return own
        losses = registry("losses")
        same = losses.find(self._loss.name) == losses.find(own.name)
        return LossSpec(self._loss.name, {**own.arguments, **self._loss.arguments}) if same else self._loss

    def own_loss(self) -> LossSpec:
        """The loss of the mode, where the user chose none."""
        arguments: dict[str, Any] = {}
        if self.mode != "regression":
            arguments["weights"] = self.weights()
        if self.mode in ("single-label", "graded"):
            arguments["smoothing"] = self._smoothing
        return LossSpec(_LOSSES[self.mode], arguments)

    def weights(self) -> list[float] | None:
        """The weight of each label in the loss; ConfigError where the settings name a label that there is not."""
        names, counts = self.labels.names, np.asarray(self.labels.counts, np.float64)
        if self._class_weights is None:
            return None
        if isinstance(self._class_weights, Mapping):
            unknown = sorted(set(self._class_weights) - set(names))
            if unknown:
                raise ConfigError(f"app.class_weights names the label {unknown[0]!r}. Labels: {shown(names)}.")
            weights = [float(self._class_weights.get(name, 1.0)) for name in names]
            if not any(weights):
                raise ConfigError("app.class_weights weighs every label 0. Give one at least a weight above 0.")
            return weights
        balanced = counts.sum() / (len(names) * np.maximum(counts, 1))
        return [float(weight) for weight in balanced]

    def default_metrics(self) -> list[str]:
        """The short names of the metrics that fit the labels, the main one first."""
        if self.mode == "regression":
            return ["pearson", "spearman", "mse"]
        if self.mode == "multi-label":
            return ["micro-f1", "macro-f1", "accuracy", "auc"]
        return (
            ["accuracy", "f1", "mcc", "auc"] if len(self.labels.names) == 2 else ["accuracy", "macro-f1", "mcc", "auc"]
        )

    def chosen_metrics(self, metrics: Sequence[str] | None) -> dict[str, str]:
        """Registered names by the name of each figure, of *metrics* or the default ones; ConfigError for a misfit."""
        if metrics is None:
            return {name: _METRIC.format(name) for name in self.default_metrics()}
        self._check_metrics(metrics)
        return by_short_name(metrics)

    def _check_metrics(self, names: Iterable[str]) -> None:
        metrics = registry("metrics")
        for name in names:
            if not metrics.get(name).modes & set(self.kinds):
                raise ConfigError(f"metrics: {metrics.find(name).name} {self.misfit(metrics.get(name).modes)}")

    def misfit(self, modes: frozenset[str]) -> str:
        """Why a metric of the kinds *modes* cannot be measured here, and what can."""
        return f"is not defined for app.mode={self.mode}; {', '.join(self.default_metrics())} are, among others."


def by_short_name(metrics: Sequence[str]) -> dict[str, str]:
    """Registered names by the name of each figure: without the distribution, where no two are then the same."""
    short = [name.rpartition("/")[2] for name in metrics]
    return {name if short.count(own) > 1 else own: name for own, name in zip(short, metrics, strict=True)}
