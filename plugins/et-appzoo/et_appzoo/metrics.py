"""Evaluation metrics on scikit-learn and SciPy, accumulated so that a set's logits are never held whole.

Each says in ``modes`` which modes of classification it is defined for.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from et_appzoo.scores import log_softmax
from et_core.errors import ConfigError
from et_core.interfaces import Metric


class _Counts(Metric):
    """Metrics of hard decisions, from counts of (true, predicted) pairs.

    Single label: one matrix [C, C]. Multi-label: a matrix [2, 2] for each label.
    """

    modes: ClassVar[frozenset[str]] = frozenset({"single-label", "multi-label"})

    def __init__(self, *, labels: Sequence[str] = ()) -> None:
        super().__init__(labels=labels)
        size = len(self.labels)
        self._single = np.zeros((size, size), np.int64)
        self._multi = np.zeros((size, 2, 2), np.int64)
        self._exact = 0
        self._rows = 0

    def update(self, *, predictions: np.ndarray, targets: np.ndarray, scores: np.ndarray) -> None:
        self._rows += len(targets)
        if targets.ndim == 1:
            np.add.at(self._single, (targets, predictions), 1)
            return
        self._exact += int((predictions == targets).all(axis=1).sum())
        for label in range(targets.shape[1]):
            np.add.at(self._multi[label], (targets[:, label].astype(int), predictions[:, label].astype(int)), 1)

    @property
    def _is_multi(self) -> bool:
        return bool(self._multi.sum())

    def compute(self) -> float:
        return self._figure() if self._rows else math.nan

    @abstractmethod
    def _figure(self) -> float: ...


def _score(name: str, counts: np.ndarray, **options: Any) -> float:
    """A scikit-learn metric over a matrix of (true, predicted) counts."""
    import sklearn.metrics  # a second to import, and only the end of an evaluation needs it

    true, predicted = np.nonzero(counts)
    return float(getattr(sklearn.metrics, name)(true, predicted, sample_weight=counts[true, predicted], **options))


class Accuracy(_Counts):
    def _figure(self) -> float:
        return (self._exact if self._is_multi else int(np.trace(self._single))) / self._rows


class F1(_Counts):
    modes: ClassVar[frozenset[str]] = frozenset({"single-label"})

    def __init__(self, *, labels: Sequence[str] = ()) -> None:
        if len(labels) > 2:
            raise ConfigError(f"metrics: f1 is for two labels, not {len(labels)}. Take macro-f1 or micro-f1.")
        super().__init__(labels=labels)

    def _figure(self) -> float:
        return _score("f1_score", self._single, zero_division=0.0)


class MacroF1(_Counts):
    def _figure(self) -> float:
        if self._is_multi:
            return float(np.mean([_score("f1_score", counts, zero_division=0.0) for counts in self._multi]))
        return _score("f1_score", self._single, average="macro", zero_division=0.0)


class MicroF1(_Counts):
    def _figure(self) -> float:
        if self._is_multi:
            return _score("f1_score", self._multi.sum(axis=0), zero_division=0.0)
        return _score("f1_score", self._single, average="micro", zero_division=0.0)


class Mcc(_Counts):
    modes: ClassVar[frozenset[str]] = frozenset({"single-label"})

    def _figure(self) -> float:
        # With one class in all scikit-learn gives zero too, but with a warning.
        present = np.count_nonzero(self._single.sum(0) + self._single.sum(1))
        return _score("matthews_corrcoef", self._single) if present > 1 else 0.0


class Auc(Metric):
    """Area under the ROC curve: of the second of two labels, else one against the rest averaged over labels.

    Scores are kept as a histogram over the 65,536 values of a 16-bit float, so memory does not grow with the set. Two
    scores in one bin count as a tie: the figure differs from the exact one by at most half the share of the pairs of a
    hit and a miss that fall into one bin.
    """

    modes: ClassVar[frozenset[str]] = frozenset({"single-label", "multi-label"})

    def __init__(self, *, labels: Sequence[str] = ()) -> None:
        super().__init__(labels=labels)
        self._histogram: np.ndarray | None = None

    def update(self, *, predictions: np.ndarray, targets: np.ndarray, scores: np.ndarray) -> None:
        if targets.ndim == 2:
            columns, hits = scores, targets.astype(bool)
        elif scores.shape[1] == 2:
            columns, hits = scores[:, 1:] - scores[:, :1], targets[:, None] == 1
        else:
            columns, hits = log_softmax(scores), targets[:, None] == np.arange(scores.shape[1])
        if self._histogram is None:
            self._histogram = np.zeros((columns.shape[1], 2, 1 << 16), np.int64)
        for column in range(columns.shape[1]):
            np.add.at(self._histogram[column], (hits[:, column].astype(int), _bins(columns[:, column])), 1)

    def compute(self) -> float:
        from sklearn.metrics import roc_auc_score

        figures = []
        for negatives, positives in () if self._histogram is None else self._histogram:
            used = np.nonzero(negatives + positives)[0]
            if not positives.any() or not negatives.any():
                continue
            truth = np.repeat([0, 1], len(used))
            weights = np.concatenate([negatives[used], positives[used]])
            keep = weights > 0
            figures.append(roc_auc_score(truth[keep], np.tile(used, 2)[keep], sample_weight=weights[keep]))
        return float(np.mean(figures)) if figures else math.nan


def _bins(scores: np.ndarray) -> np.ndarray:
    """Map floats to 0..65535, keeping their order, by the bits of their 16-bit form."""
    # Adding zero makes minus zero a plain one; what is too large becomes infinite, which keeps its order too.
    with np.errstate(over="ignore"):
        bits = (scores.astype(np.float16) + np.float16(0)).view(np.uint16).astype(np.int64)
    return np.where(bits & 0x8000, 0xFFFF - bits, bits | 0x8000)


class _Values(Metric):
    """Metrics of real values. Keeps one pair of numbers a row, which rank correlation cannot do without."""

    modes: ClassVar[frozenset[str]] = frozenset({"regression"})

    def __init__(self, *, labels: Sequence[str] = ()) -> None:
        super().__init__(labels=labels)
        self._predictions: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []

    def update(self, *, predictions: np.ndarray, targets: np.ndarray, scores: np.ndarray) -> None:
        self._predictions.append(np.asarray(predictions, np.float64))
        self._targets.append(np.asarray(targets, np.float64))

    def compute(self) -> float:
        predictions = np.concatenate(self._predictions or [np.zeros(0)])
        targets = np.concatenate(self._targets or [np.zeros(0)])
        return self._figure(predictions, targets) if len(targets) else math.nan

    @abstractmethod
    def _figure(self, predictions: np.ndarray, targets: np.ndarray) -> float: ...


class Pearson(_Values):
    def _figure(self, predictions: np.ndarray, targets: np.ndarray) -> float:
        return _correlation("pearsonr", predictions, targets)


class Spearman(_Values):
    def _figure(self, predictions: np.ndarray, targets: np.ndarray) -> float:
        return _correlation("spearmanr", predictions, targets)


def _correlation(name: str, predictions: np.ndarray, targets: np.ndarray) -> float:
    import scipy.stats

    if len(targets) < 2 or np.ptp(predictions) == 0 or np.ptp(targets) == 0:
        return math.nan
    return float(getattr(scipy.stats, name)(predictions, targets).statistic)


class Mse(_Values):
    higher_is_better: ClassVar[bool] = False

    def _figure(self, predictions: np.ndarray, targets: np.ndarray) -> float:
        return float(np.mean((predictions - targets) ** 2))


class Mae(_Values):
    higher_is_better: ClassVar[bool] = False

    def _figure(self, predictions: np.ndarray, targets: np.ndarray) -> float:
        return float(np.mean(np.abs(predictions - targets)))
