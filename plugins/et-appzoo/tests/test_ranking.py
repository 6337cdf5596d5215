"""Ranking metrics against their definitions: every order that ties allow is tried, and scikit-learn is asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import sklearn.metrics

from et_core.registry import registry

NAMES = ("map", "mrr", "recall-at-1", "recall-at-5", "recall-at-10", "ndcg-at-10")


def measured(name: str, queries: Sequence[int], scores: Sequence[float], relevance: Sequence[float]) -> float:
    metric = registry("metrics").create(f"et-appzoo/{name}")
    for start in range(0, len(queries), 7):  # in pieces that cut queries
        part = slice(start, start + 7)
        metric.update(
            predictions=np.asarray(scores[part]),
            targets=np.asarray(relevance[part], np.float64),
            scores=np.asarray(scores[part]),
            queries=np.asarray(queries[part], np.int64),
        )
    return float(metric.compute())


def average_precision(ranked: Sequence[float]) -> float:
    hits = [place for place, value in enumerate(ranked, 1) if value > 0]
    return sum(number / place for number, place in enumerate(hits, 1)) / len(hits)


def reciprocal_rank(ranked: Sequence[float]) -> float:
    return 1 / next(place for place, value in enumerate(ranked, 1) if value > 0)


def recall(k: int) -> Callable[[Sequence[float]], float]:
    return lambda ranked: sum(value > 0 for value in ranked[:k]) / sum(value > 0 for value in ranked)


def gain(ranked: Sequence[float]) -> float:
    return sum(value / math.log2(place + 1) for place, value in enumerate(ranked[:10], 1))


DEFINITIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "map": average_precision,
    "mrr": reciprocal_rank,
    "recall-at-1": recall(1),
    "recall-at-5": recall(5),
    "recall-at-10": recall(10),
    "ndcg-at-10": lambda ranked: gain(ranked) / gain(sorted(ranked, reverse=True)),
}


def orders(scores: Sequence[float], relevance: Sequence[float]) -> Iterator[list[float]]:
    """The relevance of candidates, best first, in every order that their scores allow."""
    ties = [
        [value for score, value in zip(scores, relevance, strict=True) if score == level]
        for level in sorted(set(scores), reverse=True)
    ]
    for chosen in itertools.product(*(itertools.permutations(tie) for tie in ties)):
        yield [value for tie in chosen for value in tie]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_the_mean_over_all_orders_of_equal_scores(name: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        count = int(rng.integers(1, 8))
        scores = rng.integers(0, 3, count).tolist()
        relevance = rng.choice([0, 0, 1, 3], count).tolist()
        if not any(relevance):
            continue
        expected = float(np.mean([DEFINITIONS[name](ranked) for ranked in orders(scores, relevance)]))
        assert measured(name, [9] * count, scores, relevance) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_queries_count_the_same_and_their_rows_may_lie_anywhere(name: str) -> None:
    rng = np.random.default_rng(6)
    queries = rng.integers(-40, 40, 600)
    scores = rng.normal(size=600).round(1)
    relevance = np.where(rng.random(600) < 0.3, rng.integers(1, 4, 600), 0)
    figures = []
    for query in np.unique(queries):
        mine = queries == query
        if relevance[mine].any():
            figures.append(measured(name, queries[mine], scores[mine], relevance[mine]))
    whole = measured(name, queries, scores, relevance)
    assert whole == pytest.approx(np.mean(figures), abs=1e-12)
    shuffled = rng.permutation(600)
    assert measured(name, queries[shuffled], scores[shuffled], relevance[shuffled]) == pytest.approx(whole, abs=1e-12)


def test_scikit_learn_says_the_same_where_it_measures_it() -> None:
    rng = np.random.default_rng(7)
    relevance, scores = rng.integers(0, 4, (50, 30)), rng.normal(size=(50, 30))
    tied = scores.round(0)
    queries = np.repeat(np.arange(50), 30)
    hits = relevance > 0
    found = measured("ndcg-at-10", queries, tied.ravel(), relevance.ravel())
    assert found == pytest.approx(sklearn.metrics.ndcg_score(relevance, tied, k=10), abs=1e-12)
    found = measured("map", queries, scores.ravel(), hits.ravel())
    assert found == pytest.approx(sklearn.metrics.label_ranking_average_precision_score(hits, scores), abs=1e-12)
    each = [sklearn.metrics.average_precision_score(hits[row], scores[row]) for row in range(50)]
    assert found == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_query_without_a_relevant_candidate_is_left_out_and_noted(name: str) -> None:
    metric = registry("metrics").create(f"et-appzoo/{name}")
    assert math.isnan(metric.compute())
    assert metric.notes() == []
    values = {
        "scores": np.asarray([3.0, 2.0, 1.0, 5.0, 4.0]),
        "targets": np.asarray([0.0, 1.0, 0.0, 0.0, 0.0]),
        "queries": np.asarray([1, 1, 1, 2, 2]),
    }
    metric.update(predictions=values["scores"], **values)
    expected = DEFINITIONS[name]([0, 1, 0])
    assert metric.compute() == pytest.approx(expected, abs=1e-12)
    assert metric.notes() == ["1 of 2 queries have no relevant candidate: ranking figures leave them out"]


def test_many_equal_scores_overflow_nothing() -> None:
    relevance = [1.0] * 700 + [0.0] * 700
    assert measured("mrr", [1] * 1400, [0.5] * 1400, relevance) == pytest.approx(
        sum(2.0**-place / place for place in range(1, 60)), rel=1e-2
    )
