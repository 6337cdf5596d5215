"""Rows that cannot be used, in predictions and evaluations: told, counted and listed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from et_core.errors import (
    ConfigError,
    DataError,
)
from et_core.inference import Run
from et_core.runfolder import write_json
from tests.bad_input.tools import HEADER, ROWS, refused, train


def test_bad_row_while_predicting_is_told_or_skipped() -> None:
    run = train()
    Path("new.tsv").write_text("text\tid\ngood film\t1\nshort\nbad film\t3\n", "utf-8")
    with pytest.raises(DataError, match=r"^new\.tsv line 3: 1 field where the header has 2"):
        run.predict_file("new.tsv", "out.jsonl")
    assert not list(Path().glob("out*"))
    written = run.predict_file("new.tsv", "out.jsonl", {"data.on_bad_row": "skip"})
    assert (written.rows, written.skipped, written.skipped_file) == (2, 1, "out.jsonl.skipped.jsonl")
    assert [json.loads(line)["id"] for line in Path("out.jsonl").read_text("utf-8").splitlines()] == ["1", "3"]
    (skipped,) = Path("out.jsonl.skipped.jsonl").read_text("utf-8").splitlines()
    assert json.loads(skipped)["where"] == "new.tsv line 3"
    with pytest.raises(ConfigError, match=r"^--keep: the input has no column 'name'\. Columns: text, id\.$"):
        run.predict_file("new.tsv", "kept.jsonl", {"data.on_bad_row": "skip"}, keep=["name"])
    assert not list(Path().glob("kept*"))


def test_predict_stops_at_a_bad_row_whatever_the_run_was_trained_with() -> None:
    run = train({"data.on_bad_row": "skip"})
    with pytest.raises(DataError) as caught:
        run.predict([{"text": "good"}, {"text": None}, {"text": "bad"}])
    assert str(caught.value) == (
        "in-memory rows[1]: column 'text' is null, but 'text' needs a value.\n"
        "Correct or remove it: predict returns one prediction a row."
    )


def test_every_skipped_row_of_a_prediction_is_listed_and_an_old_list_goes() -> None:
    run = train()
    Path("new.tsv").write_text("text\tid\n" + "short\n" * 1700 + "good film\t1\n", "utf-8")
    assert run.predict_file("new.tsv", "out.jsonl", {"data.on_bad_row": "skip"}).skipped == 1700
    listed = [json.loads(line) for line in Path("out.jsonl.skipped.jsonl").read_text("utf-8").splitlines()]
    assert [row["where"] for row in listed] == [f"new.tsv line {line}" for line in range(2, 1702)]
    Path("new.tsv").write_text("text\tid\ngood film\t1\n", "utf-8")
    assert run.predict_file("new.tsv", "out.jsonl", {"data.on_bad_row": "skip"}).skipped_file is None
    assert not Path("out.jsonl.skipped.jsonl").exists()


def test_skipped_rows_of_a_prediction_to_standard_output_are_told() -> None:
    train()
    Path("new.tsv").write_text("text\tid\nshort\ngood film\t1\n", "utf-8")
    command = [sys.executable, "-m", "et_core", "predict", "run", "--input", "new.tsv", "--output", "-"]
    done = subprocess.run([*command, "data.on_bad_row=skip"], capture_output=True, text=True, check=True)
    assert "rows left out: 1, the first: new.tsv line 2: 1 field where the header has 2;" in done.stderr
    assert not list(Path().glob("*skipped*"))


def test_skipped_rows_of_an_evaluation_are_counted_and_listed(caplog: pytest.LogCaptureFixture) -> None:
    run = train()
    Path("test.tsv").write_text(HEADER + ROWS + "short\nodd\tneutral\n", "utf-8")
    run.evaluate("test.tsv", {"data.on_bad_row": "skip"})
    assert caplog.messages[-1] == "rows left out: 2, listed in run/evaluate.skipped.jsonl"
    listed = [json.loads(line) for line in Path("run/evaluate.skipped.jsonl").read_text("utf-8").splitlines()]
    assert {row["where"] for row in listed} == {"test.tsv line 14", "test.tsv line 15"}
    run.evaluate("test.tsv", {"data.on_bad_row": "skip"}, skipped_file="elsewhere.jsonl")
    assert len(Path("elsewhere.jsonl").read_text("utf-8").splitlines()) == 2
    run.evaluate("train.tsv", {"data.on_bad_row": "skip"})
    assert not Path("run/evaluate.skipped.jsonl").exists()


def test_a_bad_line_of_a_file_that_train_and_dev_share_is_counted_once() -> None:
    Path("train.tsv").write_text(HEADER + "first\n" + ROWS + "short\nshort\n", "utf-8")
    run = train({"data.on_bad_row": "skip", "data.dev": 0.25})
    assert run.results["skipped_rows"] == 3
    listed = [json.loads(line)["where"] for line in Path("run/skipped.jsonl").read_text("utf-8").splitlines()]
    assert sorted(listed) == ["train.tsv line 15", "train.tsv line 16", "train.tsv line 2"]


def test_wrong_precision_is_refused_when_a_run_is_loaded() -> None:
    train()
    with pytest.raises(ConfigError, match=r"^precision is 'fp16': expected 'auto', 'fp32' or 'bf16'\.$"):
        Run.load("run", precision="fp16")


def test_surplus_items_of_a_tuple_are_refused() -> None:
    run = train()
    with pytest.raises(DataError, match=r"^in-memory rows\[1\] has 3 items; the app reads text, text_pair\.$"):
        run.predict([("good",), ("good", "bad", "worse")])


def test_figures_that_are_not_finite_are_null_in_json() -> None:
    run = train()
    write_json(run.folder.results_file, {"metrics": {"dev": {"loss": float("nan"), "f1": [float("inf")]}}})
    assert json.loads(run.folder.results_file.read_text("utf-8")) == {"metrics": {"dev": {"loss": None, "f1": [None]}}}
    run.folder.append_metrics({"step": 10, "loss": float("-inf")})
    assert run.folder.read_metrics()[-1] == {"step": 10, "loss": None}
    write_json(run.folder.results_file, {"metrics": {"dev": {"loss": float("nan")}}})
    assert math.isnan(run.metrics["loss"])


def test_rows_left_out_are_told_when_the_rest_cannot_be_learned_from() -> None:
    Path("train.tsv").write_text(HEADER + "good film\tpositive\n" * 3 + "bad film\t\n" * 3, "utf-8")
    assert refused(ConfigError, {"data.on_bad_row": "skip"}).endswith(
        "took the rows with others.\nRows left out as bad: 3, the first: train.tsv line 5: "
        "column 'label' is empty.\nWrite a label, or leave bad rows out with data.on_bad_row=skip."
    )


def test_a_metric_that_does_not_fit_is_refused_without_a_dev_set_too() -> None:
    assert refused(ConfigError, {"metrics": ["pearson"]}).startswith(
        "metrics: pearson is not defined for app.mode=single-label; "
    )


def test_a_run_without_a_dev_set_says_that_nothing_was_measured() -> None:
    assert train().results["notes"] == [
        "there is no dev set, so nothing was measured: data.dev=0.1 would hold out a tenth"
    ]
