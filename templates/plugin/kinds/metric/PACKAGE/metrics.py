from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from et_core.interfaces import Metric


class Brier(Metric):
    """How far the probabilities are from what is true, 1 for the right class and 0 for the others (Brier 1950).

    The squared error of each class, added up over classes and averaged over rows: 0 at best, 2 at worst.
    """

    higher_is_better: ClassVar[bool] = False
    modes: ClassVar[frozenset[str]] = frozenset({"single-label"})

    def __init__(self, *, labels: Sequence[str] = ()) -> None:
        super().__init__(labels=labels)
        self._sum, self._rows = 0.0, 0

    def update(self, *, predictions: np.ndarray, targets: np.ndarray, scores: np.ndarray) -> None:
        powers = np.exp(scores - scores.max(1, keepdims=True))
        errors = powers / powers.sum(1, keepdims=True)
        errors[np.arange(len(targets)), targets] -= 1
        self._sum += float((errors**2).sum())
        self._rows += len(targets)

    def compute(self) -> float:
        return self._sum / self._rows if self._rows else math.nan
