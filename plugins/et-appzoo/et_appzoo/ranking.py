"""Metrics of ranked candidates, from the score and the relevance of each and the query that it is of.

Candidates of one query with equal scores have no order of their own: each figure is the mean over all orders that they
could be in (McSherry and Najork 2008), so that it does not depend on the order of rows. A query without a relevant
candidate has no figure and is left out.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from et_core.interfaces import Metric


@dataclass(frozen=True)
class _Lists:
    """The candidates of all queries, best first within each; one entry a candidate, numbers of ties as floats.

    *query* counts queries from 0, *place* is the rank from 1 on. Of the candidates that tie with this one, itself
    included, *tied* says how many there are, *hits* how many are relevant, *gain* their mean relevance; *above* and
    *hits_above* count the candidates that are ranked over them.
    """

    query: np.ndarray
    place: np.ndarray
    tied: np.ndarray
    hits: np.ndarray
    gain: np.ndarray
    above: np.ndarray
    hits_above: np.ndarray
    relevance: np.ndarray

    @classmethod
    def rank(cls, queries: np.ndarray, scores: np.ndarray, relevance: np.ndarray) -> _Lists:
        _, query = np.unique(queries, return_inverse=True)
        order = np.lexsort((-scores, query))
        query, scores, relevance = query[order], scores[order], relevance[order]
        begins = np.diff(query, prepend=-1) != 0
        first = np.flatnonzero(begins)[query]
        tie = np.cumsum(begins | (np.diff(scores, prepend=np.nan) != 0)) - 1
        tie_start = np.searchsorted(tie, tie)
        relevant = (relevance > 0).astype(np.float64)
        hits_before = np.cumsum(relevant) - relevant
        tied = np.bincount(tie)[tie].astype(np.float64)
        return cls(
            query=query,
            place=np.arange(len(query)) - first + 1.0,
            tied=tied,
            hits=np.bincount(tie, relevant)[tie],
            gain=np.bincount(tie, relevance)[tie] / tied,
            above=(tie_start - first).astype(np.float64),
            hits_above=hits_before[tie_start] - hits_before[first],
            relevance=relevance,
        )

    def sums(self, values: np.ndarray) -> np.ndarray:
        """The sum of *values* of each query's candidates."""
        return np.bincount(self.query, values)

    @property
    def relevant(self) -> np.ndarray:
        """How many relevant candidates each query has."""
        return self.sums((self.relevance > 0).astype(np.float64))


class _Ranking(Metric):
    """Keeps three numbers a candidate, as ranking cannot do without."""

    modes: ClassVar[frozenset[str]] = frozenset({"ranking"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def update(
        self,
        *,
        predictions: np.ndarray,
        targets: np.ndarray,
        scores: np.ndarray,
        queries: np.ndarray | None = None,
    ) -> None:
        """Add candidates; without *queries* they are all of one."""
        asked = np.zeros(len(targets), np.int64) if queries is None else queries
        self._parts.append((np.asarray(asked), np.asarray(scores, np.float64), np.asarray(targets, np.float64)))

    def compute(self) -> float:
        lists = self._lists()
        if lists is None:
            return math.nan
        kept = lists.relevant > 0
        # Queries without a relevant candidate divide by zero here, and are left out of the mean.
        with np.errstate(divide="ignore", invalid="ignore"):
            figures = self._figures(lists)
        return float(figures[kept].mean()) if kept.any() else math.nan

    def notes(self) -> list[str]:
        lists = self._lists()
        queries = 0 if lists is None else len(lists.relevant)
        without = 0 if lists is None else int((lists.relevant == 0).sum())
        if not without:
            return []
        return [f"{without} of {queries} queries have no relevant candidate: ranking figures leave them out"]

    def _lists(self) -> _Lists | None:
        if not sum(len(part[0]) for part in self._parts):
            return None
        queries, scores, relevance = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        return _Lists.rank(queries, scores, relevance)

    @abstractmethod
    def _figures(self, lists: _Lists) -> np.ndarray:
        """The figure of each query."""


class Map(_Ranking):
    """Mean average precision: precision at the place of each relevant candidate, averaged over these, then queries."""

    def _figures(self, lists: _Lists) -> np.ndarray:
        before = lists.place - lists.above - 1
        others = np.where(lists.tied > 1, (lists.hits - 1) / np.maximum(lists.tied - 1, 1), 0.0)
        precision = (lists.hits_above + 1 + before * others) / lists.place
        return lists.sums(lists.hits / lists.tied * precision) / lists.relevant


class Mrr(_Ranking):
    """Mean reciprocal rank: one divided by the place of the first relevant candidate, averaged over queries."""

    def _figures(self, lists: _Lists) -> np.ndarray:
        from scipy.special import gammaln

        def log_choices(total: np.ndarray, chosen: np.ndarray) -> np.ndarray:
            found = gammaln(total + 1) - gammaln(chosen + 1) - gammaln(np.maximum(total - chosen, 0) + 1)
            return np.where(chosen <= total, found, -np.inf)

        decides = (lists.hits_above == 0) & (lists.hits > 0)
        rest = lists.tied - (lists.place - lists.above)
        hits = np.where(decides, lists.hits, 1.0)
        # All other relevant candidates of the tie come after this one. Of many, the numbers themselves are too large.
        first = np.exp(log_choices(rest, hits - 1) - log_choices(lists.tied, hits))
        return lists.sums(np.where(decides, first / lists.place, 0.0))


class _RecallAt(_Ranking):
    """The share of a query's relevant candidates that are among its first *k*, averaged over queries."""

    k: ClassVar[int]

    def _figures(self, lists: _Lists) -> np.ndarray:
        return lists.sums(np.where(lists.place <= self.k, lists.hits / lists.tied, 0.0)) / lists.relevant


class RecallAt1(_RecallAt):
    k = 1


class RecallAt5(_RecallAt):
    k = 5


class RecallAt10(_RecallAt):
    k = 10


class NdcgAt10(_Ranking):
    """Discounted cumulative gain of the first ten against the best possible (Järvelin and Kekäläinen 2002).

    The gain is the relevance itself, the discount the binary logarithm of one more than the place.
    """

    _K = 10

    def _figures(self, lists: _Lists) -> np.ndarray:
        best = np.lexsort((-lists.relevance, lists.query))
        discount = np.where(lists.place <= self._K, 1 / np.log2(lists.place + 1), 0.0)
        return lists.sums(lists.gain * discount) / lists.sums(lists.relevance[best] * discount)
