from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from et_appzoo.matching.app import Matched, Matching
from et_appzoo.matching.scoring import best_threshold
from et_core.data import PretrainedTokenizer
from et_core.errors import ConfigError, DataError
from et_core.interfaces import Bars, Embeds, Example, Row
from et_core.sources import resolve

TEXT = frozenset({"text", "marks"})
RNG = np.random.default_rng(3)
RANKING = ["map", "mrr", "recall-at-1", "recall-at-5", "recall-at-10", "ndcg-at-10"]


@pytest.fixture(scope="module")
def tokenizer() -> PretrainedTokenizer:
    folder = resolve("bert-tiny-random@zoo").tokenizer
    assert folder is not None
    return PretrainedTokenizer.load(folder)


def rows(*values: Mapping[str, Any]) -> list[Row]:
    return [
        Row({"text": "a cat", "text_pair": "a dog", **value}, where=f"train.tsv line {index + 2}", index=index)
        for index, value in enumerate(values)
    ]


def fitted(labels: Sequence[Any], *, query: bool = False, **settings: Any) -> Matching:
    app = Matching(**settings)
    more = {"query": "q1"} if query else {}
    app.fit(rows(*({"label": label, **more} for label in labels)))
    return app


def examples(targets: Sequence[Any], queries: Sequence[int] | None = None, **more: Sequence[Any]) -> list[Example]:
    asked = queries or [0] * len(targets)
    named = {name: [np.asarray(value) for value in values] for name, values in more.items()}
    return [
        Example(
            {},
            {
                "label": np.asarray(target),
                "query": np.asarray(query, np.int64),
                **{name: values[row] for name, values in named.items()},
            },
            row,
        )
        for row, (target, query) in enumerate(zip(targets, asked, strict=True))
    ]


def figures_of(app: Matching, outputs: Mapping[str, Any], rows: Sequence[Example]) -> dict[str, float]:
    evaluation = app.evaluation()
    for start in range(0, len(rows), 50):
        part = slice(start, start + 50)
        evaluation.update({name: np.asarray(values)[part] for name, values in outputs.items()}, rows[part])
    return evaluation.metrics()


def test_texts_are_joined_where_the_model_takes_one_and_apart_where_it_takes_two(
    tokenizer: PretrainedTokenizer,
) -> None:
    data = rows({"label": "x"}, {"text": "one", "text_pair": "two words", "label": "y"})
    app = Matching()
    app.fit(data)
    joined = app.encode(data, tokenizer, max_length=16, accepts=TEXT)[1]
    expected = tokenizer.encode(["one"], ["two words"], max_length=16)
    assert set(joined.inputs) == {"texts.0.ids", "texts.0.segments"}
    np.testing.assert_array_equal(joined.inputs["texts.0.ids"], expected.ids[0])
    np.testing.assert_array_equal(joined.inputs["texts.0.segments"], expected.segments[0])
    apart = app.encode(data, tokenizer, max_length=16, accepts=frozenset({"texts"}))[1]
    towers = Matching(towers=2)
    towers.fit(data)
    for example in (apart, towers.encode(data, tokenizer, max_length=16, accepts=TEXT)[1]):
        assert set(example.inputs) == {"texts.0.ids", "texts.1.ids"}
        for place, text in enumerate(("one", "two words")):
            ids = tokenizer.encode([text], max_length=16).ids[0]
            np.testing.assert_array_equal(example.inputs[f"texts.{place}.ids"], ids)
        assert (int(example.targets["label"]), example.row) == (1, 1)


def test_rows_to_predict_need_neither_label_nor_query(tokenizer: PretrainedTokenizer) -> None:
    for app in (fitted(["a", "b"], query=True), fitted(["a", "b"], towers=2)):
        (example,) = app.encode(rows({}), tokenizer, max_length=16, accepts=TEXT)
        assert example.targets == {}


def test_two_labels_are_scored_by_the_second(tokenizer: PretrainedTokenizer) -> None:
    logits = np.asarray([[0.0, 1.0], [2.0, 0.0]], np.float32)
    first, second = fitted(["no", "yes"]).decode({"logits": logits}, [])
    share = math.exp(1) / (1 + math.exp(1))
    assert first == Matched(
        "yes", pytest.approx(share, abs=1e-6), pytest.approx({"no": 1 - share, "yes": share}, abs=1e-6)
    )
    assert (second.prediction, second.score) == ("no", second.probabilities["yes"])
    (found,) = fitted(["no", "yes"], positive_label="no").decode({"logits": logits[:1]}, [])
    assert (found.prediction, found.score) == ("no", pytest.approx(share, abs=1e-6))


def test_three_labels_have_a_score_only_where_one_is_said_to_be_positive() -> None:
    logits = np.asarray([[0.0, 2.0, 1.0]], np.float32)
    labels = ["contradiction", "entailment", "neutral"]
    (found,) = fitted(labels).decode({"logits": logits}, [])
    assert (found.prediction, found.score) == ("entailment", None)
    app = fitted(labels, positive_label="entailment")
    assert app.labels.names == ("contradiction", "neutral", "entailment")
    (found,) = app.decode({"logits": logits}, [])
    assert found.score == found.probabilities["entailment"]


def test_a_grade_is_scored_by_its_expected_value() -> None:
    app = fitted([3, "0", 1.0, "1.0"], mode="graded")
    assert app.labels.names == ("0", "1", "3")
    logits = np.log(np.asarray([[0.5, 0.3, 0.2]]))
    (found,) = app.decode({"logits": logits}, [])
    assert found == Matched("0", pytest.approx(0.9), pytest.approx({"0": 0.5, "1": 0.3, "3": 0.2}))
    assert app.describe() == "3 grades: 0, 1, 3"


def test_a_number_is_its_own_score_and_a_cosine_is_scaled_to_the_labels() -> None:
    (found,) = fitted([1, 5], mode="regression").decode({"logits": np.asarray([[2.5]])}, [])
    assert found == Matched(2.5, 2.5, None)
    (found,) = fitted([1, 5], mode="regression", towers=2).decode({"cosine": np.asarray([0.25])}, [])
    assert found == Matched(pytest.approx(2.0), 0.25, None)


def test_two_towers_decide_by_the_threshold_of_the_cosine() -> None:
    cosines = np.asarray([0.3, 0.5, 0.9], np.float32)
    for settings, expected in (
        ({}, ["a", "a", "b"]),
        ({"threshold": 0.2}, ["b"] * 3),
        ({"threshold": 0.95}, ["a"] * 3),
    ):
        found = fitted(["a", "b"], towers=2, **settings).decode({"cosine": cosines}, [])
        assert [row.prediction for row in found] == expected
        assert [row.score for row in found] == pytest.approx(cosines.tolist(), abs=1e-6)
        assert all(row.probabilities is None for row in found)


def test_the_threshold_is_as_accurate_as_any_and_changes_what_is_predicted() -> None:
    targets = RNG.integers(0, 2, 400)
    cosines = np.clip(RNG.normal(0.2 + 0.3 * targets, 0.2), -1, 1)
    app, rows_ = fitted(["a", "b"], towers=2), examples(targets)
    before = app.evaluation()
    before.update({"cosine": cosines}, rows_)
    assert app.calibrate(before)
    after = figures_of(app, {"cosine": cosines}, rows_)
    tried = [((cosines >= cosine) == targets).mean() for cosine in np.linspace(-1, 1, 4001)]
    assert after["accuracy"] == pytest.approx(max(tried), abs=2.6e-3)
    assert after["accuracy"] > before.metrics()["accuracy"]
    assert after["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(targets, cosines), abs=1e-3)
    again = Matching(towers=2)
    again.load_state(json.loads(json.dumps(app.state())))
    assert again.decode({"cosine": cosines}, rows_) == app.decode({"cosine": cosines}, rows_)
    assert fitted(["a", "b"], towers=2).decode({"cosine": cosines}, rows_) != app.decode({"cosine": cosines}, rows_)
    assert not fitted(["a", "b"], towers=2, threshold=0.4).calibrate(before)


def test_of_equally_good_thresholds_it_is_the_middle() -> None:
    histogram = np.zeros((2, 2001), np.int64)
    histogram[0, 1100] = histogram[1, 1500] = 3
    assert best_threshold(histogram) == pytest.approx(0.3, abs=1e-3)


def test_auc_and_ranking_go_by_scores_and_not_by_decisions() -> None:
    targets = RNG.integers(0, 2, 300)
    # Every row is decided alike, so that decisions rank nothing.
    logits = np.stack([np.full(300, 5.0), RNG.normal(targets, 0.7)], 1)
    queries = RNG.integers(1, 40, 300)
    found = figures_of(fitted(["a", "b"], query=True), {"logits": logits}, examples(targets, queries.tolist()))
    assert list(found) == ["accuracy", "f1", "mcc", "auc", *RANKING, "loss"]
    assert found["f1"] == 0.0
    assert found["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(targets, logits[:, 1]), abs=1e-3)
    asked = [queries == query for query in np.unique(queries)]
    each = [sklearn.metrics.average_precision_score(targets[q], logits[q, 1]) for q in asked if targets[q].any()]
    assert found["map"] == pytest.approx(np.mean(each), abs=1e-9)


def test_grades_rank_by_how_far_they_lie_above_the_lowest() -> None:
    targets, logits = RNG.integers(0, 3, 60), RNG.normal(size=(60, 3))
    app = fitted([1, 2, 4], query=True, mode="graded")
    found = figures_of(app, {"logits": logits}, examples(targets, np.repeat([7, 8, 9], 20).tolist()))
    assert list(found) == ["accuracy", "spearman", "macro-f1", *RANKING, "loss"]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected, grades = shares @ [1, 2, 4], np.asarray([1, 2, 4])[targets]
    gains = (grades - 1).reshape(3, 20)
    assert found["ndcg-at-10"] == pytest.approx(sklearn.metrics.ndcg_score(gains, expected.reshape(3, 20), k=10))
    strict = fitted([1, 2, 4], query=True, mode="graded", relevant_from=4)
    strictly = figures_of(strict, {"logits": logits}, examples(targets, np.repeat([7, 8, 9], 20).tolist()))
    hits, scores = (gains == 3), expected.reshape(3, 20)
    assert strictly["map"] == pytest.approx(sklearn.metrics.label_ranking_average_precision_score(hits, scores))


def test_numbers_are_relevant_in_the_upper_half_of_their_range() -> None:
    targets, values = RNG.uniform(-1, 3, 40), RNG.normal(size=(40, 1))
    app = fitted([-1, 3], query=True, mode="regression")
    found = figures_of(app, {"logits": values}, examples(targets, np.repeat([1, 2], 20).tolist()))
    assert list(found) == ["pearson", "spearman", "mse", *RANKING, "loss"]
    hits, scores = (targets >= 1).reshape(2, 20), values.reshape(2, 20)
    assert found["map"] == pytest.approx(sklearn.metrics.label_ranking_average_precision_score(hits, scores))


def test_a_run_trained_without_queries_is_ranked_where_a_file_names_them() -> None:
    app, logits = fitted(["a", "b"]), np.asarray([[0.0, 1.0], [0.0, 2.0]])
    assert not set(RANKING) & set(app.evaluation().metrics())
    assert figures_of(app, {"logits": logits}, examples([0, 1], [5, 5]))["mrr"] == 1.0
    evaluation = app.evaluation()
    evaluation.update({"logits": logits}, examples([0, 1], [5, 0]))
    assert evaluation.notes()[-2:] == [
        "1 of 1 queries have no relevant candidate: ranking figures leave them out",
        "1 rows name no query: ranking figures leave them out",
    ]


def test_figures_by_domain_are_those_of_its_rows(tokenizer: PretrainedTokenizer) -> None:
    app = Matching(domains=["news", "chat"])
    data = rows({"label": "a", "domain": "news"}, {"label": "b", "domain": "chat"})
    app.fit(data)
    assert app.marks == {"domain": 2}
    assert list(app.texts(data[0])) == ["a cat", "a dog"]
    encoded = app.encode(data, tokenizer, max_length=16, accepts=TEXT)
    for number, example in enumerate(encoded):
        assert example.inputs["marks.domain"].tolist() == [number] * len(example.inputs["texts.0.ids"])
        assert int(example.targets["domain"]) == number
    evaluation = app.evaluation()
    logits = np.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    evaluation.update({"logits": logits}, examples([0, 1, 1], domain=[0, 0, 1]))
    bars = evaluation.figures(lambda indices: rows(*({} for _ in indices)))[-2]
    assert bars == Bars("accuracy by domain", {"news": 0.5, "chat": 1.0})


def test_an_app_of_two_towers_gives_vectors_and_one_of_joined_texts_says_what_to_do() -> None:
    assert isinstance(Matching(), Embeds)
    assert list(Matching(towers=2).embedded_roles()) == ["text"]
    with pytest.raises(ConfigError) as error:
        Matching().embedded_roles()
    assert str(error.value) == (
        "this run reads two texts together (app.towers=1), so that one alone has no vector. "
        "Train with app.towers=2 for vectors."
    )


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (
            {"label": ""},
            {},
            "column 'label' is empty.\nWrite a label, or leave bad rows out with data.on_bad_row=skip.",
        ),
        (
            {"label": "ys"},
            {"labels": ["no", "yes"]},
            "column 'label' holds 'ys'.\nKnown labels: no, yes. Did you mean 'yes'?\n"
            "Correct it, or leave bad rows out with data.on_bad_row=skip.",
        ),
        (
            {"label": "good"},
            {"mode": "graded"},
            "column 'label' holds 'good', which is not a number.\nFor names instead of numbers set "
            "app.mode=single-label, or leave bad rows out with data.on_bad_row=skip.",
        ),
        (
            {"label": "yes", "domain": "new"},
            {"domains": ["news", "chat"]},
            "column 'domain' holds 'new'.\nKnown domains: news, chat. Did you mean 'news'?\n"
            "Correct it, add it to app.domains, or leave bad rows out with data.on_bad_row=skip.",
        ),
        (
            {"label": "yes", "query": " "},
            {},
            "column 'query' is empty.\nName the query that the row is a candidate of, or leave bad rows out with "
            "data.on_bad_row=skip.",
        ),
    ],
)
def test_a_bad_row_names_file_line_and_column(values: Mapping[str, Any], settings: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        Matching(**settings).check(rows({}, values)[1])
    assert str(error.value) == f"train.tsv line 3: {message}"


def test_a_row_without_a_query_among_rows_with_one_is_bad(tokenizer: PretrainedTokenizer) -> None:
    app = Matching()
    with pytest.raises(DataError, match=r"^train.tsv line 3: column 'query' is empty."):
        app.fit(rows({"label": "a", "query": 1}, {"label": "b"}))
    late = rows({"label": "b"}, {"label": "a", "query": 1})
    app = Matching()
    app.fit(late)
    with pytest.raises(DataError, match=r"^train.tsv line 2: column 'query' is empty."):
        app.encode(late, tokenizer, max_length=16, accepts=TEXT)


def test_a_query_that_is_no_name_is_bad() -> None:
    with pytest.raises(DataError, match=r"^train.tsv line 2: column 'query' holds \['a'\], which names no query."):
        Matching().fit(rows({"label": "a", "query": ["a"]}, {"label": "b"}))
