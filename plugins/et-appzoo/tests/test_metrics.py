from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics as peer

from et_core.errors import ConfigError
from et_core.interfaces import Metric
from et_core.registry import registry

CHUNKS = ((1, 2, 3, 5, 8), (400,), (199,), (7,))
RNG = np.random.default_rng(5)
NAMES = ("accuracy", "f1", "macro-f1", "micro-f1", "mcc", "auc", "pearson", "spearman", "mse", "mae")


def compute(
    name: str,
    targets: np.ndarray,
    predictions: np.ndarray,
    scores: np.ndarray,
    *,
    labels: Sequence[str] = (),
    chunks: Sequence[int] = (400,),
) -> float:
    """The figure over rows that are given in turns of the sizes *chunks*."""
    metric: Metric = registry("metrics").create(name, labels=labels)
    start = turn = 0
    while start < len(targets):
        part = slice(start, start + chunks[turn % len(chunks)])
        metric.update(predictions=predictions[part], targets=targets[part], scores=scores[part])
        start, turn = part.stop, turn + 1
    return metric.compute()


def single(classes: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, predictions and logits that are right more often than not."""
    targets = RNG.integers(0, classes, rows)
    logits = RNG.normal(size=(rows, classes)) + 0.8 * np.eye(classes)[targets]
    return targets, logits.argmax(1), logits.astype(np.float32)


def multi(labels: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    targets = (RNG.random((rows, labels)) < np.linspace(0.1, 0.6, labels)).astype(np.int64)
    logits = (RNG.normal(size=(rows, labels)) + 1.5 * targets - 0.7).astype(np.float32)
    return targets, (logits > 0).astype(np.int64), logits


BINARY, FOUR, SEVERAL = single(2), single(4), multi(5)
EXACT: list[tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray], Callable[..., Any]]] = [
    ("accuracy", BINARY, peer.accuracy_score),
    ("f1", BINARY, peer.f1_score),
    ("macro-f1", BINARY, lambda t, p: peer.f1_score(t, p, average="macro")),
    ("micro-f1", BINARY, lambda t, p: peer.f1_score(t, p, average="micro")),
    ("mcc", BINARY, peer.matthews_corrcoef),
    ("accuracy", FOUR, peer.accuracy_score),
    ("macro-f1", FOUR, lambda t, p: peer.f1_score(t, p, average="macro")),
    ("micro-f1", FOUR, lambda t, p: peer.f1_score(t, p, average="micro")),
    ("mcc", FOUR, peer.matthews_corrcoef),
    ("accuracy", SEVERAL, peer.accuracy_score),
    ("macro-f1", SEVERAL, lambda t, p: peer.f1_score(t, p, average="macro")),
    ("micro-f1", SEVERAL, lambda t, p: peer.f1_score(t, p, average="micro")),
]


def labels_of(scores: np.ndarray) -> list[str]:
    return [f"label {index}" for index in range(scores.shape[1])]


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize(("name", "data", "reference"), EXACT, ids=[f"{n}-{d[2].shape[1]}" for n, d, _ in EXACT])
def test_decisions_are_scored_as_scikit_learn_does(
    name: str, data: tuple[np.ndarray, ...], reference: Callable[..., Any], chunks: Sequence[int]
) -> None:
    targets, predictions, scores = data
    found = compute(name, targets, predictions, scores, labels=labels_of(scores), chunks=chunks)
    assert found == pytest.approx(float(reference(targets, predictions)), abs=1e-9)


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_auc_is_that_of_scikit_learn_to_a_thousandth(chunks: Sequence[int]) -> None:
    targets, _, scores = BINARY
    expected = peer.roc_auc_score(targets, scores[:, 1] - scores[:, 0])
    assert compute("auc", *BINARY, labels=["a", "b"], chunks=chunks) == pytest.approx(expected, abs=1e-3)
    targets, _, scores = FOUR
    expected = peer.roc_auc_score(targets, scipy.special.softmax(scores, axis=1), multi_class="ovr")
    assert compute("auc", *FOUR, labels=labels_of(scores), chunks=chunks) == pytest.approx(expected, abs=1e-3)
    targets, _, scores = SEVERAL
    expected = peer.roc_auc_score(targets, scores, average="macro")
    assert compute("auc", *SEVERAL, labels=labels_of(scores), chunks=chunks) == pytest.approx(expected, abs=1e-3)


def test_auc_tells_rare_and_confident_scores_apart() -> None:
    targets = (RNG.random(20_000) < 0.01).astype(np.int64)
    margin = RNG.normal(size=20_000) * 4 - 12 + 3 * targets
    scores = np.stack([np.zeros_like(margin), margin], axis=1).astype(np.float32)
    found = compute("auc", targets, scores.argmax(1), scores, labels=["no", "yes"])
    assert found == pytest.approx(peer.roc_auc_score(targets, margin), abs=1e-3)


def test_auc_of_equal_scores_is_one_half_whatever_the_sign_of_zero() -> None:
    targets = np.asarray([[0], [1], [0], [1]])
    scores = np.asarray([[0.0], [-0.0], [-0.0], [0.0]], np.float32)
    assert compute("auc", targets, targets, scores, labels=["a"]) == 0.5
    scores = np.asarray([[-0.0], [0.0], [-0.0], [0.0]], np.float32)
    assert compute("auc", targets, targets, scores, labels=["a"]) == 0.5


def test_auc_leaves_out_a_label_that_every_row_or_none_has() -> None:
    targets, predictions, scores = (array.copy() for array in SEVERAL)
    targets[:, 0], targets[:, 3] = 0, 1
    kept = [1, 2, 4]
    expected = peer.roc_auc_score(targets[:, kept], scores[:, kept], average="macro")
    assert compute("auc", targets, predictions, scores, labels=labels_of(scores)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("pearson", lambda t, p: scipy.stats.pearsonr(t, p).statistic),
        ("spearman", lambda t, p: scipy.stats.spearmanr(t, p).statistic),
        ("mse", peer.mean_squared_error),
        ("mae", peer.mean_absolute_error),
    ],
)
def test_values_are_scored_as_scipy_and_scikit_learn_do(
    name: str, reference: Callable[..., Any], chunks: Sequence[int]
) -> None:
    targets = RNG.integers(0, 11, 400) / 2
    predictions = targets + RNG.normal(size=400)
    found = compute(name, targets, predictions, predictions, chunks=chunks)
    assert found == pytest.approx(float(reference(targets, predictions)), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_give_no_figure(name: str) -> None:
    assert math.isnan(registry("metrics").create(name, labels=["a", "b"]).compute())
    none = np.zeros(0, np.int64)
    if name not in ("pearson", "spearman", "mse", "mae"):
        metric: Metric = registry("metrics").create(name, labels=["a", "b"])
        metric.update(predictions=none, targets=none, scores=np.zeros((0, 2), np.float32))
        assert math.isnan(metric.compute())


@pytest.mark.parametrize("constant", [0, 1])
def test_constant_predictions_score_as_in_scikit_learn(constant: int) -> None:
    targets = BINARY[0]
    predictions = np.full_like(targets, constant)
    scores = np.zeros((len(targets), 2), np.float32)
    figures = {name: compute(name, targets, predictions, scores, labels=["a", "b"]) for name in NAMES[:6]}
    assert figures == pytest.approx(
        {
            "accuracy": peer.accuracy_score(targets, predictions),
            "f1": peer.f1_score(targets, predictions),
            "macro-f1": peer.f1_score(targets, predictions, average="macro"),
            "micro-f1": peer.f1_score(targets, predictions, average="micro"),
            "mcc": 0.0,
            "auc": 0.5,
        },
        abs=1e-9,
    )


@pytest.mark.parametrize("only", [0, 1])
def test_a_set_with_one_class_scores_without_a_warning(only: int) -> None:
    targets = np.full(20, only)
    scores = np.zeros((20, 2), np.float32)
    figures = {name: compute(name, targets, targets, scores, labels=["a", "b"]) for name in NAMES[:5]}
    assert figures == {"accuracy": 1.0, "f1": float(only), "macro-f1": 1.0, "micro-f1": 1.0, "mcc": 0.0}
    assert math.isnan(compute("auc", targets, targets, scores, labels=["a", "b"]))


def test_multi_label_rows_that_predict_nothing_score_zero_without_a_warning() -> None:
    targets = SEVERAL[0]
    nothing = np.zeros_like(targets)
    for name in ("macro-f1", "micro-f1"):
        assert compute(name, targets, nothing, SEVERAL[2], labels=labels_of(SEVERAL[2])) == 0.0
        assert compute(name, nothing, nothing, SEVERAL[2], labels=labels_of(SEVERAL[2])) == 0.0
    assert compute("accuracy", nothing, nothing, SEVERAL[2], labels=labels_of(SEVERAL[2])) == 1.0


def test_correlation_with_a_constant_is_not_defined() -> None:
    values, constant = np.arange(10.0), np.ones(10)
    for name in ("pearson", "spearman"):
        assert math.isnan(compute(name, values, constant, constant))
        assert math.isnan(compute(name, constant, values, values))
        assert math.isnan(compute(name, values[:1], values[:1], values[:1]))


def test_f1_speaks_of_the_second_label() -> None:
    targets, predictions, scores = BINARY
    swapped = compute("f1", 1 - targets, 1 - predictions, scores[:, ::-1], labels=["b", "a"])
    assert compute("f1", targets, predictions, scores, labels=["a", "b"]) == pytest.approx(
        peer.f1_score(targets, predictions, pos_label=1)
    )
    assert swapped == pytest.approx(peer.f1_score(targets, predictions, pos_label=0))
    with pytest.raises(ConfigError, match=r"f1 is for two labels, not 4\. Take macro-f1"):
        compute("f1", *FOUR, labels=labels_of(FOUR[2]))


def test_only_errors_are_better_when_lower() -> None:
    lower = {name for name in NAMES if not registry("metrics").get(name).higher_is_better}
    assert lower == {"mse", "mae"}


VALUES, GUESSES = np.arange(40.0) / 8, np.arange(40.0) / 8 + RNG.normal(size=40)
OF_MODE: dict[str, tuple[tuple[np.ndarray, ...], int]] = {
    "single-label": (BINARY, 2),
    "multi-label": (SEVERAL, 5),
    "regression": ((VALUES, GUESSES, GUESSES), 0),
}


def test_a_metric_is_defined_for_the_modes_it_names() -> None:
    modes = {name: registry("metrics").get(name).modes for name in NAMES}
    assert {name for name in NAMES if "regression" in modes[name]} == {"pearson", "spearman", "mse", "mae"}
    assert {name for name in NAMES if "multi-label" in modes[name]} == {"accuracy", "macro-f1", "micro-f1", "auc"}
    for name, mode in ((each, mode) for each in NAMES for mode in modes[each]):
        arrays, labels = OF_MODE[mode]
        assert math.isfinite(compute(name, *arrays, labels=[f"label {index}" for index in range(labels)]))


def test_a_tie_in_auc_costs_at_most_half_the_share_of_its_pairs() -> None:
    targets = np.asarray([[0], [1], [0], [1]])
    # The middle two are one number in 16 bits: one of the four pairs of a miss and a hit.
    scores = np.asarray([[0.0], [1.0], [1.0001], [2.0]])
    exact = float(peer.roc_auc_score(targets, scores))
    found = compute("auc", targets, targets, scores, labels=["a"])
    assert exact == 0.75
    assert found - exact == 0.5 * 1 / 4
