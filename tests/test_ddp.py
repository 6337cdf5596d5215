"""Two processes end where one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from et_core import api
from tests.seams.tools import PLUGIN, distance, seam_plugins, write_words


def rows_of(path: Path) -> list[dict[str, str]]:
    header, *lines = path.read_text("utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model" / "model.safetensors") | load_file(path / "model" / "extra.safetensors")


def test_two_processes_end_with_the_weights_and_metrics_of_one(tmp_path: Path) -> None:
    # 35 rows in batches of eight: the last holds three, one for the second process.
    settings: dict[str, Any] = {
        "app": {"name": "classification", "head": "pooled-linear", "dropout": 0.0, "class_weights": "balanced"},
        "model": "seam-bag@init",
        "data": {
            "train": rows_of(write_words(tmp_path / "train.tsv", 35)),
            "dev": rows_of(write_words(tmp_path / "dev.tsv", 21, seed=1)),
        },
        "train": {
            "epochs": 2,
            "batch_size": 8,
            "lr": 0.05,
            "optimizer": "sgd",
            "precision": "fp32",
            "token_budget": 25,
        },
        "plugins": {"files": [str(PLUGIN)]},
    }
    with seam_plugins():
        one = api.train(settings, {"output": str(tmp_path / "one")})
        two = api.train(settings, {"output": str(tmp_path / "two"), "strategy": {"name": "ddp", "processes": 2}})
    assert two.results["steps"] == one.results["steps"] == 10
    assert two.metrics == pytest.approx(one.metrics, abs=1e-4)
    assert distance(weights_of(two.path), weights_of(one.path)) < 1e-4
