"""Stores that are joined side by side and one after another, files that are made once, numbers that change."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from et_core.config import Ramp, check_value, value_at
from et_core.data import ExampleStore, JoinedStore, cached_file
from et_core.data import cache as cache_module
from et_core.errors import ConfigError, DataError
from et_core.interfaces import Example
from et_core.training.splits import share_out
from tests.seams.tools import store_of


def examples(rows: list[int], *, first: int = 10) -> list[Example]:
    """An example for each of *rows*, of one token more each; a row that occurs twice has two windows."""
    return [
        Example({"texts.0.ids": np.arange(first, first + n + 1, dtype=np.int32)}, {"label": np.asarray(row)}, row)
        for n, row in enumerate(rows)
    ]


def targets(rows: list[int], name: str, offset: float = 0.0) -> list[Example]:
    return [Example({}, {name: np.asarray([row + offset, n], np.float32)}, row) for n, row in enumerate(rows)]


@pytest.fixture
def stores(tmp_path: Path) -> list[ExampleStore]:
    """Rows 0, 1, 1, 3 (2 was bad), then 1 and 1 (0 was bad), then 0."""
    rows = ([0, 1, 1, 3], [1, 1], [0])
    return [store_of(tmp_path / f"{n}.arrow", examples(each, first=10 * n + 10)) for n, each in enumerate(rows)]


def test_targets_lie_beside_the_examples_of_the_same_rows(tmp_path: Path) -> None:
    rows = [0, 1, 1, 3]
    store = store_of(tmp_path / "rows.arrow", examples(rows))
    one = store_of(tmp_path / "one.arrow", targets(rows, "kd/logits"))
    two = store_of(tmp_path / "two.arrow", targets(rows, "pkd/states", 0.5))
    joined = store.beside(one).beside(two)
    for index, row in enumerate(rows):
        example = joined[index]
        assert set(example.targets) == {"label", "kd/logits", "pkd/states"}
        assert example.targets["kd/logits"].tolist() == [row, index]
        assert example.targets["pkd/states"].tolist() == [row + 0.5, index]
        assert example.inputs["texts.0.ids"].tolist() == store[index].inputs["texts.0.ids"].tolist()
        assert example.row == row
    assert set(store[0].targets) == {"label"}
    assert joined.lengths.tolist() == store.lengths.tolist() == [1, 2, 3, 4]
    assert set(store.beside(one, leave_out=("kd/",))[0].targets) == {"label"}


def test_what_is_beside_has_the_same_rows(tmp_path: Path) -> None:
    store = store_of(tmp_path / "rows.arrow", examples([0, 1, 1, 3]))
    for name, rows in (("fewer", [0, 1, 3]), ("others", [0, 1, 2, 3])):
        other = store_of(tmp_path / f"{name}.arrow", targets(rows, "kd/logits"))
        with pytest.raises(DataError, match=r"^4 examples of 3 rows cannot be joined with "):
            store.beside(other)


def test_joined_stores_count_examples_and_rows_on(stores: list[ExampleStore]) -> None:
    joined = JoinedStore(stores)
    assert len(joined) == 7
    assert [joined[index].row for index in range(7)] == [0, 1, 1, 3, 5, 5, 6]
    assert [int(joined[index].inputs["texts.0.ids"][0]) for index in range(7)] == [10, 10, 10, 10, 20, 20, 30]
    assert [int(joined[index].targets["label"]) for index in range(7)] == [0, 1, 1, 3, 1, 1, 0]
    assert joined.lengths.tolist() == [1, 2, 3, 4, 1, 2, 1]
    assert joined.starts.tolist() == [0, 1, 3, 4, 6]
    assert joined.origins.tolist() == [0, 1, 3, 5, 6]
    assert joined.rows_seen == 7
    assert [example.row for example in joined.take([6, 0, 4])] == [6, 0, 5]
    for index in (-1, 7):
        with pytest.raises(IndexError, match=f"no example {index} among 7"):
            joined[index]


def test_rows_of_joined_stores_are_found_with_all_their_examples(stores: list[ExampleStore]) -> None:
    joined = JoinedStore(stores)
    assert joined.examples_of(np.asarray([1, 3])).tolist() == [1, 2, 4, 5]
    assert joined.examples_of(np.arange(5)).tolist() == list(range(7))
    assert joined.used_ids().tolist() == [10, 11, 12, 13, 20, 21, 30]


def test_rows_are_dealt_out_with_those_that_were_made_of_them() -> None:
    origins = np.asarray([0, 1, 2, 3, 4, 5, 7, 1, 1, 7, 3, 0])
    dealt = share_out(origins, {"train": 0.7, "search": 0.3}, seed=1)
    assert sorted(np.concatenate(list(dealt.values()))) == list(range(12))
    kept = [set(origins[rows]) for rows in dealt.values()]
    assert not kept[0] & kept[1]
    assert [len(part) for part in kept] == [5, 2]


def test_joined_stores_may_be_joined_again_and_hold_what_is_beside(tmp_path: Path, stores: list[ExampleStore]) -> None:
    beside = stores[2].beside(store_of(tmp_path / "more.arrow", targets([0], "kd/logits")))
    joined = JoinedStore([JoinedStore(stores[:2]), beside])
    assert [joined[index].row for index in range(7)] == [0, 1, 1, 3, 5, 5, 6]
    assert "kd/logits" in joined[6].targets


def write(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text, "utf-8") and None  # type: ignore[func-returns-value]


def test_a_file_is_made_once_for_what_it_depends_on(own_cache: Path) -> None:
    first = cached_file("kind", ".txt", {"a": 1, "b": 2}, write("one"), is_whole=Path.is_file)
    again = cached_file("kind", ".txt", {"b": 2, "a": 1}, write("two"), is_whole=Path.is_file)
    other = cached_file("kind", ".txt", {"a": 1, "b": 3}, write("three"), is_whole=Path.is_file)
    assert first == again != other
    assert (first.read_text(), other.read_text()) == ("one", "three")
    assert first.parent == own_cache / "kind"
    assert cached_file("kind", ".txt", {"a": 1, "b": 2}, write("new"), is_whole=False).read_text() == "new"
    assert cached_file("kind", ".txt", {"a": 1, "b": 3}, write("4"), is_whole=lambda path: False).read_text() == "4"


def test_a_file_is_whole_or_not_there(own_cache: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("the teacher stumbled")

    with pytest.raises(RuntimeError, match="stumbled"):
        cached_file("kind", ".txt", "key", fail, is_whole=Path.is_file)
    assert list((own_cache / "kind").iterdir()) == []

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"No space left on device. Free some space there, or set ET_CACHE_DIR"):
        cached_file("kind", ".txt", "key", full, is_whole=Path.is_file)
    assert list((own_cache / "kind").iterdir()) == []


def test_what_was_not_used_for_longest_goes_first(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_LIMIT_BYTES", 25)
    paths = [cached_file("kind", ".txt", n, write("x" * 10), is_whole=Path.is_file) for n in range(2)]
    other = cached_file("another", ".txt", 0, write("x" * 100), is_whole=Path.is_file)
    for age, path in zip((100, 200), paths, strict=True):
        os.utime(path, (time.time() - age,) * 2)
    stale = own_cache / "kind" / "left.123.tmp"
    stale.touch()
    os.utime(stale, (time.time() - 2 * 86400,) * 2)
    cached_file("kind", ".txt", 1, write(""), is_whole=Path.is_file)  # used again, so that the first is the oldest
    third = cached_file("kind", ".txt", 2, write("x" * 10), is_whole=Path.is_file)
    cached_file("kind", ".txt", 3, write("x"), is_whole=Path.is_file)
    assert [path.exists() for path in (*paths, third, other)] == [False, True, True, True]
    assert not stale.exists()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [4.0, 3.25, 2.5, 1.75, 1.0]),
        ("cosine", [4.0, 4 - 3 * (1 - math.cos(math.pi / 4)) / 2, 2.5, 4 - 3 * (1 + math.cos(math.pi / 4)) / 2, 1.0]),
        ("exponential", [4.0, 2 * math.sqrt(2), 2.0, math.sqrt(2), 1.0]),
    ],
)
def test_a_ramp_goes_from_its_start_to_its_end(shape: str, expected: list[float]) -> None:
    ramp = check_value(float | Ramp, {"start": 4, "end": 1, "shape": shape}, "weight")
    assert [value_at(ramp, progress / 4) for progress in range(5)] == pytest.approx(expected)
    assert value_at(0.5, 0.7) == 0.5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"start": 1, "end": 0, "shape": "exponential"},
            "weight is {'start': 1, 'end': 0, 'shape': 'exponential'}: an exponential ramp multiplies, so that both of "
            "its ends are above 0.",
        ),
        ({"start": 1}, "weight is {'start': 1}: end is missing. Write keys start and end."),
        (
            {"start": 1, "end": 0, "shap": "cosine"},
            "weight.shap is not an argument of weight. Did you mean 'shape'? Arguments: start, end, shape.",
        ),
        (
            {"start": 1, "end": 0, "shape": "sine"},
            "weight.shape is 'sine': expected 'linear' or 'cosine' or 'exponential'.",
        ),
        ("half", "weight is 'half': expected a number or keys start and end."),
    ],
)
def test_a_ramp_that_is_none_is_refused(value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_value(float | Ramp, value, "weight")
    assert str(caught.value) == message
