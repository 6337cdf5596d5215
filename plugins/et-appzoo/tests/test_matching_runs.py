"""Runs of matching from a file to predictions read back: each mode learns a few pairs by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import et_core.api as et
from et_core.errors import ConfigError, DataError

TINY = {"ref": "bert-tiny-random@zoo", "dropout": 0.0, "attention_dropout": 0.0}
FIRST = ("works well", "i hate it", "a great gift", "broke at once")
SECOND = ("good quality", "never again", "for my sister", "did not last")
PAIRS = [(first, second) for first in FIRST for second in SECOND]
ANSWERS = ["yes" if FIRST.index(first) == SECOND.index(second) else "no" for first, second in PAIRS]
COLUMNS = {"text": "one", "text_pair": "other", "label": "same"}


def write(path: Path, header: str, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return path


def pairs_file(path: Path, answers: Sequence[Any] = ANSWERS) -> Path:
    lines = [
        f"{first}\t{second}\t{answer}\tq{FIRST.index(first)}\t{'ab'[number % 2]}"
        for number, ((first, second), answer) in enumerate(zip(PAIRS, answers, strict=True))
    ]
    return write(path, "one\tother\tsame\tasked\tsite", lines)


def train(tmp_path: Path, data: Path, app: Mapping[str, Any] | None = None, **settings: Any) -> Any:
    columns = {**COLUMNS, **settings.pop("columns", {})}
    steps = settings.pop("train", {})
    return et.train(
        {
            "app": {"name": "matching", **(app or {})},
            "model": TINY,
            "data": {"train": str(data), "dev": str(data), "columns": columns, "max_length": 24},
            "train": {
                "max_steps": 150,
                "batch_size": 16,
                "lr": 2e-3,
                "precision": "fp32",
                "eval_every": None,
                "warmup": 0,
                **steps,
            },
            "output": str(tmp_path / "run"),
            **settings,
        },
        progress=False,
    )


def test_pairs_are_learned_by_heart_and_ranked_by_their_query(tmp_path: Path) -> None:
    data = pairs_file(tmp_path / "train.tsv")
    run = train(
        tmp_path,
        data,
        {"dropout": 0.0},
        columns={"query": "asked"},
        metrics=["map", "accuracy"],
        train={"max_steps": 250},
    )
    assert list(run.metrics) == ["map", "accuracy", "loss"]
    assert (run.metrics["map"], run.metrics["accuracy"]) == (1.0, 1.0)
    found = run.predict(PAIRS)
    assert [row.prediction for row in found] == ANSWERS
    assert all(row.score == row.probabilities["yes"] for row in found)
    assert et.load(run.path).predict(PAIRS) == found
    assert run.evaluate(str(data)) == pytest.approx(run.metrics)
    with pytest.raises(DataError, match=r"rows\[1\]: column 'text_pair' is missing, but 'text_pair' needs a value"):
        run.predict([("one", "other"), ("only one",)])


def test_a_pair_of_joined_texts_is_saved_in_transformers_layout(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    run = train(tmp_path, pairs_file(tmp_path / "train.tsv"), train={"max_steps": 3})
    model = BertForSequenceClassification.from_pretrained(run.path / "model").eval()
    encoded = AutoTokenizer.from_pretrained(run.path / "model")(*PAIRS[0], return_tensors="pt")
    with torch.no_grad():
        shares = model(**encoded).logits.softmax(-1)[0]
    assert model.config.id2label == {0: "no", 1: "yes"}
    assert 'run.predict([("...", "...")])' in (run.path / "README.md").read_text("utf-8")
    assert run.predict(PAIRS[:1])[0].score == pytest.approx(float(shares[1]), abs=1e-5)


def test_a_metric_that_does_not_fit_is_refused_before_rows_are_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ET_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"^metrics: map ranks the candidates of each query"):
        train(tmp_path, pairs_file(tmp_path / "train.tsv"), metrics=["map"])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("objective", ["in-batch-negatives", "supervised"])
def test_two_towers_learn_pairs_by_heart(tmp_path: Path, objective: str) -> None:
    run = train(
        tmp_path,
        pairs_file(tmp_path / "train.tsv"),
        {"towers": 2},
        objective=objective,
        columns={"query": "asked"},
        train={"max_steps": 80},
    )
    assert (run.metrics["auc"], run.metrics["accuracy"], run.metrics["recall-at-1"]) == (1.0, 1.0, 1.0)
    found = run.predict(PAIRS)
    assert [row.prediction for row in found] == ANSWERS
    assert et.load(run.path).predict(PAIRS) == found
    assert any("threshold tuned on dev by accuracy" in note for note in run.results["notes"])


def test_grades_are_learned_by_heart(tmp_path: Path) -> None:
    grades = [(FIRST.index(first) + SECOND.index(second)) % 3 for first, second in PAIRS]
    run = train(tmp_path, pairs_file(tmp_path / "train.tsv", grades), {"mode": "graded", "dropout": 0.0})
    assert run.metrics["accuracy"] == 1.0
    assert run.metrics["spearman"] > 0.9
    found = run.predict(PAIRS)
    assert [row.prediction for row in found] == [str(grade) for grade in grades]
    assert [row.score for row in found] == pytest.approx(grades, abs=0.3)


@pytest.mark.parametrize("towers", [1, 2])
def test_numbers_are_learned_by_heart(tmp_path: Path, towers: int) -> None:
    numbers = [(FIRST.index(first) - SECOND.index(second)) ** 2 / 3 + 1 for first, second in PAIRS]
    run = train(
        tmp_path,
        pairs_file(tmp_path / "train.tsv", numbers),
        {"mode": "regression", "towers": towers},
        train={"max_steps": 250, "lr": 1e-3},
    )
    assert run.metrics["pearson"] > 0.97
    assert [row.prediction for row in run.predict(PAIRS)] == pytest.approx(numbers, abs=0.6)


def test_domains_reach_the_model_and_are_measured_apart(tmp_path: Path) -> None:
    data = pairs_file(tmp_path / "train.tsv", ["yes" if number % 2 else "no" for number in range(len(PAIRS))])
    run = train(tmp_path, data, {"domains": ["a", "b"], "dropout": 0.0}, columns={"domain": "site"})
    # The label is the domain, so that only the marks can tell it for pairs that were not seen.
    unseen = [{"text": "some words", "text_pair": "other words", "domain": domain} for domain in "ab"]
    assert [row.prediction for row in run.predict(unseen)] == ["no", "yes"]
    assert "accuracy by domain" in (run.path / "report.html").read_text("utf-8")
    assert load_file(run.path / "model" / "extra.safetensors")["backbone.marks.domain.weight"].shape[0] == 2


def test_bad_rows_are_left_out_and_counted_where_the_user_says_so(tmp_path: Path) -> None:
    data = pairs_file(tmp_path / "train.tsv")
    text = data.read_text("utf-8") + "x\ty\t\tq0\ta\nx\ty\tyes\t\ta\n"
    data.write_text(text, "utf-8")
    settings = {"columns": {"query": "asked"}, "train": {"max_steps": 1}}
    with pytest.raises(DataError) as error:
        train(tmp_path, data, **settings)
    assert str(error.value) == (
        f"{data} line 18: column 'same' is empty.\nWrite a label, or leave bad rows out with data.on_bad_row=skip."
    )
    run = et.train(
        {
            "app": "matching",
            "model": TINY,
            "data": {"train": str(data), "columns": {**COLUMNS, "query": "asked"}, "on_bad_row": "skip"},
            "train": {"max_steps": 1, "precision": "fp32"},
            "output": str(tmp_path / "run"),
        },
        progress=False,
    )
    assert (run.results["train_rows"], run.results["skipped_rows"]) == (16, 2)


def test_a_ranking_metric_without_a_query_column_stops_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^metrics: ndcg-at-10 ranks the candidates of each query: say which column"):
        train(tmp_path, pairs_file(tmp_path / "train.tsv"), metrics=["ndcg-at-10"])


def test_a_run_trained_on_pairs_is_measured_on_candidates(tmp_path: Path) -> None:
    data = pairs_file(tmp_path / "train.tsv")
    run = train(tmp_path, data, {"towers": 2}, train={"max_steps": 2})
    assert "mrr" not in run.metrics
    found = run.evaluate(str(data), {"data.columns.query": "asked"})
    scores = np.asarray([row.score for row in run.predict(PAIRS)]).reshape(4, 4)
    places = [(scores[row] >= scores[row, row]).sum() for row in range(4)]
    assert found["mrr"] == pytest.approx(np.mean([1 / place for place in places]), abs=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("symmetric", [False, True])
def test_two_processes_learn_from_each_other_s_texts_as_one_does(tmp_path: Path, symmetric: bool) -> None:
    data = pairs_file(tmp_path / "train.tsv")
    settings = {
        "objective": {"name": "in-batch-negatives", "symmetric": symmetric},
        # Seven rows a step: four and three of them for a process, at times without a match.
        "train": {"max_steps": 12, "batch_size": 7, "lr": 1e-3, "optimizer": "sgd"},
    }
    for name, strategy in (("one", "single"), ("two", {"name": "ddp", "processes": 2})):
        (tmp_path / name).mkdir()
        train(tmp_path / name, data, {"towers": 2}, strategy=strategy, **settings)
    one, two = (load_file(tmp_path / name / "run" / "model" / "model.safetensors") for name in ("one", "two"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    start = load_file(_untrained(tmp_path, data) / "model" / "model.safetensors")
    assert max(float((one[name] - start[name]).abs().max()) for name in one) > 1e-3


def _untrained(tmp_path: Path, data: Path) -> Path:
    (tmp_path / "start").mkdir()
    run = train(tmp_path / "start", data, {"towers": 2}, train={"max_steps": 1, "lr": 1e-12, "optimizer": "sgd"})
    path: Path = run.path
    return path
