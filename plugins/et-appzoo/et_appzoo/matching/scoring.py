from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from et_appzoo.scores import softmax

THRESHOLD = 0.7
"""The cosine from which on a pair is a match until a better one is tuned."""

SHARPNESS = 20.0
"""How fast a cosine away from the threshold becomes a sure decision, in the log-odds that figures are computed from."""


@dataclass(frozen=True)
class Scoring:
    """From a model's outputs to what a pair is decided and ranked by; without torch.

    *names* are the labels, *positive* the index of the one that makes a candidate relevant (None: no one does),
    *span* the least and the greatest number of the training rows. *threshold* is the cosine from which on a pair of
    vectors is a match, where pairs are decided *by_cosine*. From *relevant_from* on a grade or number is relevant.
    """

    mode: str
    names: Sequence[str] = ()
    positive: int | None = None
    span: tuple[float, float] = (0.0, 1.0)
    by_cosine: bool = False
    threshold: float = THRESHOLD
    relevant_from: float | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """What of a model's outputs is needed."""
        return ("cosine",) if self.by_cosine else ("logits",)

    @property
    def ranks(self) -> bool:
        """Whether pairs have a score."""
        return self.mode != "single-label" or self.positive is not None

    def logits(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits [N, C], or numbers [N, 1] in the labels' own range."""
        if not self.by_cosine:
            return np.asarray(outputs["logits"], np.float64)
        cosines = np.asarray(outputs["cosine"], np.float64)
        if self.mode == "regression":
            low, high = self.span
            return np.asarray(low + (high - low) * cosines)[:, None]
        return np.stack([np.zeros_like(cosines), SHARPNESS * (cosines - self.threshold)], 1)

    def scores(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """What each pair is ranked by [N]: see ``Matched.score``."""
        if self.by_cosine:
            return np.asarray(outputs["cosine"], np.float64)
        logits = self.logits(outputs)
        if self.mode == "regression":
            return logits[:, 0]
        if self.mode == "graded":
            return np.asarray(softmax(logits) @ self.grades)
        return None if self.positive is None else softmax(logits)[:, self.positive]

    @property
    def grades(self) -> np.ndarray:
        return np.asarray([float(name) for name in self.names])

    @property
    def extent(self) -> tuple[float, float]:
        """The lowest and the highest grade or number."""
        return (float(self.grades[0]), float(self.grades[-1])) if self.mode == "graded" else self.span

    @property
    def relevant(self) -> float:
        """The least grade or number that is relevant: any above the lowest grade, the upper half of a range."""
        if self.relevant_from is not None:
            return self.relevant_from
        return float(self.grades[1]) if self.mode == "graded" else sum(self.span) / 2

    def relevance(self, targets: np.ndarray) -> np.ndarray:
        """How relevant each candidate is [N]: a grade or number as it lies above the lowest one, 0 if too low."""
        if self.mode == "single-label":
            return (targets == self.positive).astype(np.float64)
        if self.mode == "graded":
            values = self.grades[targets]
            return np.where(values >= self.relevant, values - self.extent[0], 0.0)
        # Numbers were rounded to fp32 when they were read, and the limit has to be rounded alike to be reached.
        numbers = np.asarray(targets, np.float32)
        return np.where(numbers >= np.float32(self.relevant), numbers - self.extent[0], 0.0).astype(np.float64)


def best_threshold(histogram: np.ndarray) -> float:
    """The cosine from which on a pair is best called a match, by accuracy, from counts [2, bins] from -1 to 1.

    Row 0 of *histogram* counts the pairs that are none, row 1 those that are. Of equally good cosines it is the middle
    of their longest run.
    """
    none, match = histogram
    right = np.cumsum(none) - none + match.sum() - (np.cumsum(match) - match)
    best = np.flatnonzero(right == right.max())
    runs = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    longest = max(runs, key=len)
    half = (len(none) - 1) / 2
    return float((longest[0] + longest[-1] - 1) / 2 / half - 1)
