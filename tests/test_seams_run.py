"""Objectives, heads and splits of plugins, from a config to a run folder that predicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from et_core import api
from et_core.errors import ConfigError, UnknownNameError
from et_core.interfaces import Objective
from et_core.training import run as training_run
from tests.seams.tools import PLUGIN, seam_plugins, write_words


def config(tmp_path: Path, **sections: Any) -> dict[str, Any]:
    return {
        "app": {"name": "classification", "head": "pooled-linear", "dropout": 0.0},
        "model": "seam-bag@init",
        "data": {
            "train": str(write_words(tmp_path / "train.tsv", 80)),
            "dev": str(write_words(tmp_path / "dev.tsv", 40, seed=1)),
        },
        "train": {"epochs": 10, "batch_size": 8, "lr": 0.03, "precision": "fp32"},
        "plugins": {"files": [str(PLUGIN)]},
        "output": str(tmp_path / "run"),
        **sections,
    }


def test_an_objective_by_name_splits_the_rows_and_its_result_is_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []

    def build(*arguments: Any, **rest: Any) -> Objective:
        built.append(original(*arguments, **rest))
        return built[0]  # type: ignore[no-any-return]

    original = training_run.build_objective
    monkeypatch.setattr(training_run, "build_objective", build)
    objective = {"name": "seam-pupil", "hidden_size": 12, "share": 0.75}
    with seam_plugins():
        run = api.train(config(tmp_path, objective=objective))
        again = api.load(run.path)
        (prediction,) = again.predict(["w1 good w2"])
    learnt, taught = built[0].rows["learn"], built[0].rows["teach"]
    assert (len(learnt), len(taught), len(learnt | taught)) == (60, 20, 80)
    assert run.results["steps"] == 10 * 8
    assert run.metrics["accuracy"] > 0.9
    assert prediction.prediction == "pos"
    described = json.loads((run.folder.model / "et.json").read_text())
    assert (described["family"], described["options"]) == ("seam-plugin/seam-bag", {"hidden_size": 12, "num_layers": 1})
    assert again.bundle.model.backbone.hidden_size == 12
    assert run.results["parameters"] == sum(p.numel() for p in again.bundle.model.parameters())


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"name": "seam-pupil", "shares": 0.5}, "objective.shares is not an argument of seam-pupil"),
        ({"name": "seam-pupil", "share": "half"}, "objective.share is 'half': expected a number"),
        ({"name": "seam-pupil", "model": 1}, "objective.model is not an argument of seam-pupil"),
        ({"name": "seam-pupi"}, "Did you mean 'seam-pupil'"),
        ({"temperature": 2}, "objective.temperature is not an argument of supervised"),
    ],
)
def test_a_wrong_objective_is_refused_before_any_data_is_read(
    objective: dict[str, Any], message: str, tmp_path: Path
) -> None:
    settings = config(tmp_path, objective=objective, data={"train": "nowhere.tsv"})
    with seam_plugins(), pytest.raises((ConfigError, UnknownNameError), match=message):
        api.train(settings)


def test_a_head_gets_the_extras_that_it_needs(tmp_path: Path) -> None:
    settings = config(tmp_path, app={"name": "classification", "head": "seam-deep"}, model="bert-tiny-random@zoo")
    with seam_plugins():
        run = api.train(settings, {"train.lr": 0.003})
        assert run.metrics["accuracy"] > 0.8
        assert len(api.load(run.path).predict(["good", "bad"])) == 2
    assert not [name for name, _ in run.bundle.model.named_parameters() if "pooler" in name]


def test_a_head_that_needs_more_than_the_model_gives_is_refused_before_any_data_is_read(tmp_path: Path) -> None:
    app = {"name": "classification", "head": "seam-deep"}
    with seam_plugins(), pytest.raises(ConfigError) as caught:
        api.train(config(tmp_path, app=app, data={"train": "nowhere.tsv"}))
    assert str(caught.value) == (
        "the head of app=classification needs layers of its model; 'seam-bag' provides pooled, tokens. "
        "Choose another model: et list backbones"
    )
