"""Vectors of texts: in memory and in files, the same that a pair's cosine comes from."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import et_core as et
from et_core.errors import ConfigError, DataError
from et_core.inference.vectors import open_vectors
from et_core.interfaces import Embeds
from et_core.runfolder import ModelBundle

PAIRS = [
    ("a plane takes off", "an aircraft leaves"),
    ("a man plays", "music is heard"),
    ("cooking", "a cat sleeps now"),
]
TEXTS = [text for pair in PAIRS for text in pair] + [" ".join(["word"] * count) for count in range(1, 30)]


def train(output: Path, **app: Any) -> et.Run:
    rows = [{"one": a, "other": b, "label": n % 2} for n, (a, b) in enumerate(PAIRS)]
    config = {
        "app": app,
        "model": "bert-tiny-random",
        "data": {
            "train": rows,
            "columns": {"text": "one", "text_pair": "other"} if "towers" in app else {"text": "one"},
        },
        "train": {"max_steps": 1, "precision": "fp32"},
        "output": str(output),
    }
    return et.train(config, progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> et.Run:
    return train(tmp_path_factory.mktemp("runs") / "towers", name="matching", towers=2, projection_dim=6)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": n, "body": text}) + "\n" for n, text in enumerate(TEXTS)), "utf-8")
    return path


def test_vectors_give_the_cosine_that_a_pair_is_predicted_with(run: et.Run) -> None:
    vectors = run.embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), 6), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cosines = (vectors[0:6:2] * vectors[1:6:2]).sum(1)
    assert [row.score for row in run.predict(PAIRS)] == pytest.approx(cosines.tolist(), abs=1e-5)
    assert len(np.unique(vectors.round(5), axis=0)) == len(TEXTS)


def test_a_text_has_the_same_vector_whatever_it_is_embedded_with(run: et.Run) -> None:
    alone = np.concatenate([run.embed([text]) for text in TEXTS[:8]])
    np.testing.assert_allclose(run.embed(TEXTS)[:8], alone, atol=1e-6)
    assert run.embed([]).shape == (0, 0)


def test_files_hold_the_vectors_in_the_order_of_their_rows(run: et.Run, texts: Path, tmp_path: Path) -> None:
    expected = run.embed(TEXTS)
    column = {"data.columns.text": "body"}
    written = run.embed_file(texts, tmp_path / "v.npy", column)
    assert (written.rows, written.precision) == (len(TEXTS), "fp32")
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy", mmap_mode="r"), expected)
    run.embed_file(texts, tmp_path / "v.jsonl", column)
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text("utf-8").splitlines()]
    assert [(line["id"], line["body"]) for line in lines] == list(enumerate(TEXTS))
    np.testing.assert_allclose([line["vector"] for line in lines], expected, atol=1e-8)
    run.embed_file(texts, tmp_path / "v.parquet", column, keep=["id"])
    table = pq.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["id", "vector"]
    assert str(table.schema.field("vector").type) == "list<element: float>"
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), expected)


def test_a_row_without_text_is_named_or_left_out(run: et.Run, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"one": "a"}\n{"two": "b"}\n{"one": "c"}\n', "utf-8")
    with pytest.raises(DataError, match=r"^.*texts.jsonl line 2: column 'one' is missing, but 'text' needs a value"):
        run.embed_file(path, tmp_path / "v.npy")
    assert not list(tmp_path.glob("v.npy*"))
    written = run.embed_file(path, tmp_path / "v.npy", {"data.on_bad_row": "skip"})
    assert (written.rows, written.skipped) == (2, 1)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), run.embed(["a", "c"]))
    assert "line 2" in Path(str(written.skipped_file)).read_text("utf-8")


def test_only_formats_that_hold_vectors_are_written(run: et.Run, texts: Path, tmp_path: Path) -> None:
    for name in ("v.tsv", "v.csv.gz", "v"):
        with pytest.raises(DataError) as error:
            run.embed_file(texts, tmp_path / name)
        assert str(error.value) == (f"{tmp_path / name}: vectors are written as .npy, .jsonl, .jsonl.gz or .parquet.")
    with pytest.raises(DataError, match=r"a .npy file is completed at its beginning, which a stream or a .gz file"):
        run.embed_file(texts, tmp_path / "v.npy.gz")
    with pytest.raises(ConfigError, match=r"^--keep: a .npy file holds vectors alone."):
        run.embed_file(texts, tmp_path / "v.npy", keep=["id"])
    with pytest.raises(DataError, match=r"^embed takes a list of texts: write \[text\] for one.$"):
        run.embed("a text")


def test_a_column_of_the_name_is_in_the_way_only_where_it_is_kept(run: et.Run, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"one": "a", "vector": 1}\n', "utf-8")
    assert run.embed_file(path, tmp_path / "v.npy").rows == 1
    with pytest.raises(ConfigError, match=r"^the input has a column 'vector' of its own"):
        run.embed_file(path, tmp_path / "v.jsonl")


def test_a_run_without_vectors_says_so_before_anything_is_read(tmp_path: Path) -> None:
    run = train(tmp_path / "classes", name="classification")
    assert not isinstance(run.bundle.apps["main"], Embeds)
    with pytest.raises(ConfigError) as error:
        run.embed_file(tmp_path / "none.tsv", tmp_path / "v.npy")
    assert str(error.value) == (
        "app=classification gives no vectors of texts. Train an app that does, such as one with two towers; "
        "et list apps shows all."
    )
    joined = train(tmp_path / "joined", name="matching", towers=1)
    with pytest.raises(ConfigError, match=r"Train with app.towers=2 for vectors.$"):
        joined.embed(["a text"])


def test_the_command_writes_what_python_gives(run: et.Run, texts: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "et_core", "embed", str(run.path), "--input", str(texts), "--column", "body"]
    found = subprocess.run([*command, "--output", str(tmp_path / "v.npy")], capture_output=True, text=True, check=True)
    assert f"{len(TEXTS)} vectors in {tmp_path / 'v.npy'} (" in found.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), run.embed(TEXTS))
    found = subprocess.run([*command, "--output", "-", "--keep", "id"], capture_output=True, text=True, check=True)
    assert [json.loads(line)["id"] for line in found.stdout.splitlines()] == list(range(len(TEXTS)))
    wrong = subprocess.run([*command[:7], "--output", str(tmp_path / "w.npy")], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "has no column 'one' (data.columns.text). Say which column plays that role" in wrong.stderr


def windows(count: int) -> Iterator[list[dict[str, Any]]]:
    for _ in range(count):
        yield [{"vector": np.ones(256, np.float32)} for _ in range(1000)]


def test_a_file_of_vectors_takes_no_memory_for_its_rows(tmp_path: Path) -> None:
    peaks = []
    for count in (2, 20):
        tracemalloc.start()
        with open_vectors(tmp_path / f"{count}.npy", "npy") as writer:
            for rows in windows(count):
                writer.write(rows)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert np.load(tmp_path / "20.npy", mmap_mode="r").shape == (20_000, 256)
    assert peaks[1] < 1.5 * peaks[0]


def test_a_saved_projection_is_part_of_the_model(run: et.Run) -> None:
    again = et.load(run.path)
    np.testing.assert_array_equal(again.embed(TEXTS), run.embed(TEXTS))
    bundle = ModelBundle.load(run.path / "model")
    assert bundle.model.heads["main"].projection.out_features == 6
