"""Small files of each mode are learned by heart, from training to predictions read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import et_core.api as et
from et_core.errors import DataError

POSITIVE = ("works well", "very good", "i love it", "a great gift")
NEGATIVE = ("broke at once", "very bad", "i hate it", "a waste of money")


def write(path: Path, header: str, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    return path


def memorise(tmp_path: Path, data: Path, columns: dict[str, str], **settings: Any) -> Any:
    return et.train(
        {
            "app": {"name": "classification", "dropout": 0.0, **settings.pop("app", {})},
            "model": {"ref": "bert-tiny-random@zoo", "dropout": 0.0, "attention_dropout": 0.0},
            "data": {"train": str(data), "dev": str(data), "columns": columns, "max_length": 24},
            "train": {"max_steps": 150, "batch_size": 8, "lr": 2e-3, "precision": "fp32", "eval_every": None},
            "output": str(tmp_path / "run"),
            **settings,
        }
    )


def test_eight_rows_are_learned_by_heart(tmp_path: Path) -> None:
    lines = [f"{text}\tgood" for text in POSITIVE] + [f"{text}\tbad" for text in NEGATIVE]
    data = write(tmp_path / "train.tsv", "review\tverdict", lines)
    (tmp_path / "my_metrics.py").write_text(
        "from et_core.hooks import hookimpl\n"
        "from et_core.interfaces import Metric\n"
        "ET_API = 1\n"
        "@hookimpl\n"
        "def et_register_metrics(register):\n"
        '    register("hits", "my_metrics:Hits", summary="Rows predicted right")\n'
        "class Hits(Metric):\n"
        "    hits = 0.0\n"
        "    def update(self, *, predictions, targets, scores):\n"
        "        self.hits += float((predictions == targets).sum())\n"
        "    def compute(self):\n"
        "        return self.hits\n",
        "utf-8",
    )
    run = memorise(
        tmp_path,
        data,
        {"text": "review", "label": "verdict"},
        metrics=["hits", "accuracy"],
        plugins={"files": [str(tmp_path / "my_metrics.py")]},
    )
    assert (run.metrics["hits"], run.metrics["accuracy"]) == (8.0, 1.0)
    found = run.predict([*POSITIVE, *NEGATIVE])
    assert [row.prediction for row in found] == ["good"] * 4 + ["bad"] * 4
    assert all(sum(row.probabilities.values()) == pytest.approx(1, abs=1e-5) for row in found)
    assert run.evaluate(str(data))["hits"] == 8.0


def test_eight_pairs_are_learned_by_heart(tmp_path: Path) -> None:
    pairs = [(a, b) for a in POSITIVE[:2] + NEGATIVE[:2] for b in (POSITIVE[0], NEGATIVE[0])]
    answers = ["yes" if (a in POSITIVE) == (b in POSITIVE) else "no" for a, b in pairs]
    lines = [f"{a}\t{b}\t{answer}" for (a, b), answer in zip(pairs, answers, strict=True)]
    data = write(tmp_path / "train.tsv", "one\tother\tsame", lines)
    run = memorise(tmp_path, data, {"text": "one", "text_pair": "other", "label": "same"})
    assert run.metrics["accuracy"] == 1.0
    assert [row.prediction for row in run.predict(pairs)] == answers
    with pytest.raises(DataError, match="text_pair"):
        run.predict(["only one text"])


def test_eight_rows_with_several_labels_are_learned_by_heart(tmp_path: Path) -> None:
    topics = [["sport"], ["news"], ["sport", "news"], [], ["art"], ["art", "news"], ["sport"], []]
    texts = [*POSITIVE, *NEGATIVE]
    records = [json.dumps({"text": text, "topics": names}) for text, names in zip(texts, topics, strict=True)]
    data = tmp_path / "train.jsonl"
    data.write_text("\n".join(records) + "\n", "utf-8")
    run = memorise(tmp_path, data, {"text": "text", "label": "topics"}, app={"mode": "multi-label"})
    assert run.metrics["accuracy"] == run.metrics["micro-f1"] == 1.0
    found = run.predict(texts)
    assert [sorted(row.prediction) for row in found] == [sorted(names) for names in topics]
    assert set(found[0].probabilities) == {"sport", "news", "art"}


def test_eight_numbers_are_learned_by_heart(tmp_path: Path) -> None:
    texts = [*POSITIVE, *NEGATIVE]
    lines = [f"{text}\t{index / 4}" for index, text in enumerate(texts)]
    data = write(tmp_path / "train.tsv", "text\tscore", lines)
    run = memorise(tmp_path, data, {"text": "text", "label": "score"}, app={"mode": "regression"})
    assert run.metrics["pearson"] > 0.98
    found = run.predict(texts)
    assert all(isinstance(row.prediction, float) and row.probabilities is None for row in found)
    assert [row.prediction for row in found] == pytest.approx([index / 4 for index in range(8)], abs=0.3)
