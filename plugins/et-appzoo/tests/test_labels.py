from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from et_appzoo.labels import Labels
from et_core.errors import ConfigError, DataError
from et_core.interfaces import Row


def rows(values: Iterable[Any]) -> list[Row]:
    return [
        Row({"text": "a text", "label": value}, where=f"data/train.tsv line {number}", columns={"label": "label"})
        for number, value in enumerate(values, start=2)
    ]


def fitted(values: Iterable[Any], mode: str = "single-label", **settings: Any) -> Labels:
    labels = Labels(mode, **settings)
    labels.fit(rows(values))
    return labels


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["pos", "neg", "pos"], ("neg", "pos")),
        (["10", "9", "2", "9"], ("2", "9", "10")),
        ([1, 0, 1, 0], ("0", "1")),
        (["-1", "1", "0.5"], ("-1", "0.5", "1")),
        (["10", "9", "none"], ("10", "9", "none")),
        ([True, False, True], ("False", "True")),
        ([" pos ", "pos", "neg"], ("neg", "pos")),
    ],
    ids=str,
)
def test_names_are_learned_in_an_order_that_people_expect(values: list[Any], names: tuple[str, ...]) -> None:
    labels = fitted(values)
    assert labels.names == names
    assert sum(labels.counts) == len(values)
    assert labels.counts == tuple(sum(str(value).strip() == name for value in values) for name in names)


def test_the_order_of_rows_does_not_matter() -> None:
    values = ["b", "c", "a", "b"]
    assert fitted(values).state() == fitted(values[::-1]).state() == {"names": ["a", "b", "c"], "counts": [1, 2, 1]}


def test_names_that_are_given_keep_their_order() -> None:
    labels = fitted(["b", "a", "a"], names=["b", "z", "a"])
    assert (labels.names, labels.counts) == (("b", "z", "a"), (1, 0, 2))


def test_the_positive_label_comes_last() -> None:
    assert fitted(["no", "yes", "no"], positive="no").names == ("yes", "no")
    assert fitted(["no", "yes", "no"], names=["no", "yes"], positive="no").names == ("yes", "no")
    with pytest.raises(ConfigError, match=r"^app.positive_label is 'ja'. Labels in the training data: no, yes.$"):
        fitted(["no", "yes"], positive="ja")
    with pytest.raises(ConfigError, match=r"^app.positive_label is 'ja'. Labels in app.labels: no, yes.$"):
        Labels("single-label", names=["no", "yes"], positive="ja")


def test_an_unknown_label_names_the_place_and_the_nearest_name() -> None:
    labels = fitted(["positive", "negative"])
    row = Row({"label": "positve"}, where="data/train.tsv line 18", columns={"label": "label"})
    with pytest.raises(DataError) as error:
        labels.target(row)
    assert str(error.value) == (
        "data/train.tsv line 18: column 'label' holds 'positve'.\n"
        "Known labels: negative, positive. Did you mean 'positive'?\n"
        "Correct it, or leave bad rows out with data.on_bad_row=skip."
    )
    row = Row({"label": "7"}, where="data/train.tsv line 19", columns={"label": "Sentiment"})
    with pytest.raises(DataError) as error:
        labels.target(row)
    assert str(error.value) == (
        "data/train.tsv line 19: column 'Sentiment' holds '7'.\nKnown labels: negative, positive.\n"
        "Correct it, or leave bad rows out with data.on_bad_row=skip."
    )


def test_a_training_row_with_none_of_the_given_names_is_named() -> None:
    labels = Labels("single-label", names=["negative", "positive"])
    bad = rows(["positive", "positve"])
    with pytest.raises(DataError, match=r"^data/train.tsv line 3: column 'label' holds 'positve'.\nKnown labels: "):
        labels.fit(bad)
    with pytest.raises(DataError, match="Did you mean 'positive'"):
        labels.check(bad[1])
    labels.check(bad[0])


def test_many_known_labels_are_not_all_shown() -> None:
    labels = fitted([f"label {index}" for index in range(30)])
    with pytest.raises(DataError, match=r", 'label 26' and 10 more\."):
        labels.target(rows(["x"])[0])


def test_several_labels_come_from_text_and_from_lists() -> None:
    values = ["sport, news", ["news"], "", "weather", [], ("sport", "sport")]
    labels = fitted(values, "multi-label")
    assert labels.names == ("news", "sport", "weather")
    assert labels.counts == (2, 2, 1)
    targets = np.stack([labels.target(row) for row in rows(values)])
    expected = [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]]
    np.testing.assert_array_equal(targets, expected)
    assert targets.dtype == np.float32
    assert fitted(["a|b", "b"], "multi-label", separator="|").names == ("a", "b")


def test_targets_are_indices_or_numbers() -> None:
    labels = fitted(["b", "a"])
    assert [int(labels.target(row)) for row in rows(["b", "a"])] == [1, 0]
    assert labels.target(rows(["b"])[0]).shape == ()
    numbers = fitted(["0.5", 3, 2.5], "regression")
    assert numbers.names == ()
    assert [float(numbers.target(row)) for row in rows(["0.5", 3, 2.5])] == [0.5, 3.0, 2.5]


@pytest.mark.parametrize(
    ("mode", "value", "message"),
    [
        (
            "single-label",
            ["a", "b"],
            "holds a list: ['a', 'b'].\nFor several labels a row set app=classification and app.mode=multi-label.",
        ),
        (
            "single-label",
            {"no": "value"},
            "holds \"{'no': 'value'}\", which is no label.\nWrite a name or a number, "
            "or leave bad rows out with data.on_bad_row=skip.",
        ),
        (
            "multi-label",
            ["a", ["b"]],
            "holds \"['b']\", which is no label.\nWrite a name or a number, "
            "or leave bad rows out with data.on_bad_row=skip.",
        ),
        ("single-label", "  ", "is empty.\nWrite a label, or leave bad rows out with data.on_bad_row=skip."),
        (
            "regression",
            "good",
            "holds 'good', which is not a number.\nFor names instead of numbers set app.mode=single-label, "
            "or leave bad rows out with data.on_bad_row=skip.",
        ),
        (
            "regression",
            "nan",
            "holds 'nan', which stands for no value.\nWrite a number, or leave bad rows out with data.on_bad_row=skip.",
        ),
        ("regression", None, "is empty.\nWrite a number, or leave bad rows out with data.on_bad_row=skip."),
        (
            "multi-label",
            "['red' 'blue']",
            "holds \"['red' 'blue']\", which is no list of labels.\n"
            """Write ["red", "blue"], or labels with ',' between them, """
            "or leave bad rows out with data.on_bad_row=skip.",
        ),
    ],
)
def test_a_label_that_cannot_be_read_says_why(mode: str, value: Any, message: str) -> None:
    row = rows([value])[0]
    for call in (Labels(mode).check, lambda row: Labels(mode).fit([row])):
        with pytest.raises(DataError) as error:
            call(row)
        assert str(error.value) == f"data/train.tsv line 2: column 'label' {message}"


def test_many_different_numbers_are_refused_as_labels() -> None:
    values = [index / 10 for index in range(60)]
    with pytest.raises(ConfigError) as error:
        fitted(values)
    assert str(error.value) == (
        "the label column holds 60 different numbers in 60 rows. "
        "To predict a number set app.mode=regression; to treat them as names give app.labels."
    )
    assert fitted(values, names=[str(value) for value in values]).counts == (1,) * 60
    assert len(fitted(f"intent {index}" for index in range(60)).names) == 60


@pytest.mark.parametrize("values", [["0", "1", "0"], [1, 2, 3, 4, 5], list(range(45)) * 3], ids=len)
def test_few_numbers_are_labels_even_in_a_small_file(values: list[Any]) -> None:
    assert len(fitted(values).names) == len(set(values))


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        fitted(["a", "a"])
    assert str(error.value) == (
        "the training data has only the label 'a': at least two are needed. Check data.columns.label, and whether "
        "data.limit, or the share that data.dev holds out, took the rows with others."
    )
    with pytest.raises(ConfigError, match=r"^no row of the training data has a label. Check data.columns.label.$"):
        fitted(["", []], "multi-label")


def test_the_state_survives_json() -> None:
    for labels in (fitted(["ß", "a", "ß"]), fitted(["a,b", "b"], "multi-label"), fitted([1.5], "regression")):
        again = Labels(labels.mode)
        again.load_state(json.loads(json.dumps(labels.state())))
        assert (again.names, again.counts) == (labels.names, labels.counts)


def test_a_missing_entry_of_a_list_is_no_label() -> None:
    assert fitted([["red", None], ["blue"]], "multi-label").names == ("blue", "red")
