from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from et_core.interfaces.example import Example, Row
from et_core.interfaces.figures import Figure
from et_core.registry import registry


class Metric(ABC):
    """One figure over a labelled set, accumulated so that the outputs of a large set are never all in memory."""

    higher_is_better: ClassVar[bool] = True
    modes: ClassVar[frozenset[str]] = frozenset({"single-label", "multi-label", "regression"})
    """The kinds of target that it is defined for, as ``update`` tells them apart; "ranking" is a fourth."""

    def __init__(self, *, labels: Sequence[str] = ()) -> None:
        """*labels* are the names of the classes; empty for real-valued targets."""
        self.labels = tuple(labels)

    @abstractmethod
    def update(self, *, predictions: np.ndarray, targets: np.ndarray, scores: np.ndarray) -> None:
        """Add rows.

        "single-label": *predictions* and *targets* [B] are class indices, *scores* [B, C] logits. "multi-label":
        *predictions* and *targets* [B, C] are 0 or 1, *scores* [B, C] logits. "regression": all three are numbers [B].

        "ranking": each row is a candidate of a query. *targets* [B] say how relevant it is, 0 for not at all, *scores*
        and *predictions* [B] are what it is ranked by; and ``update`` gets ``queries`` [B] besides, whole numbers that
        are equal for the candidates of one query, which need not come one after another.
        """

    @abstractmethod
    def compute(self) -> float:
        """The figure over all rows so far; nan where it is not defined."""

    def notes(self) -> list[str]:
        """What was left out of the figure, a sentence each."""
        return []


class Evaluation(ABC):
    """One pass over a labelled set: an app's metrics and what its report shows."""

    @abstractmethod
    def update(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> None:
        """Add examples, all windows of a row in one call; the first axis of every output runs over *examples*."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """All figures by name, the main one first; the same names, with nan as figures, before any ``update``."""

    def higher_is_better(self, name: str) -> bool:
        """Whether more is better of the figure *name*: as its registered metric says; less is better of "loss"."""
        found = registry("metrics")
        return bool(found.get(name).higher_is_better) if name in found else name != "loss"

    def notes(self) -> list[str]:
        """What a reader of the figures should know before trusting them, a sentence each."""
        return []

    @abstractmethod
    def figures(self, read: Callable[[Sequence[int]], list[Row]]) -> list[Figure]:
        """What the report shows; *read* fetches rows of the set by their index."""
