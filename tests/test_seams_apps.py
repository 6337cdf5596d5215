"""Apps unlike classification, from a config to predictions: windows, marks, generation, sequences, pictures, masks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from et_core import api
from et_core.errors import ComponentError, ConfigError, DataError
from et_core.inference import evaluate
from et_core.registry import plugins, refresh
from et_core.registry.files import import_file
from tests.seams.tools import PLUGIN, seam

APPS, WRITING = PLUGIN.with_name("apps_plugin.py"), PLUGIN.with_name("writing_plugin.py")
apps: Any = import_file(APPS)
writing: Any = import_file(WRITING)


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    for file in (PLUGIN, APPS, WRITING):
        plugins().add_file(file)
    yield
    refresh()


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def config(tmp_path: Path, app: str, model: str, rows: list[dict[str, Any]], **train: Any) -> dict[str, Any]:
    return {
        "app": app,
        "model": f"{model}@init",
        "data": {"train": write(tmp_path / "train.jsonl", rows), "dev": write(tmp_path / "dev.jsonl", rows[:40])},
        "train": {"epochs": 20, "batch_size": 8, "lr": 0.03, "precision": "fp32", "keep_best": None, **train},
        "plugins": {"files": [str(PLUGIN), str(APPS), str(WRITING)]},
        "output": str(tmp_path / "run"),
    }


def tag_rows(count: int = 60) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    numbers = [rng.integers(0, 40, int(rng.integers(1, 14))).tolist() for _ in range(count)]
    return [{"words": [f"w{n}" for n in row], "tags": ["odd" if n % 2 else "even" for n in row]} for row in numbers]


def test_windows_of_a_row_are_learned_evaluated_and_merged_with_marks_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[evaluate.__module__], "_WINDOW", 7)
    rows = tag_rows()
    run = api.train(config(tmp_path, "seam-tags", "seam-marked", rows, max_steps=60))
    assert run.metrics["cut"] == 0
    assert run.metrics["hits"] == 1.0
    assert (run.results["train_rows"], run.results["dev_rows"]) == (60, 40)
    assert run.evaluate(str(tmp_path / "dev.jsonl")) == run.metrics
    again = api.load(run.path)
    assert [answer.prediction for answer in again.predict(rows[:9])] == [row["tags"] for row in rows[:9]]
    described = json.loads((run.folder.model / "et.json").read_text())
    assert described["options"] == {"marks": {"place": 2}}
    vocabulary = json.loads((run.folder.model / "words.json").read_text())
    assert {"w1", "w39"} <= set(vocabulary)


def test_splits_deal_out_rows_with_all_their_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[str, set[int]] = {"teach": set(), "learn": set()}
    original = seam.Pupil.forward

    def forward(self: Any, batch: Any, step: Any) -> Any:
        rows[step.phase] |= set(batch.rows.tolist())
        return original(self, batch, step)

    monkeypatch.setattr(seam.Pupil, "forward", forward)
    settings = config(tmp_path, "seam-tags", "seam-marked", tag_rows(), epochs=2)
    settings["objective"] = {"name": "seam-pupil"}
    settings["app"] = {"name": "seam-tags", "marked": False}
    api.train(settings)
    assert (len(rows["teach"]), len(rows["learn"])) == (30, 30)
    assert not rows["teach"] & rows["learn"]


def test_marks_on_a_model_that_takes_none_are_refused_before_data_is_read(tmp_path: Path) -> None:
    settings = config(tmp_path, "seam-tags", "seam-bag", tag_rows())
    settings["data"]["train"] = "absent.jsonl"
    with pytest.raises(ConfigError, match=r"^app=seam-tags marks tokens \(place\), which 'seam-bag' does not take\."):
        api.train(settings)


def rewrite_rows(count: int = 80) -> list[dict[str, Any]]:
    return [{"source": f"say {row % 4}", "answer": " ".join(["so"] * (row % 4 + 1))} for row in range(count)]


def test_text_is_generated_in_evaluations_and_predictions_by_a_tied_model_that_comes_back(tmp_path: Path) -> None:
    rows = rewrite_rows()
    run = api.train(config(tmp_path, "seam-rewrite", "seam-writer", rows))
    assert run.metrics["hits"] == 1.0
    head, backbone = run.bundle.model.heads["main"], run.bundle.model.backbone
    assert head.words.weight is backbone.words.weight  # type: ignore[union-attr]
    assert not (run.folder.model / "extra.safetensors").exists()
    answers = api.load(run.path).predict([{"source": "say 2"}, {"source": "say 0"}])
    assert [answer.prediction for answer in answers] == ["so so so", "so"]


def test_a_sequential_app_goes_on_over_the_whole_file_and_bad_rows_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("et_core.interfaces.app._WINDOW", 3)
    monkeypatch.setattr("et_core.inference.run._WINDOW", 3)
    run = api.train(config(tmp_path, "seam-chain", "seam-writer", rewrite_rows()))
    new = tmp_path / "new.jsonl"
    write(new, [{"source": f"say {row % 4}"} for row in range(10)])
    run.predict_file(new, tmp_path / "out.jsonl")
    found = [json.loads(line)["prediction"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    before = ["first", *(f"say {row % 4}" for row in range(9))]
    assert found == [f"{' '.join(['so'] * (row % 4 + 1))} after {before[row]}" for row in range(10)]

    original = writing.Chain._example

    def picky(self: Any, row: Any, *arguments: Any) -> Any:
        if row.index in (0, 4, 5, 9):
            raise row.error("source", "is not liked.")
        return original(self, row, *arguments)

    monkeypatch.setattr(writing.Chain, "_example", picky)
    written = run.predict_file(new, tmp_path / "skipped.jsonl", {"data.on_bad_row": "skip"})
    kept = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert (written.rows, written.skipped) == (6, 4)
    assert [row["source"] for row in kept] == [f"say {row % 4}" for row in (1, 2, 3, 6, 7, 8)]
    assert kept[3]["prediction"] == "so so so after say 3"
    with pytest.raises(DataError, match=r"new\.jsonl line 1: column 'source' is not liked\."):
        run.predict_file(new, tmp_path / "stopped.jsonl")


@pytest.mark.parametrize(
    ("extra", "said"),
    [(1, "gives more predictions than rows that could be used"), (-1, "gives no prediction for ")],
)
def test_another_number_of_predictions_than_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: int, said: str
) -> None:
    run = api.train(config(tmp_path, "seam-rewrite", "seam-writer", rewrite_rows(8), max_steps=1))
    original = writing.Rewrite.decode

    def miscount(self: Any, outputs: Mapping[str, Any], examples: Any) -> Any:
        found = original(self, outputs, examples)
        return [*found, *found[:extra]] if extra > 0 else found[:extra]

    monkeypatch.setattr(writing.Rewrite, "decode", miscount)
    for call in (
        lambda: run.predict([{"source": "say 1"}, {"source": "say 2"}]),
        lambda: run.predict_file(tmp_path / "train.jsonl", tmp_path / "out.jsonl"),
    ):
        with pytest.raises(ComponentError, match=f"Rewrite.predict {said}"):
            call()
    assert not (tmp_path / "out.jsonl").exists()


def test_a_picture_is_made_fit_by_the_processor_of_the_backbone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"pixels": (rng.random(16) + row % 2).round(3).tolist(), "shade": ("dark", "bright")[row % 2]}
        for row in range(40)
    ]
    settings = config(tmp_path, "seam-shades", "seam-look", rows)
    for size in (4, 2):
        settings["model"] = {"ref": "seam-look@init", "image_size": size}
        run = api.train(settings, {"output": str(tmp_path / f"run{size}")})
        assert run.metrics["hits"] > 0.9
        assert [answer.prediction for answer in api.load(run.path).predict(rows[:2])] == ["dark", "bright"]


def test_what_is_drawn_in_a_step_decides_what_is_counted(tmp_path: Path) -> None:
    settings = config(tmp_path, "seam-tags", "seam-marked", tag_rows(), epochs=8, log_every=1)
    settings["objective"] = "seam-masked"
    losses = []
    for budget in (10_000, 24):
        output = {"output": str(tmp_path / f"run{budget}"), "train.token_budget": budget}
        run = api.train(settings, output)
        losses.append([line["loss"] for line in run.folder.read_metrics() if "loss" in line])
    assert np.mean(losses[0][-5:]) < 0.5 * np.mean(losses[0][:5])
    assert len(losses[0]) == len(losses[1])


def test_a_vocabulary_is_not_learned_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps.Tags, "texts", lambda self, row: [])
    with pytest.raises(ConfigError, match=r"train\.jsonl has no text to learn a vocabulary from\."):
        api.train(config(tmp_path, "seam-tags", "seam-marked", tag_rows()))
