from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from et_appzoo.matching.app import Matching
from et_core.config import ComponentConfig
from et_core.errors import ConfigError
from et_core.interfaces import Row, build_component


def rows(*labels: Any, **more: Any) -> list[Row]:
    return [Row({"text": "a", "text_pair": "b", "label": label, **more}, index=n) for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mode": "regression", "labels": ["1", "2"]},
            "app.labels has no effect with app.mode=regression: it is for single-label and graded. Leave it out.",
        ),
        (
            {"mode": "graded", "positive_label": "2"},
            "app.positive_label has no effect with app.mode=graded: it is for single-label. Leave it out.",
        ),
        (
            {"relevant_from": 0.0},
            "app.relevant_from has no effect with app.mode=single-label: it is for graded and regression. "
            "Leave it out.",
        ),
        (
            {"mode": "regression", "towers": 2, "threshold": 0.5},
            "app.threshold has no effect with app.mode=regression: it is for single-label. Leave it out.",
        ),
        (
            {"pooling": "first"},
            "app.pooling has no effect with app.towers=1: it is for app.towers=2. Leave it out.",
        ),
        (
            {"towers": 2, "dropout": 0.0},
            "app.dropout has no effect with app.towers=2: it is for app.towers=1. Leave it out.",
        ),
        (
            {"towers": 2, "domains": ["a", "b"]},
            "app.domains has no effect with app.towers=2: it is for app.towers=1. Leave it out.",
        ),
        (
            {"head": "two-towers"},
            "app.head=two-towers takes one vector a text, which app.towers=1 does not give. Set app.towers=2, or "
            "take another head: et list heads",
        ),
        (
            {"head": "pooled-linear", "towers": 2},
            "app.head=pooled-linear takes two texts that were read together, which app.towers=2 does not give. "
            "Set app.towers=1, or take another head: et list heads",
        ),
        (
            {"mode": "graded", "labels": ["low", "1"]},
            "app.labels holds 'low', '1': with app.mode=graded they are numbers. For names take app.mode=single-label.",
        ),
        ({"domains": ["a", "a"]}, "app.domains names 'a' 2 times. Name each domain once, with a name."),
        ({"labels": ["a", "a"]}, "app.labels names 'a' twice. Name each label once."),
    ],
    ids=str,
)
def test_a_setting_without_effect_is_refused(settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Matching(**settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"towers": 3}, "app.towers is 3: expected 1 or 2."),
        ({"threshold": 2.0}, "app.threshold is 2.0: expected 'auto' or a number of at least -1 and of at most 1."),
        ({"tower": 2}, "app.tower is not an argument of matching (et-appzoo 0.1.0). Did you mean 'towers'?"),
    ],
)
def test_a_wrong_value_or_name_is_told_before_anything_is_built(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_component("apps", ComponentConfig(name="matching", options=settings), where="app")
    assert str(error.value).startswith(message)


def test_a_ranking_metric_without_queries_says_which_setting_names_them() -> None:
    app = Matching()
    app.fit(rows("a", "b"))
    with pytest.raises(ConfigError) as error:
        app.evaluation(["et-appzoo/map"])
    assert str(error.value) == (
        "metrics: map ranks the candidates of each query: say which column tells queries apart with "
        "data.columns.query=COLUMN."
    )
    app.fit(rows("a", "b", query=1))
    assert list(app.evaluation(["et-appzoo/map", "et-appzoo/auc"]).metrics()) == ["map", "auc", "loss"]
    app = Matching()
    app.fit(rows("a", "b", "c", query=1))
    with pytest.raises(ConfigError, match=r"^metrics: map ranks candidates by one of the labels: say which with app.p"):
        app.evaluation(["et-appzoo/map"])


def test_a_metric_of_another_kind_is_refused() -> None:
    app = Matching(mode="graded")
    app.fit(rows(1, 2))
    assert list(app.evaluation(["et-appzoo/mse", "et-appzoo/mcc"]).metrics()) == ["mse", "mcc", "loss"]
    plain = Matching()
    plain.fit(rows(1, 2))
    with pytest.raises(ConfigError) as error:
        plain.evaluation(["et-appzoo/mse"])
    assert str(error.value) == (
        "metrics: mse is not defined for app.mode=single-label; accuracy, f1, mcc, auc are, among others."
    )


@pytest.mark.parametrize("least", [0, 4.5])
def test_relevance_begins_inside_the_range_of_the_labels(least: float) -> None:
    with pytest.raises(ConfigError) as error:
        Matching(mode="graded", relevant_from=least).fit(rows(0, 2, 4))
    assert str(error.value) == (
        f"app.relevant_from is {least:g}, but the training data has labels from 0 to 4. "
        "Give a number above the lowest of them, and up to the highest."
    )


def test_what_a_user_chooses_replaces_the_mode_s_own() -> None:
    app = Matching(loss="mse", mode="regression")
    app.fit(rows(0.0, 1.0))
    assert app.loss().name == "mse"
    numbers = Matching(mode="regression", towers=2, loss="cosine-mse")
    numbers.fit(rows(1.0, 5.0))
    assert (numbers.loss().name, numbers.loss().arguments) == ("cosine-mse", {"low": 1.0, "high": 5.0})
    sharp = Matching(towers=2, threshold=0.3, loss={"name": "cosine-cross-entropy", "scale": 10.0})
    sharp.fit(rows("a", "b"))
    assert (sharp.loss().arguments["scale"], sharp.loss().arguments["center"]) == (10.0, 0.3)
    towers = Matching(towers=2, class_weights="balanced", label_smoothing=0.1)
    towers.fit(rows("a", "b", "b", "b"))
    assert towers.loss().name == "et-appzoo/cosine-cross-entropy"
    assert towers.loss().arguments == {"center": 0.7, "weights": [2.0, pytest.approx(2 / 3)], "smoothing": 0.1}
    assert (towers.pipeline_tag, app.pipeline_tag) == ("sentence-similarity", "text-classification")
