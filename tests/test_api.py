"""The Python API: data in memory and in files, predictions in every form, and figures that agree."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import et_core as et
from et_core.errors import CheckpointError, ConfigError, DataError, EtError, RunFolderError
from et_core.inference.precision import same_precision

ROWS = [
    {"sentence": f"{word} film {i}", "y": label}
    for i in range(12)
    for word, label in (("good", "positive"), ("bad", "negative"))
]
SETTINGS: dict[str, Any] = {
    "app": "classification",
    "model": "bert-tiny-random",
    "data": {"columns": {"text": "sentence", "label": "y"}},
    "train": {"epochs": 2, "batch_size": 8, "precision": "fp32", "lr": 1e-3},
}


@pytest.fixture(scope="module")
def tsv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.tsv"
    lines = [f"{i}\t{row['sentence']}\t{row['y']}\n" for i, row in enumerate(ROWS)]
    path.write_text("id\tsentence\ty\n" + "".join(lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def run(tsv: Path, tmp_path_factory: pytest.TempPathFactory) -> et.Run:
    output = tmp_path_factory.mktemp("runs") / "first"
    return et.train(SETTINGS, {"data.train": tsv, "data.dev": tsv, "output": output}, progress=False)


def test_five_lines_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"text": row["sentence"], "label": row["y"]} for row in ROWS]
    run = et.train({"app": "classification", "model": "bert-tiny-random"}, {"data.train": rows, "data.dev": 0.25})
    assert run.path == Path("runs/classification")
    assert 0 <= run.metrics["accuracy"] <= 1
    (prediction,) = run.predict(["a good film"])
    assert prediction.prediction in ("negative", "positive")
    assert math.isclose(sum(prediction.probabilities.values()), 1, abs_tol=1e-5)


def test_labels_that_look_like_numbers_stay_text_in_the_run_folder(tmp_path: Path) -> None:
    labels = ["1e5", "0.50"]
    rows = [{"text": row["sentence"], "label": labels[number % 2]} for number, row in enumerate(ROWS)]
    config = {"app": {"name": "classification", "labels": labels}, "model": "bert-tiny-random"}
    run = et.train(config, {"data.train": rows, "output": tmp_path / "run"}, progress=False)
    assert run.config.app.options["labels"] == labels
    assert run.predict(["good"])[0].prediction in labels


@pytest.mark.filterwarnings("ignore::DeprecationWarning:datasets.*")
def test_rows_in_memory_of_any_kind_train_the_same_model(tsv: Path, tmp_path: Path) -> None:
    import datasets
    import pandas as pd

    found = {}
    sources = {
        "file": tsv,
        "dicts": ROWS,
        "frame": pd.DataFrame(ROWS),
        "dataset": datasets.Dataset.from_list(ROWS),
    }
    for name, source in sources.items():
        run = et.train(SETTINGS, {"data.train": source, "data.dev": source, "output": tmp_path / name}, progress=False)
        found[name] = run.metrics
        assert et.load(run.path).metrics == run.metrics
    assert found["dicts"] == found["frame"] == found["dataset"] == found["file"]


def test_rows_that_can_be_read_only_once_are_refused(tmp_path: Path) -> None:
    for source, what in ((iter(ROWS), "a list_iterator"), ("-", "standard input")):
        message = f"^data.train is {what}, which can be read only once, .* Pass a file, or a list of the rows.$"
        with pytest.raises(DataError, match=message):
            et.train(SETTINGS, {"data.train": source, "data.dev": 0.5, "output": tmp_path / "run"}, progress=False)
    with pytest.raises(EtError, match=r"^the data in memory has no rows\.$"):
        et.train(SETTINGS, {"data.train": [], "output": tmp_path / "run"}, progress=False)
    assert not (tmp_path / "run").exists()


def test_predict_takes_texts_and_rows_by_role_or_column_and_needs_no_labels(run: et.Run) -> None:
    import numpy as np
    import pandas as pd

    texts = [row["sentence"] for row in ROWS]
    by_text = run.predict(texts)
    assert len(by_text) == len(ROWS)
    assert run.predict([{"sentence": text} for text in texts]) == by_text
    assert run.predict([{"text": text} for text in texts]) == by_text
    assert run.predict([{"text": text, "label": "unheard of"} for text in texts]) == by_text
    assert run.predict([(text,) for text in texts]) == by_text
    assert run.predict(texts[::-1]) == by_text[::-1]
    assert run.predict(text for text in texts) == by_text
    assert run.predict(pd.Series(texts)) == run.predict(np.array(texts)) == by_text
    assert run.predict([]) == []


def test_predict_takes_pairs(tmp_path: Path) -> None:
    rows = [{"a": f"film {i}", "b": f"{w} film", "y": y} for i in range(6) for w, y in (("good", "yes"), ("bad", "no"))]
    columns = {"text": "a", "text_pair": "b", "label": "y"}
    settings = {**SETTINGS, "data": {"columns": columns, "train": rows}, "output": tmp_path / "pairs"}
    run = et.train(settings, progress=False)
    pairs = [(row["a"], row["b"]) for row in rows]
    by_tuple = run.predict(pairs)
    assert run.predict(rows) == by_tuple
    assert run.predict([{"text": a, "text_pair": b} for a, b in pairs]) == by_tuple
    assert [p.probabilities for p in run.predict([(a, "") for a, _ in pairs])] != [p.probabilities for p in by_tuple]
    with pytest.raises(DataError, match="is missing: this model was trained on pairs of texts"):
        run.predict(["alone"])


def test_one_bare_text_is_refused(run: et.Run) -> None:
    with pytest.raises(DataError, match=r"^predict takes a list of texts: write \[text\] for one\.$"):
        run.predict("a good film")
    with pytest.raises(DataError, match=r"^predict takes a list: write \[text, text\] for two texts"):
        run.predict(("a good film", "a bad film"))


def test_loaded_run_predicts_and_measures_as_the_run_that_trained(run: et.Run, tsv: Path) -> None:
    loaded = et.load(run.path, precision="fp32")
    assert loaded.metrics == run.metrics
    measured = loaded.evaluate(tsv)
    assert measured.keys() == run.metrics.keys()
    assert all(math.isclose(measured[name], run.metrics[name], abs_tol=1e-6) for name in measured)


def read(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8")
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(text.splitlines(), delimiter="," if name.endswith(".csv") else "\t"))


@pytest.mark.parametrize("extension", ["tsv", "csv", "jsonl", "parquet", "jsonl.gz"])
def test_files_of_predictions_hold_what_predict_says(extension: str, run: et.Run, tsv: Path, tmp_path: Path) -> None:
    expected = run.predict([row["sentence"] for row in ROWS])
    written = run.predict_file(tsv, tmp_path / f"out.{extension}", keep=["id"])
    assert (written.rows, written.skipped, written.skipped_file) == (len(ROWS), 0, None)
    rows = read(tmp_path / f"out.{extension}")
    assert [str(row["id"]) for row in rows] == [str(i) for i in range(len(ROWS))]
    assert [row["prediction"] for row in rows] == [p.prediction for p in expected]
    assert "sentence" not in rows[0]
    if extension in ("jsonl", "parquet"):
        assert [row["probabilities"] for row in rows] == [p.probabilities for p in expected]


def test_all_input_columns_are_kept_unless_some_are_chosen(run: et.Run, tsv: Path, tmp_path: Path) -> None:
    run.predict_file(tsv, tmp_path / "all.jsonl")
    assert list(read(tmp_path / "all.jsonl")[0]) == ["id", "sentence", "y", "prediction", "probabilities"]
    run.predict_file(tsv, tmp_path / "none.jsonl", keep=[])
    assert list(read(tmp_path / "none.jsonl")[0]) == ["prediction", "probabilities"]
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_text(json.dumps({"body": ROWS[0]["sentence"]}) + "\n", "utf-8")
    run.predict_file(renamed, tmp_path / "renamed.out.jsonl", {"data.columns.text": "body"})
    assert read(tmp_path / "renamed.out.jsonl")[0]["prediction"] == read(tmp_path / "all.jsonl")[0]["prediction"]


def test_a_finished_run_is_loaded_again_unless_the_settings_differ(
    run: et.Run, tsv: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "et")
    same = {"data.train": tsv, "data.dev": tsv, "output": run.path}
    again = et.train(SETTINGS, same, resume=True, progress=False)
    assert again.metrics == run.metrics
    assert caplog.messages[-1] == f"{run.path} is finished already: there is nothing left to train"
    assert et.train(None, {"output": run.path}, resume=True).metrics == run.metrics
    with pytest.raises(CheckpointError, match=r"other settings:\n  train\.lr: 0\.001 then, 1\.0 now"):
        et.train(SETTINGS, {**same, "train.lr": 1.0}, resume=True, progress=False)


def test_files_may_be_read_otherwise_than_in_training(run: et.Run, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text(f"body;y\n{ROWS[0]['sentence']};{ROWS[0]['y']}\n", "utf-8")
    reading = ["data.columns.text=body", "data.separator=;"]
    assert run.predict_file(file, tmp_path / "out.jsonl", reading).rows == 1
    assert run.evaluate(file, reading).keys() == run.metrics.keys()
    with pytest.raises(
        ConfigError, match=r"^train\.lr has no effect on a finished run\. What can be set here: data\.col"
    ):
        run.evaluate(file, {"train.lr": 1})
    with pytest.raises(ConfigError, match=r"^data\.seperator is not a setting\. Did you mean data\.separator\?"):
        run.predict_file(file, tmp_path / "out.jsonl", ["data.seperator=;"])


def test_predictions_do_not_replace_their_own_input(run: et.Run, tsv: Path, tmp_path: Path) -> None:
    (tmp_path / "link.tsv").symlink_to(tsv)
    before = tsv.read_bytes()
    with pytest.raises(RunFolderError, match=r"link\.tsv is the input itself, which would be lost"):
        run.predict_file(tsv, tmp_path / "link.tsv")
    assert tsv.read_bytes() == before


def test_a_run_predicts_in_the_precision_it_was_trained_in(run: et.Run, tsv: Path, tmp_path: Path) -> None:
    assert run.config.train.precision == "fp32"
    assert et.load(run.path).predict_file(tsv, tmp_path / "out.jsonl").precision == "fp32"
    assert et.load(run.path, precision="bf16").predict_file(tsv, tmp_path / "out.jsonl").precision == "bf16"
    bf16 = {"train.precision": "bf16", "train.max_steps": 1, "data.train": tsv, "output": tmp_path / "bf16"}
    half = et.train(SETTINGS, bf16)
    device = torch.device("cpu")
    assert half.predict_file(tsv, tmp_path / "out.jsonl").precision == same_precision("bf16", device)


def test_results_that_were_cut_off_are_told(run: et.Run, tmp_path: Path) -> None:
    other = et.load(shutil.copytree(run.path, tmp_path / "cut"))
    other.folder.results_file.write_text(other.folder.results_file.read_text("utf-8")[:-20], "utf-8")
    with pytest.raises(RunFolderError, match=r"results\.json was cut off or altered: "):
        _ = other.metrics


def test_predictions_pass_through_standard_input_and_output(run: et.Run) -> None:
    lines = "".join(json.dumps({"sentence": row["sentence"], "id": i}) + "\n" for i, row in enumerate(ROWS))
    command = [sys.executable, "-m", "et_core", "predict", str(run.path), "--input", "-", "--output", "-"]
    done = subprocess.run(
        [*command, "--keep", "id", "--precision", "fp32"],
        input=lines,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["id"] for row in rows] == list(range(len(ROWS)))
    assert [row["prediction"] for row in rows] == [p.prediction for p in run.predict([r["sentence"] for r in ROWS])]
    assert "24 predictions (" in done.stderr


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(run: et.Run, tmp_path: Path) -> None:
    for count in (5_000, 30_000):
        rows = (f"word {i} of a film\t{'x' * 4000}\n" for i in range(count))
        (tmp_path / f"{count}.tsv").write_text("sentence\tnote\n" + "".join(rows), "utf-8")
    code = """
import resource, sys
import et_core as et
run = et.load(sys.argv[1], precision="fp32")
for count in (5_000, 30_000):
    assert run.predict_file(f"{sys.argv[2]}/{count}.tsv", f"{sys.argv[2]}/{count}.jsonl").rows == count
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.path), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    small, large = (int(line) / 1024 for line in done.stdout.split())
    # The 25,000 more rows are 100 MiB; how much the allocator keeps varies by some 25.
    assert large - small < 50
