from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from et_appzoo.scores import log_softmax, sigmoid
from et_core.interfaces import Bars, Evaluation, Example, Examples, Figure, Matrix, Metric, Row, Scatter
from et_core.registry import registry

_WORST = 40
_LISTED = 10
_BINS = 1000
_POINTS = 2000


class LabelledEvaluation(Evaluation):
    """Metrics, confusion matrix, per-label histograms and the worst errors, in bounded memory."""

    def __init__(
        self,
        *,
        mode: str,
        labels: Sequence[str],
        metrics: Mapping[str, str],
        kinds: Sequence[str] = (),
        thresholds: np.ndarray | None = None,
        tuned: bool = False,
    ) -> None:
        """*metrics* are registered names by the name under which each figure is given; *tuned* is of *thresholds*.

        *kinds* are the kinds of target that metrics are fed with (``Metric.modes``), the mode alone without it; a
        metric of several gets the first.
        """
        self._mode = mode
        self._labels = list(labels)
        self._thresholds = np.full(len(labels), 0.5) if thresholds is None else thresholds
        self._tuned = tuned
        self._kinds = tuple(kinds) or (mode,)
        self._metrics = {name: self.metric(target) for name, target in metrics.items()}
        self._loss = 0.0
        self._rows = 0
        self._confusion = np.zeros((len(labels), len(labels)), np.int64)
        self.histogram = np.zeros((2, len(labels), _BINS + 1), np.int64)
        """Multi-label: how many rows that lack [0] or have [1] each label got each probability, in thousandths."""

        self._worst: list[tuple[float, int, str, str]] = []
        self._points: list[tuple[float, float]] = []

    def update(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> None:
        logits = np.asarray(outputs["logits"], np.float32)
        targets = np.stack([example.targets["label"] for example in examples])
        rows = [example.row for example in examples]
        self._rows += len(rows)
        {"multi-label": self._multi, "regression": self._values}.get(self._mode, self._single)(logits, targets, rows)

    def metric(self, target: str) -> Metric:
        """A fresh metric of the registered name *target*."""
        metric: Metric = registry("metrics").create(target, labels=self._labels)
        return metric

    def kind_of(self, metric: Metric) -> str:
        """The kind of target that *metric* is fed with; empty where none fits."""
        return next((kind for kind in self._kinds if kind in metric.modes), "")

    def feed(self, kind: str, **values: np.ndarray) -> None:
        """Give *values*, as ``Metric.update`` takes them, to the metrics of *kind*."""
        for metric in self._metrics.values():
            if self.kind_of(metric) == kind:
                metric.update(**values)

    def metrics(self) -> dict[str, float]:
        figures = {name: metric.compute() for name, metric in self._metrics.items()}
        return {**figures, "loss": self._loss / self._rows if self._rows else float("nan")}

    def higher_is_better(self, name: str) -> bool:
        return self._metrics[name].higher_is_better if name in self._metrics else name != "loss"

    def notes(self) -> list[str]:
        if self._tuned:
            listed = ", ".join(
                f"{n} {t:.3f}" for n, t in list(zip(self._labels, self._thresholds, strict=True))[:_LISTED]
            )
            more = ", ..." if len(self._labels) > _LISTED else ""
            return [f"final figures are with thresholds tuned on dev by F1 ({listed}{more}), those before it with 0.5"]
        predicted = self._confusion.sum(0)
        if not self._labels or np.count_nonzero(predicted) != 1 or np.count_nonzero(self._confusion) == 1:
            return []
        label = self._labels[int(predicted.argmax())]
        return [
            f"every dev row is predicted as {label!r}: where the loss rose, lower train.lr; "
            "else train longer, with a higher one, or on more rows"
        ]

    def figures(self, read: Callable[[Sequence[int]], list[Row]]) -> list[Figure]:
        figures: list[Figure] = []
        if self._labels and self._mode != "multi-label":
            figures.append(Matrix("Confusion matrix", self._labels, self._confusion.tolist()))
        if self._labels:
            figures.append(Bars("F1 by label", self._label_f1()))
        else:
            figures.append(Scatter("Predicted against true", "true", "predicted", self._points))
        return [*figures, self._examples(read)]

    def _single(self, logits: np.ndarray, targets: np.ndarray, rows: Sequence[int]) -> None:
        predictions = logits.argmax(1)
        log_probabilities = log_softmax(logits)
        losses = -log_probabilities[np.arange(len(targets)), targets]
        self._loss += float(losses.sum(dtype=np.float64))
        self.feed("single-label", predictions=predictions, targets=targets, scores=logits)
        np.add.at(self._confusion, (targets, predictions), 1)
        for index in np.nonzero(predictions != targets)[0]:
            label = self._labels[predictions[index]]
            self._remember(
                float(losses[index]),
                rows[index],
                self._labels[targets[index]],
                f"{label} ({self.confidence(log_probabilities[index])})",
            )

    def _multi(self, logits: np.ndarray, targets: np.ndarray, rows: Sequence[int]) -> None:
        probabilities = sigmoid(logits)
        predictions = (probabilities >= self._thresholds).astype(np.int64)
        losses = (np.logaddexp(0, logits) - targets * logits).mean(1)
        self._loss += float(losses.sum(dtype=np.float64))
        self.feed("multi-label", predictions=predictions, targets=targets.astype(np.int64), scores=logits)
        bins = np.rint(probabilities * _BINS).astype(int)
        for label in range(len(self._labels)):
            np.add.at(self.histogram[:, label], (targets[:, label].astype(int), bins[:, label]), 1)
        for index in np.nonzero((predictions != targets).any(1))[0]:
            self._remember(
                float(losses[index]), rows[index], self._names(targets[index]), self._names(predictions[index])
            )

    def _values(self, logits: np.ndarray, targets: np.ndarray, rows: Sequence[int]) -> None:
        predictions = logits[:, 0]
        errors = (predictions - targets) ** 2
        self._loss += float(errors.sum(dtype=np.float64))
        self.feed("regression", predictions=predictions, targets=targets, scores=predictions)
        if len(self._points) < _POINTS:
            self._points += list(zip(targets.tolist(), predictions.tolist(), strict=True))
        for index in range(len(rows)):
            self._remember(float(errors[index]), rows[index], f"{targets[index]:g}", f"{predictions[index]:.3g}")

    def confidence(self, log_probabilities: np.ndarray) -> str:
        """How sure the model was of a wrong label, in a few letters; *log_probabilities* [C] are of one row."""
        return f"{float(np.exp(log_probabilities.max())):.0%}"

    def _remember(self, loss: float, row: int, true: str, predicted: str) -> None:
        item = (loss, row, true, predicted)
        if len(self._worst) < _WORST:
            heapq.heappush(self._worst, item)
        else:
            heapq.heappushpop(self._worst, item)

    def _names(self, chosen: np.ndarray) -> str:
        return ", ".join(self._labels[index] for index in np.nonzero(chosen)[0]) or "(none)"

    def _label_f1(self) -> dict[str, float]:
        if self._mode != "multi-label":
            hits, true, predicted = np.diag(self._confusion), self._confusion.sum(1), self._confusion.sum(0)
        else:
            above = np.arange(_BINS + 1) / _BINS >= self._thresholds[:, None]
            hits = (self.histogram[1] * above).sum(1)
            true, predicted = self.histogram[1].sum(1), (self.histogram * above).sum((0, 2))
        scores = 2 * hits / np.maximum(true + predicted, 1)
        return dict(zip(self._labels, scores.tolist(), strict=True))

    def _examples(self, read: Callable[[Sequence[int]], list[Row]]) -> Examples:
        worst = sorted(self._worst, reverse=True)
        rows = read([row for _, row, _, _ in worst])
        texts = [" ⟂ ".join(str(row[role]) for role in ("text", "text_pair") if row.get(role)) for row in rows]
        table = [
            [row.where.rpartition("/")[2], text, true, predicted, round(loss, 3)]
            for row, text, (loss, _, true, predicted) in zip(rows, texts, worst, strict=True)
        ]
        note = "The rows of the evaluation set with the highest loss." if table else "No errors."
        return Examples("Worst errors", ("where", "text", "true", "predicted", "loss"), table, note)


def best_thresholds(histogram: np.ndarray) -> np.ndarray:
    """The probability [C] from which on each label is best predicted, by F1, from a histogram [2, C, bins]."""
    remaining = histogram[:, :, ::-1].cumsum(-1)[:, :, ::-1]
    hits, predicted = remaining[1], remaining.sum(0)
    f1 = 2 * hits / np.maximum(predicted + histogram[1].sum(-1, keepdims=True), 1)
    bins = histogram.shape[-1] - 1
    # Among equal scores the one nearest to one half, so that a label without positives keeps the usual threshold.
    distance = np.abs(np.arange(bins + 1) / bins - 0.5)
    best = np.lexsort((np.broadcast_to(distance, f1.shape), -f1), axis=-1)[:, 0]
    return np.asarray((best - 0.5) / bins)
