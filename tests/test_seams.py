"""Throw-away components that need each seam, trained until the loss falls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from et_core import api
from et_core.data import collate
from et_core.interfaces import Example, Inputs
from tests.seams.tools import PLUGIN, seam_plugins, store_of


def write_pairs(path: Path, count: int, *, seed: int = 0) -> Path:
    """Two short texts, and whether they begin with the same word."""
    rng = np.random.default_rng(seed)
    rows = ["text\ttext_pair\tlabel"]
    for row in range(count):
        first, second = rng.choice(5, 2, replace=False)
        second = first if row % 2 else second
        rows.append(f"w{first} x\tw{second} y\t{'same' if row % 2 else 'other'}")
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


def test_two_separate_texts_train_save_load_and_predict_by_name(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "app": {"name": "classification", "dropout": 0.0},
        "model": "seam-towers@init",
        "data": {
            "train": str(write_pairs(tmp_path / "a.tsv", 120)),
            "dev": str(write_pairs(tmp_path / "b.tsv", 40, seed=1)),
        },
        "metrics": ["seam-wrong"],
        "train": {
            "epochs": 8,
            "batch_size": 12,
            "lr": 0.03,
            "optimizer": "seam-adam",
            "schedule": "seam-half",
            "trackers": ["seam-file"],
            "precision": "fp32",
            "warmup": 0,
            "log_every": 1,
        },
        "plugins": {"files": [str(PLUGIN)]},
        "output": str(tmp_path / "run"),
    }
    with seam_plugins():
        run = api.train(settings)
        again = api.load(run.path)
        pairs = [("w1 x", "w1 y"), ("w1 x", "w3 y")]
        predictions = again.predict(pairs)
    lines = [line for line in run.folder.read_metrics() if "loss" in line]
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert {line["lr"] for line in lines} == {0.015}
    assert run.metrics["seam-wrong"] < 0.1
    assert [prediction.prediction for prediction in predictions] == ["same", "other"]
    assert json.loads((run.folder.model / "words.json").read_text())[:2] == ["[pad]", "[unknown]"]
    tracked = [json.loads(line) for line in (run.path / "tracked.jsonl").read_text().splitlines()]
    assert [line["step"] for line in tracked if "loss" in line] == [line["step"] for line in lines]


def test_inputs_flatten_and_come_back(tmp_path: Path) -> None:
    example = Example(
        {
            "texts.0.ids": np.arange(1, 4),
            "texts.1.ids": np.arange(1, 6),
            "marks.history": np.arange(3),
            "image": np.zeros((3, 2, 2), np.float32),
            "decoder.ids": np.arange(1, 3),
        },
        {"label": np.array([1, 2])},
        0,
        {"offsets": np.arange(6).reshape(3, 2)},
    )
    longer = Example(
        {**example.inputs, "marks.history": np.arange(4), "texts.0.ids": np.arange(1, 5)},
        {"label": np.array([1])},
        1,
        {"offsets": np.arange(8).reshape(4, 2)},
    )
    stored = store_of(tmp_path / "rows.arrow", [example, longer]).take([1, 0])
    assert stored[0].extra["offsets"].tolist() == longer.extra["offsets"].tolist()
    batch = collate(stored, pad_id=0)
    flat = batch.inputs.flatten()
    assert list(flat) == [
        *("texts.0.ids", "texts.0.mask", "texts.1.ids", "texts.1.mask"),
        *("marks.history", "image", "decoder.ids", "decoder.mask"),
    ]
    assert flat["image"].shape == (2, 3, 2, 2)
    assert batch.targets["label"].tolist() == [[1, -100], [1, 2]]
    back = Inputs.unflatten(flat).flatten()
    assert all(torch.equal(back[name], tensor) for name, tensor in flat.items())
