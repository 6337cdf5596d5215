from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from et_appzoo.evaluation import LabelledEvaluation
from et_appzoo.matching.scoring import SHARPNESS, THRESHOLD, Scoring
from et_core.interfaces import Bars, Example, Figure, Metric, Row

_BINS = 10_000
"""Of a cosine from 0 to 1, and as many below."""


class MatchingEvaluation(LabelledEvaluation):
    """Figures of pairs, of ranked candidates where rows name their query, and by domain where they have one."""

    def __init__(
        self,
        *,
        scoring: Scoring,
        metrics: Mapping[str, str],
        kinds: Sequence[str],
        ranking: Mapping[str, str],
        domains: Sequence[str] = (),
        tuned: bool = False,
    ) -> None:
        """*metrics* and *ranking* are registered names by the names of their figures.

        The figures of *ranking* are only given once a row has named its query.
        """
        super().__init__(mode=scoring.mode, labels=scoring.names, metrics=metrics, kinds=kinds)
        self._scoring = scoring
        self._domains = list(domains)
        self._domain = np.zeros(0, np.int64)
        self._main = next(iter(metrics), "")
        self._by_domain = [self.metric(metrics[self._main]) for _ in self._domains if self._main]
        self._ranking = {name: self.metric(target) for name, target in ranking.items()}
        self._asked = self._unasked = 0
        self._tuned_cosine = tuned
        self.cosines = np.zeros((2, 2 * _BINS + 1), np.int64)
        """Two labels by cosine: how many pairs of each label got each cosine from -1 to 1, in ten-thousandths."""

    @property
    def has_both_labels(self) -> bool:
        """Two labels by cosine: whether there were pairs of each."""
        return bool(self.cosines.any(1).all())

    def update(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> None:
        targets = np.stack([example.targets["label"] for example in examples])
        if self._domains:
            self._domain = np.stack([example.targets["domain"] for example in examples])
        super().update({"logits": self._scoring.logits(outputs)}, examples)
        queries = np.stack([example.targets["query"] for example in examples])
        self._asked += int((queries != 0).sum())
        self._unasked += int((queries == 0).sum())
        scores = self._scoring.scores(outputs)
        if scores is None:
            return
        if self._scoring.mode == "graded":
            self.feed("regression", predictions=scores, targets=self._scoring.grades[targets], scores=scores)
        if self._scoring.by_cosine and self._scoring.mode == "single-label":
            places = np.rint((np.clip(scores, -1, 1) + 1) * _BINS).astype(int)
            np.add.at(self.cosines, (targets, places), 1)
        self._rank(scores, targets, queries)

    def feed(self, kind: str, **values: np.ndarray) -> None:
        super().feed(kind, **values)
        for number, metric in enumerate(self._by_domain):
            here = self._domain == number
            if self.kind_of(metric) == kind and here.any():
                metric.update(**{name: value[here] for name, value in values.items()})

    def metrics(self) -> dict[str, float]:
        figures = super().metrics()
        loss = figures.pop("loss")
        ranked = {name: metric.compute() for name, metric in self._ranking.items()} if self._asked else {}
        # A cosine is learned by another loss than a decision has, and a curve would show both as one.
        return {**figures, **ranked} if self._scoring.by_cosine else {**figures, **ranked, "loss": loss}

    def higher_is_better(self, name: str) -> bool:
        found: Metric | None = self._ranking.get(name)
        return super().higher_is_better(name) if found is None else found.higher_is_better

    def notes(self) -> list[str]:
        notes = super().notes()
        if self._tuned_cosine:
            notes.append(
                f"final figures are with the threshold tuned on dev by accuracy (a cosine of "
                f"{self._scoring.threshold:.4f}), those before it with {THRESHOLD}"
            )
        elif self._scoring.by_cosine and self._scoring.mode == "single-label" and not self.has_both_labels:
            notes.append(
                f"all pairs have one label: the threshold, a cosine of {self._scoring.threshold:g}, was not tuned"
            )
        if self._asked and not self._scoring.ranks:
            notes.append(
                "rows name their query, but are not ranked: say which label is relevant with app.positive_label"
            )
        ranking = [*self._metrics.values(), *self._ranking.values()]
        notes += dict.fromkeys(note for metric in ranking for note in metric.notes())
        if self._asked and self._unasked:
            notes.append(f"{self._unasked} rows name no query: ranking figures leave them out")
        return notes

    def figures(self, read: Callable[[Sequence[int]], list[Row]]) -> list[Figure]:
        figures = super().figures(read)
        if not self._by_domain:
            return figures
        values = {name: metric.compute() for name, metric in zip(self._domains, self._by_domain, strict=True)}
        known = {name: value for name, value in values.items() if not np.isnan(value)}
        return [*figures[:-1], Bars(f"{self._main} by domain", known), figures[-1]]

    def confidence(self, log_probabilities: np.ndarray) -> str:
        if not self._scoring.by_cosine:
            return super().confidence(log_probabilities)
        log_odds = float(log_probabilities[1] - log_probabilities[0])
        return f"cosine {log_odds / SHARPNESS + self._scoring.threshold:.3f}"

    def _rank(self, scores: np.ndarray, targets: np.ndarray, queries: np.ndarray) -> None:
        asks = queries != 0
        if not asks.any():
            return
        values: dict[str, Any] = {
            "predictions": scores[asks],
            "targets": self._scoring.relevance(targets[asks]),
            "scores": scores[asks],
            "queries": queries[asks],
        }
        if self._domains:
            self._domain = self._domain[asks]
        self.feed("ranking", **values)
        for metric in self._ranking.values():
            metric.update(**values)
