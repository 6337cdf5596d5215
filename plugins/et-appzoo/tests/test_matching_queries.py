"""Queries in held-out rows and in other files than those of training, and pairs of one label alone."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import et_core.api as et
from et_appzoo.matching.scoring import Scoring
from et_core.errors import ConfigError, DataError

TINY = {"ref": "bert-tiny-random@zoo", "dropout": 0.0, "attention_dropout": 0.0}
RANKING = ["map", "mrr", "recall-at-1", "recall-at-5", "recall-at-10", "ndcg-at-10"]


def write(path: Path, header: str, lines: Sequence[str]) -> str:
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return str(path)


def candidates(path: Path, queries: int = 6, of_each: int = 4) -> str:
    lines = [
        f"question {query}\tanswer {query} {number}\t{'yes' if number == query % of_each else 'no'}\tq{query}"
        for number in range(of_each)
        for query in range(queries)
    ]
    return write(path, "text\ttext_pair\tlabel\tqid", lines)


def pairs(path: Path, labels: Sequence[str] = ("yes", "no") * 8) -> str:
    lines = [f"text {number}\tother {number}\t{label}" for number, label in enumerate(labels)]
    return write(path, "text\ttext_pair\tlabel", lines)


def train(tmp_path: Path, source: str, *, query: bool = False, **settings: Any) -> Any:
    data = {"train": source, "columns": {"query": "qid"} if query else {}, **settings.pop("data", {})}
    config = {
        "app": "matching",
        "model": TINY,
        "data": data,
        "train": {"max_steps": 1, "precision": "fp32", **settings.pop("train", {})},
        "output": str(tmp_path / "run"),
        **settings,
    }
    return et.train(config, progress=False)


def test_a_held_out_share_keeps_the_candidates_of_a_query_together(tmp_path: Path) -> None:
    run = train(tmp_path, candidates(tmp_path / "train.tsv"), query=True, data={"dev": 0.2})
    # A fifth of 24 rows is five, and the nearest number of whole queries is one.
    assert (run.results["train_rows"], run.results["dev_rows"]) == (20, 4)
    assert not [note for note in run.results["notes"] if "no relevant candidate" in note]


def test_one_query_alone_cannot_be_held_out(tmp_path: Path) -> None:
    source = candidates(tmp_path / "train.tsv", queries=1)
    with pytest.raises(ConfigError) as error:
        train(tmp_path, source, query=True, data={"dev": 0.25})
    assert str(error.value) == (
        "data.dev is 0.25: of 4 rows with 1 different values of 'query' that leaves nothing for one of train and dev."
    )


def test_of_bad_rows_alone_nothing_can_be_held_out(tmp_path: Path) -> None:
    source = tmp_path / "train.jsonl"
    source.write_text('{"text": "a", "text_pair": "b", "label": null}\n' * 3, "utf-8")
    with pytest.raises(ConfigError, match=r"^data\.dev is 0\.25: of 0 rows that leaves nothing"):
        train(tmp_path, str(source), data={"dev": 0.25, "on_bad_row": "skip"})


def test_a_run_trained_on_candidates_is_measured_on_pairs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = train(tmp_path, candidates(tmp_path / "train.tsv"), query=True, data={"dev": 0.2})
    caplog.clear()
    source = pairs(tmp_path / "pairs.tsv")
    assert list(run.evaluate(source)) == ["accuracy", "f1", "mcc", "auc", *RANKING, "loss"]
    assert f"{source} has no column 'qid' (data.columns.query)" in caplog.messages


def test_whatever_metrics_a_run_on_pairs_names_candidates_are_ranked_besides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = train(tmp_path, pairs(tmp_path / "pairs.tsv"), metrics=["auc"])
    source = candidates(tmp_path / "lists.tsv")
    lines = [*Path(source).read_text("utf-8").splitlines()[1:], "lost\tanswer\tno\tlonely"]
    with caplog.at_level(logging.INFO, "et"):
        found = run.evaluate(
            write(tmp_path / "more.tsv", "text\ttext_pair\tlabel\tqid", lines), {"data.columns.query": "qid"}
        )
    assert list(found) == ["auc", *RANKING, "loss"]
    note = "1 of 7 queries have no relevant candidate: ranking figures leave them out"
    assert note in caplog.messages
    command = ("evaluate", str(run.path), "--data", str(tmp_path / "more.tsv"), "--json", "data.columns.query=qid")
    done = subprocess.run(
        [sys.executable, "-m", "et_core", *command], capture_output=True, text=True, timeout=120, check=True
    )
    assert note in done.stderr
    assert json.loads(done.stdout) == pytest.approx(found)


def test_candidates_with_three_labels_need_to_know_which_is_relevant(tmp_path: Path) -> None:
    source = pairs(tmp_path / "train.tsv", ["x", "y", "z"] * 4)
    text = Path(source).read_text("utf-8").splitlines()
    lines = [f"{line}\tq{number % 2}" for number, line in enumerate(text[1:])]
    source = write(tmp_path / "train.tsv", "text\ttext_pair\tlabel\tquery", lines)
    run = train(tmp_path, source, data={"dev": source})
    assert (
        "rows name their query, but are not ranked: say which label is relevant with app.positive_label"
        in (run.results["notes"])
    )


def test_pairs_of_one_label_tune_no_threshold_and_end_no_run_early(tmp_path: Path) -> None:
    source = pairs(tmp_path / "train.tsv", ["1"] * 16)
    run = train(
        tmp_path,
        source,
        app={"name": "matching", "towers": 2, "labels": ["0", "1"]},
        objective="in-batch-negatives",
        data={"dev": 0.25},
        train={"max_steps": None, "epochs": 3, "patience": 1},
    )
    assert run.results["epochs"] == 3
    assert run.bundle.apps["main"].state()["threshold"] is None
    assert run.results["notes"] == [
        "all pairs have one label: the threshold, a cosine of 0.7, was not tuned",
        "auc has no value on dev: it can neither pick the best weights nor end the run early",
    ]


def test_a_batch_whose_texts_are_compared_in_parts_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"app": {"name": "matching", "towers": 2}, "objective": "in-batch-negatives"}
    source = pairs(tmp_path / "train.tsv")
    train(tmp_path, source, train={"max_steps": 2, "token_budget": 64}, **settings)
    told = [message for message in caplog.messages if message.startswith("a batch is computed in")]
    assert len(told) == 1
    assert "raise train.token_budget (64)" in told[0]
    caplog.clear()
    (tmp_path / "whole").mkdir()
    train(tmp_path / "whole", source, train={"max_steps": 2}, **settings)
    assert not [message for message in caplog.messages if message.startswith("a batch is computed in")]


def test_domains_without_metrics_have_no_figure_of_their_own(tmp_path: Path) -> None:
    lines = [f"text {number}\tother\t{number % 2}\t{'ab'[number // 2 % 2]}" for number in range(16)]
    source = write(tmp_path / "train.tsv", "text\ttext_pair\tlabel\tdomain", lines)
    run = train(tmp_path, source, app={"name": "matching", "domains": ["a", "b"]}, metrics=[], data={"dev": source})
    assert "by domain" not in run.report.read_text("utf-8")


@pytest.mark.parametrize("limit", [0.7, 0.9, 2.8, 3.6])
def test_a_number_that_reaches_the_limit_is_relevant(limit: float) -> None:
    read = np.asarray([limit], np.float32)
    assert Scoring(mode="regression", span=(0, 5), relevant_from=limit).relevance(read)[0] > 0
    assert Scoring(mode="regression", span=(limit - 0.5, limit + 0.5)).relevance(read)[0] > 0


def test_no_metrics_but_the_loss(tmp_path: Path) -> None:
    run = train(tmp_path, pairs(tmp_path / "train.tsv"), metrics=[], data={"dev": 0.25})
    assert list(run.metrics) == ["loss"]


@pytest.mark.parametrize(
    ("app", "read", "given"),
    [
        ({"towers": 2, "loss": "cross-entropy"}, "logits", "first, second, cosine"),
        ({"mode": "regression", "loss": "cosine-mse"}, "cosine", "logits"),
    ],
)
def test_a_loss_of_other_outputs_says_what_there_is(tmp_path: Path, app: dict[str, Any], read: str, given: str) -> None:
    source = pairs(tmp_path / "train.tsv", ["0", "1"] * 8)
    with pytest.raises(ConfigError) as error:
        train(tmp_path, source, app={"name": "matching", **app})
    assert f"reads '{read}', which is neither among the outputs of the head ({given})" in str(error.value)


def test_a_column_that_is_read_already_is_not_suggested_for_the_other_text(tmp_path: Path) -> None:
    source = write(tmp_path / "train.tsv", "text\tlabel", ["one\tyes", "two\tno"])
    with pytest.raises(DataError) as error:
        train(tmp_path, source)
    assert str(error.value).startswith(
        f"{source} has no column 'text_pair', which the app reads as its 'text_pair'. "
        "Say which column plays that role: data.columns.text_pair=COLUMN."
    )
