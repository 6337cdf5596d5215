"""A metric of one's own in a single file; a run names it under plugins.files.

et train examples/sst2.yaml "plugins.files=[examples/my_metric.py]" "metrics=[accuracy, kappa]" output=runs/sst2-kappa
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from et_core.hooks import Register, hookimpl
from et_core.interfaces import Metric

ET_API = 1


@hookimpl
def et_register_metrics(register: Register) -> None:
    register("kappa", "my_metric:Kappa", summary="Cohen's kappa: agreement beyond chance")


class Kappa(Metric):
    """Cohen 1960: (observed - expected) / (1 - expected) agreement of predicted and true labels."""

    def __init__(self, *, labels: Sequence[str] = ()) -> None:
        super().__init__(labels=labels)
        self._counts = np.zeros((len(self.labels), len(self.labels)), np.int64)

    def update(self, *, predictions: np.ndarray, targets: np.ndarray, scores: np.ndarray) -> None:
        np.add.at(self._counts, (targets, predictions), 1)

    def compute(self) -> float:
        total = int(self._counts.sum())
        if not total:
            return math.nan
        observed = float(np.trace(self._counts)) / total
        expected = float(self._counts.sum(0) @ self._counts.sum(1)) / total**2
        return math.nan if expected == 1 else (observed - expected) / (1 - expected)
