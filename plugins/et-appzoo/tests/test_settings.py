"""Settings of classification that make no sense are refused; a chosen loss takes its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from et_appzoo.classification.app import Classification
from et_appzoo.labelled import by_short_name
from et_core.errors import ConfigError
from et_core.interfaces import Row


def rows(*values: Mapping[str, Any]) -> list[Row]:
    return [Row(value, where=f"train.tsv line {index + 2}", index=index) for index, value in enumerate(values)]


def fitted(values: Sequence[Any], **settings: Any) -> Classification:
    app = Classification(**settings)
    app.fit(rows(*({"text": "a text", "label": value} for value in values)))
    return app


def loss(app: Classification, logits: Sequence[Any], targets: Sequence[Any]) -> float:
    total, count = app.loss().build()({"logits": torch.tensor(logits)}, {"label": torch.tensor(targets)})
    return float(total / count)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mode": "multi-label", "label_smoothing": 0.1},
            "app.label_smoothing has no effect with app.mode=multi-label: it is for single-label. Leave it out.",
        ),
        (
            {"mode": "regression", "class_weights": "balanced"},
            "app.class_weights has no effect with app.mode=regression: it is for single-label and multi-label. "
            "Leave it out.",
        ),
        (
            {"threshold": 0.3},
            "app.threshold has no effect with app.mode=single-label: it is for multi-label. Leave it out.",
        ),
        ({"labels": ["a", "b", "a"]}, "app.labels names 'a' twice. Name each label once."),
        (
            {"mode": "multi-label", "label_separator": ""},
            "app.label_separator is empty. Give what stands between two labels, such as ',', or leave it out.",
        ),
        (
            {"class_weights": {"a": -1.0}},
            "app.class_weights gives the label 'a' the weight -1.0. Give a number of at least 0.",
        ),
        (
            {"loss": "mse", "label_smoothing": 0.1},
            "app.label_smoothing has no effect with app.loss=mse. Leave it out, and give the loss what it takes: "
            "app.loss={name: mse, ARGUMENT: VALUE}.",
        ),
        (
            {"loss": {"smoothing": 0.1}},
            "app.loss has no name. Write app.loss=NAME, or app.loss={name: NAME, ARGUMENT: VALUE}.",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Classification(**settings)
    assert str(error.value) == message


def test_a_loss_of_the_users_choice_takes_its_arguments() -> None:
    logits, targets = [[2.0, 0.0], [0.0, 1.0]], [0, 0]
    chosen = fitted(["a", "b"], loss={"name": "cross-entropy", "smoothing": 0.2})
    assert loss(chosen, logits, targets) == pytest.approx(
        loss(fitted(["a", "b"], label_smoothing=0.2), logits, targets)
    )
    with pytest.raises(ConfigError, match=r"^app\.loss\.smooth is not an argument of cross-entropy .*'smoothing'"):
        fitted(["a", "b"], loss={"name": "cross-entropy", "smooth": 0.2})


def test_figures_go_by_the_short_names_of_their_metrics_where_these_differ() -> None:
    evaluation = fitted(["a", "b"]).evaluation(["et-appzoo/accuracy", "et-appzoo/mcc"])
    assert list(evaluation.metrics()) == ["accuracy", "mcc", "loss"]
    assert by_short_name(["one/kappa", "two/kappa", "one/mcc"]) == {
        "one/kappa": "one/kappa",
        "two/kappa": "two/kappa",
        "mcc": "one/mcc",
    }
