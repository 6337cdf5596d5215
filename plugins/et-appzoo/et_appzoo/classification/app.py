from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from et_appzoo.evaluation import LabelledEvaluation, best_thresholds
from et_appzoo.labelled import LabelledApp
from et_appzoo.labels import Labels
from et_appzoo.pairs import joined, separate
from et_appzoo.scores import sigmoid, softmax
from et_appzoo.settings import Weights, check_mode, check_names
from et_core.interfaces import Evaluation, Example, Processor, Role, Row, Tokenizer


@dataclass(frozen=True)
class Classified:
    """*prediction* is a label, a list of labels, or a number; *probabilities* are by label, none for a number."""

    prediction: str | list[str] | float
    probabilities: dict[str, float] | None


_MODES_OF = {
    "labels": ("single-label", "multi-label"),
    "positive_label": ("single-label",),
    "class_weights": ("single-label", "multi-label"),
    "label_smoothing": ("single-label",),
    "threshold": ("multi-label",),
}


class Classification(LabelledApp):
    """Classify one text or a pair of texts."""

    roles: ClassVar[Mapping[str, Role]] = {
        "text": Role(str, "the text"),
        "text_pair": Role(str, "the second text of a pair", required=False),
        "label": Role(object, "a label, a list of labels, or a number", target=True),
    }
    prediction: ClassVar[type] = Classified

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
        given = {**locals(), "threshold": threshold != "auto"}
        check_names(labels or (), label_separator)
        check_mode(mode, {name: (given[name], modes) for name, modes in _MODES_OF.items()})
        names = Labels(mode, names=labels or (), separator=label_separator, positive=positive_label)
        super().__init__(given, labels=names)
        self._threshold = threshold
        self._tuned: list[float] | None = None
        self._pairs = self._training = False

    def fit(self, rows: Iterable[Row]) -> None:
        self._training = True
        self.labels.fit(self._watch_pairs(rows))
        self.weights()

    @property
    def reads_pairs(self) -> bool:
        return self._pairs

    def state(self) -> dict[str, Any]:
        return {"labels": self.labels.state(), "thresholds": self._tuned, "pairs": self._pairs}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.labels.load_state(state["labels"])
        self._tuned = state["thresholds"]
        self._pairs = state["pairs"]
        self._training = False

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
        inputs = joined if "text" in accepts else separate
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
        return LabelledEvaluation(
            mode=self.mode,
            labels=self.labels.names,
            metrics=self.chosen_metrics(metrics),
            thresholds=self.thresholds,
            tuned=self._tuned is not None,
        )

    def calibrate(self, evaluation: Evaluation) -> bool:
        if self.mode != "multi-label" or self._threshold != "auto" or not isinstance(evaluation, LabelledEvaluation):
            return False
        self._tuned = best_thresholds(evaluation.histogram).tolist()
        return True

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
