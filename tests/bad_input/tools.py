"""A small run to spoil, which the tests of bad input share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from et_core import api
from et_core.errors import (
    EtError,
)
from et_core.inference import Run

ROWS = "".join(
    f"{word} film {i}\t{label}\n" for i in range(6) for word, label in (("good", "positive"), ("bad", "negative"))
)
HEADER = "text\tlabel\n"


def train(settings: dict[str, Any] | None = None, *, resume: bool = False) -> Run:
    """Nine steps on train.tsv, in 50 ms, with a checkpoint after steps 3, 6 and 9."""
    config = {
        "app": "classification",
        "model": "bert-tiny-random",
        "data": {"train": "train.tsv"},
        "train": {
            "epochs": 3,
            "batch_size": 4,
            "precision": "fp32",
            "lr": 1e-3,
            "checkpoint_every": 3,
            "keep_checkpoints": 5,
        },
        "output": "run",
    }
    return api.train(config, settings, resume=resume, progress=False)


def refused(error: type[EtError], settings: dict[str, Any] | None = None, *, resume: bool = False) -> str:
    with pytest.raises(error) as caught:
        train(settings, resume=resume)
    return str(caught.value)


def unfinish(run: Path) -> None:
    """Make of a finished run what a kill after its last checkpoint leaves."""
    (run / "results.json").unlink()
    shutil.rmtree(run / "model")
