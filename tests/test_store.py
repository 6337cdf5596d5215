from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from et_core.data import ExampleStore, cached_store, collate, write_store
from et_core.data import cache as cache_module
from et_core.interfaces import Example

RNG = np.random.default_rng(2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "encoded"


def example(row: int) -> Example:
    length = int(RNG.integers(0, 9))
    return Example(
        {
            "texts.0.ids": RNG.integers(0, 30_000, length).astype(np.int32),
            "texts.0.segments": RNG.integers(0, 2, length).astype(np.int8),
            "texts.1.ids": RNG.integers(0, 30_000, 3).astype(np.int32),
            "image": RNG.normal(size=(3, 4, 5)).astype(np.float32),
        },
        {
            "label": np.asarray(row % 3, np.int64),
            "value": np.asarray(row / 7, np.float32),
            "several": RNG.integers(0, 2, 4).astype(np.float32),
            "tags": RNG.integers(-100, 5, length).astype(np.int64),
        },
        row * 2,
        {
            "offsets": RNG.integers(0, 50, (length, 2)).astype(np.int32),
            "inside": RNG.random(length) < 0.5,
            "kept": np.asarray(row % 2 == 0),
        },
    )


def chunks(*sizes: int) -> Iterator[list[Example]]:
    row = 0
    for size in sizes:
        yield [example(row + index) for index in range(size)]
        row += size


def assert_equal(found: Example, expected: Example) -> None:
    assert found.row == expected.row
    for group in ("inputs", "targets", "extra"):
        one, other = getattr(found, group), getattr(expected, group)
        assert list(one) == list(other)
        for name, array in other.items():
            np.testing.assert_array_equal(one[name], array, strict=False)
            assert np.shape(one[name]) == array.shape
            assert one[name].dtype == array.dtype


def test_examples_of_all_shapes_come_back_as_they_were(tmp_path: Path) -> None:
    written = list(chunks(5, 1, 0, 7))
    write_store(tmp_path / "a.arrow", iter(written))
    store = ExampleStore(tmp_path / "a.arrow")
    expected = [item for chunk in written for item in chunk]
    assert len(store) == len(expected) == 13
    for index, item in enumerate(expected):
        assert_equal(store[index], item)
    for found, index in zip(store.take([12, 0, 5, 5]), [12, 0, 5, 5], strict=True):
        assert_equal(found, expected[index])
    assert store.lengths.tolist() == [item.length for item in expected]
    assert collate(store.take(range(13)), pad_id=0).inputs.image is not None


@pytest.mark.parametrize("sizes", [(), (0, 0)])
def test_a_store_of_nothing_is_empty(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    write_store(tmp_path / "a.arrow", chunks(*sizes))
    store = ExampleStore(tmp_path / "a.arrow")
    assert (len(store), store.lengths.tolist(), store.take([])) == (0, [], [])


def test_rows_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    write_store(tmp_path / "a.arrow", chunks(3))
    store = ExampleStore(tmp_path / "a.arrow")
    for index in (3, -1):
        with pytest.raises(IndexError):
            store[index]


def test_a_store_is_mapped_and_not_read(tmp_path: Path) -> None:
    import pyarrow as pa

    ids = np.zeros(200_000, np.int32)
    write_store(tmp_path / "a.arrow", ([Example({"texts.0.ids": ids}, {}, row)] for row in range(40)))
    size = (tmp_path / "a.arrow").stat().st_size
    before = pa.total_allocated_bytes()
    store = ExampleStore(tmp_path / "a.arrow")
    assert store[39].length == 200_000
    assert size > 30_000_000
    assert pa.total_allocated_bytes() - before < 100_000
    assert not store[0].inputs["texts.0.ids"].flags.writeable


def test_equal_keys_build_once_and_other_keys_anew(cache: Path) -> None:
    built: list[str] = []

    def build(name: str) -> Iterator[list[Example]]:
        built.append(name)
        yield from chunks(4)

    def get(key: dict[str, Any], name: str, **options: Any) -> ExampleStore:
        return cached_store(key, lambda: build(name), **options)

    first = get({"rows": "abc", "length": 8}, "a")
    again = get({"length": 8, "rows": "abc"}, "b")
    for index in range(4):
        assert_equal(again[index], first[index])
    get({"rows": "abc", "length": 9}, "c")
    get({"rows": "abd", "length": 8}, "d")
    assert built == ["a", "c", "d"]
    get({"rows": "abc", "length": 8}, "e", reuse=False)
    assert built == ["a", "c", "d", "e"]
    assert len(list(cache.iterdir())) == 3


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    def build() -> Iterator[list[Example]]:
        yield from chunks(3)
        raise RuntimeError("row 4 is bad")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="row 4 is bad"):
            cached_store({"k": 1}, build)
        assert list(cache.iterdir()) == []
    assert len(cached_store({"k": 1}, lambda: chunks(3))) == 3


def test_a_build_that_is_killed_leaves_no_store(cache: Path) -> None:
    code = (
        "import os, signal, numpy as np\n"
        "from et_core.data.store import cached_store\n"
        "from et_core.interfaces.example import Example\n"
        "def build():\n"
        "    yield [Example({'texts.0.ids': np.zeros(9, np.int32)})]\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "cached_store({'k': 1}, build)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert done.returncode == -9
    (leftover,) = cache.iterdir()
    assert leftover.suffix == ".tmp"
    assert len(cached_store({"k": 1}, lambda: chunks(3))) == 3
    assert leftover.exists()  # another process may be writing it
    day_ago = time.time() - 90_000
    os.utime(leftover, (day_ago, day_ago))
    cached_store({"k": 2}, lambda: chunks(1))
    assert not leftover.exists()


def test_the_least_recently_used_stores_go_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for key in range(4):
        before = set(cache.glob("*")) if cache.exists() else set()
        cached_store({"k": key}, lambda: chunks(20))
        (path,) = set(cache.glob("*")) - before
        os.utime(path, (1000 + key, 1000 + key))
        paths.append(path)
    cached_store({"k": 0}, lambda: chunks(20))  # now the most recently used
    monkeypatch.setattr(cache_module, "_LIMIT_BYTES", int(2.5 * paths[0].stat().st_size))
    cached_store({"k": 9}, lambda: chunks(20))
    assert [path.exists() for path in paths] == [True, False, False, True]


def test_a_store_that_cannot_be_read_is_built_anew(cache: Path) -> None:
    key = {"rows": "a"}
    examples = [Example({"texts.0.ids": np.arange(3)}, {}, 0)]
    cached_store(key, lambda: iter([examples]))
    (path,) = cache.rglob("*.arrow")
    path.write_bytes(path.read_bytes()[:-40])
    assert len(cached_store(key, lambda: iter([examples]))) == 1
    assert len(cached_store(key, lambda: iter([[]]))) == 1
