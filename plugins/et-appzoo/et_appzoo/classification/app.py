from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from et_appzoo.classification.evaluation import ClassificationEvaluation, best_thresholds
from et_appzoo.classification.labels import Labels, shown
from et_appzoo.classification.settings import Weights, check_mode, check_names, check_weights, chosen_loss
from et_appzoo.scores import sigmoid, softmax
from et_core.errors import ConfigError
from et_core.interfaces import App, Evaluation, Example, HeadSpec, LossSpec, Processor, Role, Row, Tokenizer
from et_core.registry import registry


@dataclass(frozen=True)
class Classified:
    """*prediction* is a label, a list of labels, or a number; *probabilities* are by label, none for a number."""

    prediction: str | list[str] | float
    probabilities: dict[str, float] | None


# With their distributions, so that no plugin that registers the same name stands in the way.
_METRIC = "et-appzoo/{}"
_HEAD = "et-appzoo/pooled-linear"
"""For model families without a head of their own."""

_LOSSES = {
    "single-label": "et-core/cross-entropy",
    "multi-label": "et-core/binary-cross-entropy",
    "regression": "et-core/mse",
}
_PROBLEM_TYPES = {
    "single-label": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}


class Classification(App):
    """Classify one text or a pair of texts."""

    roles: ClassVar[Mapping[str, Role]] = {
        "text": Role(str, "the text"),
        "text_pair": Role(str, "the second text of a pair", required=False),
        "label": Role(object, "a label, a list of labels, or a number", target=True),
    }
    prediction: ClassVar[type] = Classified
    view: ClassVar[str] = "classes"
    pipeline_tag: ClassVar[str | None] = "text-classification"

    def __init__(
        self,
        *,
        mode: Literal["single-label", "multi-label", "regression"] = "single-label",
        labels: list[str] | None = None,
        label_separator: str = ",",
        positive_label: str | None = None,
        class_weights: Literal["balanced"] | Weights | None = None,
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        threshold: Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] = "auto",
        dropout: Annotated[float, Field(ge=0, lt=1)] | None = None,
        head: str | None = None,
        loss: str | dict[str, Any] | None = None,
    ) -> None:
        """*labels* fixes names and order, which are otherwise learned; *positive_label*, which F1 is about, comes last.

        *threshold* is the probability from which on a multi-label label is predicted; "auto" tunes one for each label
        on the dev set. *head* takes a registered head instead of the model family's own, *loss* a registered loss
        instead of the mode's own: its name, or a mapping of the name and the loss's arguments.
        """
        check_names(labels or (), label_separator)
        check_weights(class_weights)
        check_mode(
            mode,
            labels=labels,
            positive_label=positive_label,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
            threshold=threshold != "auto",
        )
        self.mode = mode
        self.labels = Labels(mode, names=labels or (), separator=label_separator, positive=positive_label)
        self._class_weights = class_weights
        self._smoothing = label_smoothing
        self._threshold = threshold
        self._tuned: list[float] | None = None
        self._dropout = dropout
        self._head = head
        self._loss = chosen_loss(loss, class_weights=class_weights, label_smoothing=label_smoothing)
        self._pairs = self._training = False

    @property
    def needs(self) -> frozenset[str]:
        needs: frozenset[str] = registry("heads").get(self._head or _HEAD).needs
        return needs

    def fit(self, rows: Iterable[Row]) -> None:
        self._training = True
        self.labels.fit(self._watch_pairs(rows))
        self._weights()

    def describe(self) -> str:
        names = self.labels.names
        if self.mode == "regression":
            return "a number"
        listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        return f"{'any of ' if self.mode == 'multi-label' else ''}{len(names)} labels: {listed}"

    def check(self, row: Row) -> None:
        self.labels.check(row)

    def state(self) -> dict[str, Any]:
        return {"labels": self.labels.state(), "thresholds": self._tuned, "pairs": self._pairs}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.labels.load_state(state["labels"])
        self._tuned = state["thresholds"]
        self._pairs = state["pairs"]
        self._training = False

    def head(self) -> HeadSpec:
        names = [] if self.mode == "regression" else list(self.labels.names)
        spec = {
            "num_outputs": len(names) or 1,
            "labels": names,
            "problem_type": _PROBLEM_TYPES[self.mode],
            "dropout": self._dropout,
        }
        task = "sequence-classification" if self._head is None else ""
        return HeadSpec(task, self._head or _HEAD, spec)

    def loss(self) -> LossSpec:
        if self._loss is not None:
            return self._loss
        if self.mode == "regression":
            return LossSpec(_LOSSES[self.mode])
        arguments: dict[str, Any] = {"weights": self._weights()}
        if self.mode == "single-label":
            arguments["smoothing"] = self._smoothing
        return LossSpec(_LOSSES[self.mode], arguments)

    def encode(
        self,
        rows: Sequence[Row],
        tokenizer: Tokenizer,
        *,
        max_length: int,
        accepts: frozenset[str],
        truncation: str = "right",
        processor: Processor | None = None,
    ) -> list[Example]:
        texts = [row["text"] for row in rows]
        pairs = [self._pair(row) for row in rows] if self._pairs else None
        for row in () if self._pairs else rows:
            if "text_pair" in row:
                raise row.error(
                    "text_pair", "holds a second text, but this model was trained on single ones: leave it out."
                )
        inputs = _joined if "text" in accepts else _separate
        encoded = inputs(texts, pairs, tokenizer, max_length, truncation)
        return [
            Example(arrays, {"label": self.labels.target(row)} if "label" in row else {}, row.index)
            for row, arrays in zip(rows, encoded, strict=True)
        ]

    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Classified]:
        logits = np.asarray(outputs["logits"], np.float64)
        if self.mode == "regression":
            return [Classified(value, None) for value in logits[:, 0].tolist()]
        names = self.labels.names
        if self.mode == "single-label":
            probabilities = softmax(logits)
            best = probabilities.argmax(1)
            rows = probabilities.round(6).tolist()
            return [
                Classified(names[index], dict(zip(names, row, strict=True)))
                for index, row in zip(best, rows, strict=True)
            ]
        probabilities = sigmoid(logits)
        chosen = probabilities >= self.thresholds
        return [
            Classified([names[i] for i in np.nonzero(picks)[0]], dict(zip(names, row, strict=True)))
            for picks, row in zip(chosen, probabilities.round(6).tolist(), strict=True)
        ]

    @property
    def thresholds(self) -> np.ndarray:
        """The probability [C] from which on each label of a multi-label task is predicted."""
        fixed = 0.5 if self._threshold == "auto" else self._threshold
        return np.asarray(self._tuned) if self._tuned is not None else np.full(len(self.labels.names), fixed)

    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        names = [] if self.mode == "regression" else list(self.labels.names)
        chosen = (
            {name: _METRIC.format(name) for name in self._default_metrics()}
            if metrics is None
            else _by_short_name(metrics)
        )
        self._check_metrics(chosen.values())
        return ClassificationEvaluation(
            mode=self.mode, labels=names, metrics=chosen, thresholds=self.thresholds, tuned=self._tuned is not None
        )

    def calibrate(self, evaluation: Evaluation) -> bool:
        if (
            self.mode != "multi-label"
            or self._threshold != "auto"
            or not isinstance(evaluation, ClassificationEvaluation)
        ):
            return False
        self._tuned = best_thresholds(evaluation.histogram).tolist()
        return True

    def _default_metrics(self) -> list[str]:
        if self.mode == "regression":
            return ["pearson", "spearman", "mse"]
        if self.mode == "multi-label":
            return ["micro-f1", "macro-f1", "accuracy", "auc"]
        return (
            ["accuracy", "f1", "mcc", "auc"] if len(self.labels.names) == 2 else ["accuracy", "macro-f1", "mcc", "auc"]
        )

    def _check_metrics(self, names: Iterable[str]) -> None:
        metrics = registry("metrics")
        for name in names:
            if self.mode not in metrics.get(name).modes:
                fitting = ", ".join(self._default_metrics())
                raise ConfigError(
                    f"metrics: {metrics.find(name).name} is not defined for app.mode={self.mode}; "
                    f"{fitting} are, among others."
                )

    def _watch_pairs(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self._pairs = self._pairs or "text_pair" in row
            yield row

    def _pair(self, row: Row) -> str:
        if "text_pair" not in row and self._training:
            raise row.error(
                "text_pair",
                "has no value, but other rows have a second text.\n"
                "Complete it, or leave bad rows out with data.on_bad_row=skip.",
            )
        if "text_pair" not in row:
            raise row.error("text_pair", "is missing: this model was trained on pairs of texts.")
        return str(row["text_pair"])

    def _weights(self) -> list[float] | None:
        names, counts = self.labels.names, np.asarray(self.labels.counts, np.float64)
        if self._class_weights is None:
            return None
        if isinstance(self._class_weights, dict):
            unknown = sorted(set(self._class_weights) - set(names))
            if unknown:
                raise ConfigError(f"app.class_weights names the label {unknown[0]!r}. Labels: {shown(names)}.")
            weights = [float(self._class_weights.get(name, 1.0)) for name in names]
            if not any(weights):
                raise ConfigError("app.class_weights weighs every label 0. Give one at least a weight above 0.")
            return weights
        balanced = counts.sum() / (len(names) * np.maximum(counts, 1))
        return [float(weight) for weight in balanced]


def _by_short_name(metrics: Sequence[str]) -> dict[str, str]:
    """Registered names by the name of each figure: without the distribution, where no two are then the same."""
    short = [name.rpartition("/")[2] for name in metrics]
    return {name if short.count(own) > 1 else own: name for own, name in zip(short, metrics, strict=True)}


def _joined(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Tokenizer, max_length: int, truncation: str
) -> list[dict[str, np.ndarray]]:
    encoded = tokenizer.encode(texts, pairs, max_length=max_length, truncation=truncation)
    if pairs is None:
        return [{"texts.0.ids": np.asarray(ids, np.int32)} for ids in encoded.ids]
    return [
        {"texts.0.ids": np.asarray(ids, np.int32), "texts.0.segments": np.asarray(segments, np.int8)}
        for ids, segments in zip(encoded.ids, encoded.segments, strict=True)
    ]


def _separate(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Tokenizer, max_length: int, truncation: str
) -> list[dict[str, np.ndarray]]:
    first = tokenizer.encode(texts, max_length=max_length, truncation=truncation)
    arrays = [{"texts.0.ids": np.asarray(ids, np.int32)} for ids in first.ids]
    if pairs is not None:
        second = tokenizer.encode(pairs, max_length=max_length, truncation=truncation)
        for row, ids in zip(arrays, second.ids, strict=True):
            row["texts.1.ids"] = np.asarray(ids, np.int32)
    return arrays
