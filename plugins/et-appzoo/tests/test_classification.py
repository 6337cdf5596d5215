from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch

from et_appzoo.classification.app import Classification, Classified
from et_appzoo.evaluation import best_thresholds
from et_core.data import PretrainedTokenizer
from et_core.errors import ConfigError, DataError, UnknownNameError
from et_core.interfaces import Bars, Example, Examples, Matrix, Row, Scatter
from et_core.sources import resolve

TEXT = frozenset({"text"})
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def tokenizer() -> PretrainedTokenizer:
    folder = resolve("bert-tiny-random@zoo").tokenizer
    assert folder is not None
    return PretrainedTokenizer.load(folder)


def rows(*values: Mapping[str, Any]) -> list[Row]:
    return [Row(value, where=f"train.tsv line {index + 2}", index=index) for index, value in enumerate(values)]


def fitted(values: Sequence[Any], **settings: Any) -> Classification:
    app = Classification(**settings)
    app.fit(rows(*({"text": "a text", "label": value} for value in values)))
    return app


def example(target: Any, row: int = 0) -> Example:
    return Example({"texts.0.ids": np.zeros(3, np.int32)}, {"label": np.asarray(target)}, row)


def loss(app: Classification, logits: Sequence[Any], targets: Sequence[Any]) -> float:
    total, count = app.loss().build()({"logits": torch.tensor(logits)}, {"label": torch.tensor(targets)})
    return float(total / count)


def test_one_text_gives_ids_and_a_pair_gives_segments(tokenizer: PretrainedTokenizer) -> None:
    one = fitted(["a", "b"])
    (encoded,) = one.encode(rows({"text": "very good", "label": "b"}), tokenizer, max_length=16, accepts=TEXT)
    assert set(encoded.inputs) == {"texts.0.ids"}
    np.testing.assert_array_equal(encoded.inputs["texts.0.ids"], tokenizer.encode(["very good"], max_length=16).ids[0])
    assert (int(encoded.targets["label"]), encoded.row, encoded.length) == (1, 0, len(encoded.inputs["texts.0.ids"]))

    pairs = Classification()
    data = rows(
        {"text": "a cat", "text_pair": "a dog", "label": "x"}, {"text": "one", "text_pair": "two", "label": "y"}
    )
    pairs.fit(data)
    encoded = pairs.encode(data, tokenizer, max_length=16, accepts=TEXT)[1]
    expected = tokenizer.encode(["one"], ["two"], max_length=16)
    np.testing.assert_array_equal(encoded.inputs["texts.0.ids"], expected.ids[0])
    np.testing.assert_array_equal(encoded.inputs["texts.0.segments"], expected.segments[0])
    assert encoded.row == 1


def test_models_that_take_two_texts_get_them_apart(tokenizer: PretrainedTokenizer) -> None:
    app = Classification()
    data = rows({"text": "a cat", "text_pair": "two dogs", "label": "x"}, {"text": "a", "text_pair": "b", "label": "y"})
    app.fit(data)
    encoded = app.encode(data, tokenizer, max_length=16, accepts=frozenset({"texts"}))[0]
    assert set(encoded.inputs) == {"texts.0.ids", "texts.1.ids"}
    for name, text in (("texts.0.ids", "a cat"), ("texts.1.ids", "two dogs")):
        np.testing.assert_array_equal(encoded.inputs[name], tokenizer.encode([text], max_length=16).ids[0])
    one = fitted(["a", "b"]).encode(rows({"text": "a cat"}), tokenizer, max_length=16, accepts=frozenset({"texts"}))[0]
    assert set(one.inputs) == {"texts.0.ids"}
    assert one.targets == {}


def test_a_row_without_its_second_text_is_named(tokenizer: PretrainedTokenizer) -> None:
    app = Classification()
    data = rows({"text": "a", "text_pair": "b", "label": "x"}, {"text": "a", "label": "y"})
    app.fit(data)
    with pytest.raises(DataError) as error:
        app.encode(data, tokenizer, max_length=16, accepts=TEXT)
    assert str(error.value) == (
        "train.tsv line 3: column 'text_pair' has no value, but other rows have a second text.\n"
        "Complete it, or leave bad rows out with data.on_bad_row=skip."
    )
    app.load_state(app.state())
    with pytest.raises(DataError) as error:
        app.encode(data, tokenizer, max_length=16, accepts=TEXT)
    assert str(error.value) == (
        "train.tsv line 3: column 'text_pair' is missing: this model was trained on pairs of texts."
    )


def test_long_texts_are_cut_at_the_side_asked_for(tokenizer: PretrainedTokenizer) -> None:
    app = fitted(["a", "b"])
    text = "the first words of a text that goes on and on until its last words"
    whole = tokenizer.encode([text], max_length=100).ids[0]
    for side, kept in (("right", whole[1:7]), ("left", whole[-7:-1])):
        (cut,) = app.encode(rows({"text": text}), tokenizer, max_length=8, accepts=TEXT, truncation=side)
        assert cut.inputs["texts.0.ids"].tolist() == [whole[0], *kept, whole[-1]]


def test_a_single_label_is_the_most_probable_one() -> None:
    app = fitted(["a", "b", "c"])
    logits = np.asarray([[0.0, 2.0, 1.0], [800.0, -800.0, 0.0]], np.float32)
    first, second = app.decode({"logits": logits}, [])
    assert (first.prediction, second.prediction) == ("b", "a")
    expected = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert first.probabilities == pytest.approx(dict(zip("abc", expected, strict=True)), abs=1e-6)
    assert second.probabilities == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_several_labels_are_those_over_their_threshold() -> None:
    logits = np.asarray([[0.1, -0.1], [-3.0, -3.0], [2.0, 2.0]], np.float32)
    found = fitted(["a,b"], mode="multi-label").decode({"logits": logits}, [])
    assert [row.prediction for row in found] == [["a"], [], ["a", "b"]]
    assert found[0].probabilities == pytest.approx({"a": 0.524979, "b": 0.475021}, abs=1e-6)
    strict = fitted(["a,b"], mode="multi-label", threshold=0.6).decode({"logits": logits}, [])
    assert [row.prediction for row in strict] == [[], [], ["a", "b"]]


def test_a_number_is_the_output_itself() -> None:
    found = fitted([1, 2.5], mode="regression").decode({"logits": np.asarray([[0.25], [-7.5]], np.float32)}, [])
    assert found == [Classified(0.25, None), Classified(-7.5, None)]


def test_balanced_weights_give_every_class_the_same_share() -> None:
    app = fitted(["a"] * 6 + ["b"] * 2, class_weights="balanced")
    assert app.loss().arguments["weights"] == pytest.approx([8 / 12, 8 / 4])
    assert fitted(["a", "b"]).loss().arguments["weights"] is None
    logits, targets = [[2.0, 0.0]] * 4, [0, 0, 0, 1]
    weights = torch.tensor(app.loss().arguments["weights"])
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(targets), weight=weights)
    assert loss(app, logits, targets) == pytest.approx(float(expected))


def test_weights_by_name_are_one_where_none_is_given() -> None:
    app = fitted(["a", "b", "c"], class_weights={"b": 3})
    assert app.loss().arguments["weights"] == [1.0, 3.0, 1.0]
    with pytest.raises(ConfigError) as error:
        fitted(["a", "b"], class_weights={"bee": 3.0}).loss()
    assert str(error.value) == "app.class_weights names the label 'bee'. Labels: a, b."


def test_smoothing_reaches_the_loss() -> None:
    logits, targets = [[3.0, 0.0, -1.0], [0.0, 1.0, 0.0]], [0, 2]
    for smoothing in (0.0, 0.2):
        expected = torch.nn.functional.cross_entropy(
            torch.tensor(logits), torch.tensor(targets), label_smoothing=smoothing
        )
        assert loss(fitted(["a", "b", "c"], label_smoothing=smoothing), logits, targets) == pytest.approx(
            float(expected)
        )


def test_each_mode_has_its_loss() -> None:
    assert loss(fitted([1, 2], mode="regression"), [[1.0], [3.0]], [2.0, 5.0]) == pytest.approx(2.5)
    logits, targets = [[1.0, -2.0]], [[1.0, 1.0]]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(targets))
    assert loss(fitted(["a,b"], mode="multi-label"), logits, targets) == pytest.approx(float(expected))


def test_thresholds_are_as_good_as_trying_them_all() -> None:
    targets = (RNG.random((500, 4)) < [0.05, 0.3, 0.7, 0.0]).astype(np.int64)
    bins = np.clip(RNG.normal(350 + 250 * targets, 200), 0, 1000).astype(int)
    histogram = np.zeros((2, 4, 1001), np.int64)
    for label in range(4):
        np.add.at(histogram[:, label], (targets[:, label], bins[:, label]), 1)
    found = best_thresholds(histogram)
    for label in range(3):
        predicted = bins[:, label] >= np.arange(1001)[:, None]
        hits = (predicted & (targets[:, label] == 1)).sum(1)
        tried = 2 * hits / (predicted.sum(1) + targets[:, label].sum())
        reached = sklearn.metrics.f1_score(targets[:, label], bins[:, label] / 1000 >= found[label])
        assert reached == pytest.approx(tried.max(), abs=1e-12)
    assert found[3] == pytest.approx(0.5, abs=1e-3)  # a label that no row has keeps the usual one


def test_calibration_changes_what_is_predicted_and_scored() -> None:
    app = fitted(["a,b", "a"], mode="multi-label")
    logits = np.asarray([[-1.0, 3.0], [-2.0, 2.0], [-3.0, 1.0], [-4.0, 0.5]], np.float32)
    examples = [example(target, row) for row, target in enumerate([[1.0, 1], [1.0, 0], [0.0, 0], [0.0, 0]])]
    before = app.evaluation()
    before.update({"logits": logits}, examples)
    assert app.calibrate(before)
    after = app.evaluation()
    after.update({"logits": logits}, examples)
    assert before.metrics()["micro-f1"] < after.metrics()["micro-f1"] == 1.0
    assert [row.prediction for row in app.decode({"logits": logits}, examples)] == [["a", "b"], ["a"], [], []]
    restored = Classification(mode="multi-label")
    restored.load_state(json.loads(json.dumps(app.state())))
    assert restored.decode({"logits": logits}, examples) == app.decode({"logits": logits}, examples)


def test_only_thresholds_left_to_auto_are_tuned() -> None:
    for app in (
        fitted(["a,b"], mode="multi-label", threshold=0.4),
        fitted(["a", "b"]),
        fitted([1, 2], mode="regression"),
    ):
        assert not app.calibrate(app.evaluation())
    assert fitted(["a,b"], mode="multi-label", threshold=0.4).thresholds.tolist() == [0.4, 0.4]


def test_the_state_survives_json(tokenizer: PretrainedTokenizer) -> None:
    app = Classification()
    app.fit(rows({"text": "a", "text_pair": "b", "label": "ja"}, {"text": "a", "text_pair": "b", "label": "nein"}))
    again = Classification()
    again.load_state(json.loads(json.dumps(app.state())))
    assert again.state() == app.state()
    assert again.head() == app.head()
    data = rows({"text": "x", "text_pair": "y", "label": "nein"})
    for one, other in zip(
        app.encode(data, tokenizer, max_length=9, accepts=TEXT),
        again.encode(data, tokenizer, max_length=9, accepts=TEXT),
        strict=True,
    ):
        np.testing.assert_equal(dict(one.inputs), dict(other.inputs))
        assert one.targets == other.targets


def test_figures_add_up_and_show_the_worst_errors_first() -> None:
    app = fitted(["a", "b", "c"])
    targets = RNG.integers(0, 3, 700)
    logits = (RNG.normal(size=(700, 3)) + np.eye(3)[targets]).astype(np.float32)
    evaluation = app.evaluation()
    for start in range(0, 700, 64):
        part = slice(start, start + 64)
        evaluation.update(
            {"logits": logits[part]},
            [example(target, start + row) for row, target in enumerate(targets[part])],
        )
    matrix, bars, worst = evaluation.figures(
        lambda indices: rows(*({"text": f"text {index}", "text_pair": "other"} for index in indices))
    )
    assert isinstance(matrix, Matrix)
    assert isinstance(bars, Bars)
    assert isinstance(worst, Examples)
    predictions = logits.argmax(1)
    np.testing.assert_array_equal(matrix.counts, sklearn.metrics.confusion_matrix(targets, predictions))
    assert list(bars.values) == ["a", "b", "c"]
    assert list(bars.values.values()) == pytest.approx(sklearn.metrics.f1_score(targets, predictions, average=None))

    shifted = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    losses = -shifted[np.arange(700), targets]
    wrong = np.nonzero(predictions != targets)[0]
    expected = wrong[np.argsort(-losses[wrong])][:40]
    assert [row[1] for row in worst.rows] == [f"text {index} ⟂ other" for index in expected]
    assert [row[2] for row in worst.rows] == ["abc"[targets[index]] for index in expected]
    assert [row[3].partition(" ")[0] for row in worst.rows] == ["abc"[predictions[index]] for index in expected]
    metrics = evaluation.metrics()
    assert list(metrics) == ["accuracy", "macro-f1", "mcc", "auc", "loss"]
    assert metrics["loss"] == pytest.approx(float(losses.mean()), rel=1e-6)


@pytest.mark.parametrize(
    ("targets", "logits", "told"),
    [
        ([0, 1, 1], [[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]], True),
        ([0, 1, 1], [[0.0, 1.0], [1.0, 0.0], [0.0, 3.0]], False),
        ([1, 1, 1], [[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]], False),
    ],
)
def test_a_model_that_always_says_the_same_is_told(targets: list[int], logits: list[list[float]], told: bool) -> None:
    evaluation = fitted(["bad", "good"]).evaluation()
    evaluation.update({"logits": np.array(logits)}, [example(target, row) for row, target in enumerate(targets)])
    notes = evaluation.notes()
    assert len(notes) == told
    assert all("every dev row is predicted as 'good'" in note for note in notes)


def test_figures_of_several_labels_and_of_numbers() -> None:
    app = fitted(["a,b"], mode="multi-label")
    targets = RNG.integers(0, 2, (300, 2))
    logits = (RNG.normal(size=(300, 2)) + 2 * targets - 1).astype(np.float32)
    evaluation = app.evaluation()
    evaluation.update({"logits": logits}, [example(target.astype(np.float32)) for target in targets])
    bars, worst = evaluation.figures(lambda indices: rows(*({"text": "t"} for _ in indices)))
    assert isinstance(bars, Bars)
    expected = sklearn.metrics.f1_score(targets, logits > 0, average=None)
    assert list(bars.values.values()) == pytest.approx(expected, abs=0.01)  # probabilities are kept in thousandths
    assert isinstance(worst, Examples)
    assert len(worst.rows) == 40

    evaluation = fitted([1, 2], mode="regression").evaluation()
    values = RNG.normal(size=(50, 1)).astype(np.float32)
    evaluation.update({"logits": values}, [example(np.float32(0.5), row) for row in range(50)])
    scatter, worst = evaluation.figures(lambda indices: rows(*({"text": f"{index}"} for index in indices)))
    assert isinstance(scatter, Scatter)
    assert scatter.points == [(0.5, float(value)) for value in values[:, 0]]
    assert isinstance(worst, Examples)
    assert [int(row[1]) for row in worst.rows] == np.argsort(-np.abs(values[:, 0] - 0.5))[:40].tolist()


def test_what_an_evaluation_keeps_does_not_grow_with_the_set() -> None:
    app = fitted([f"class {index}" for index in range(20)])
    evaluation = app.evaluation()

    sizes = []
    for _ in range(4):
        logits = RNG.normal(size=(500, 20)).astype(np.float32)
        evaluation.update({"logits": logits}, [example(target) for target in RNG.integers(0, 20, 500)])
        sizes.append(len(pickle.dumps(evaluation)))
    assert max(sizes) - min(sizes) < 500
    read: list[int] = []
    evaluation.figures(lambda indices: read.extend(indices) or rows(*({"text": "t"} for _ in indices)))
    assert len(read) == 40


def test_metrics_are_chosen_by_the_labels() -> None:
    assert list(fitted(["a", "b"]).evaluation().metrics())[:-1] == ["accuracy", "f1", "mcc", "auc"]
    assert next(iter(fitted(["a,b"], mode="multi-label").evaluation().metrics())) == "micro-f1"
    assert list(fitted([1, 2], mode="regression").evaluation().metrics()) == ["pearson", "spearman", "mse", "loss"]
    assert list(fitted(["a", "b"]).evaluation(["mcc"]).metrics()) == ["mcc", "loss"]
    with pytest.raises(UnknownNameError, match="acuracy"):
        fitted(["a", "b"]).evaluation(["acuracy"])


@pytest.mark.parametrize(
    ("mode", "metric"),
    [("regression", "accuracy"), ("regression", "auc"), ("multi-label", "spearman"), ("single-label", "pearson")],
)
def test_a_metric_of_another_mode_is_refused(mode: str, metric: str) -> None:
    app = fitted([1, 2] if mode == "regression" else ["a", "b"], mode=mode)
    with pytest.raises(ConfigError, match=rf"^metrics: {metric} is not defined for app\.mode={mode}; "):
        app.evaluation([metric])


def test_a_second_text_for_a_model_of_single_ones_is_refused(tokenizer: PretrainedTokenizer) -> None:
    app = fitted(["a", "b"])
    with pytest.raises(DataError) as error:
        app.encode(rows({"text": "x", "text_pair": "y"}), tokenizer, max_length=16, accepts=TEXT)
    assert str(error.value) == (
        "train.tsv line 2: column 'text_pair' holds a second text, "
        "but this model was trained on single ones: leave it out."
    )


def test_logits_beyond_sixteen_bits_are_measured_without_a_warning() -> None:
    evaluation = fitted(["a", "b"]).evaluation()
    logits = np.asarray([[1e6, -1e6], [1e6, -1e5], [1e6, 0.0]], np.float32)
    evaluation.update({"logits": logits}, [example(target, row) for row, target in enumerate([0, 1, 1])])
    assert evaluation.metrics()["accuracy"] == pytest.approx(1 / 3)
    assert evaluation.notes() == [
        "every dev row is predicted as 'a': where the loss rose, lower train.lr; "
        "else train longer, with a higher one, or on more rows"
    ]


def test_tuned_thresholds_are_told() -> None:
    app = fitted(["a,b", "a"], mode="multi-label")
    assert app.evaluation().notes() == []
    app.load_state({**app.state(), "thresholds": [0.25, 0.625]})
    assert app.evaluation().notes() == [
        "final figures are with thresholds tuned on dev by F1 (a 0.250, b 0.625), those before it with 0.5"
    ]
