"""A search is a run of its own, and so is each trial of what it found: killed or stopped they go on, and the student
after them is trained once they have ended.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from et_core import api
from et_core.errors import ConfigError
from et_core.inference import Run
from tests.distill.tools import (
    SEARCHED,
    STUDENT,
    bits,
    distil,
    distil_apart,
    figures,
    losses,
    refused,
    settings,
    stopped_at,
)

SEARCH = {"sampled": 1, "length": 16, "trials": 2, "trial_steps": 2, "train": {"epochs": 2, "eval_every": 3}}
GIVEN: dict[str, Any] = {"model": dict(SEARCHED), "search": SEARCH, "data": {"dev": 0.25}, "train": {"epochs": 1}}
TERMS = {"vanilla-kd": 0.5, "probes": {"weight": 0.5, "fit_rows": 20}}


@pytest.fixture(scope="module")
def whole(source: str, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search and the run after it, which nothing stopped."""
    return distil(tmp_path_factory.mktemp("whole") / "run", source, teacher, TERMS, **GIVEN)


def assert_same(found: Run, whole: Run) -> None:
    for part in ("", "search"):
        assert bits(found.path / part) == bits(whole.path / part)
        assert figures(Run.load(found.path / part)) == figures(Run.load(whole.path / part))


def test_what_a_search_found_is_what_the_student_is(whole: Run) -> None:
    searched = api.load(whole.path / "search")
    found = whole.config.model.options
    assert whole.config.model.ref == "adabert@init"
    assert found == whole.bundle.model.backbone.options
    assert found in searched.results["finalists"]
    assert len(found["cell"]) == 3
    assert found["num_cells"] >= 1
    assert searched.config.model.ref == "adabert-supernet@init"
    assert searched.config.train.keep_best is None
    assert searched.config.train.epochs == 2
    terms = {"loss", "main", "vanilla-kd", "probes", "efficiency"}
    assert (set(losses(searched)[0]), set(losses(searched)[-1])) == (terms, terms | {"depth"})
    assert set(losses(whole)[0]) == {"loss", "main", "vanilla-kd", "probes"}


def test_the_network_that_does_best_alone_is_taken(whole: Run) -> None:
    finalists = json.loads((whole.path / "search" / "results.json").read_text("utf-8"))["finalists"]
    trials = [api.load(whole.path / "trials" / number) for number in ("1", "2")]
    assert len(finalists) >= 2
    assert [trial.config.model.options for trial in trials] == finalists[:2]
    assert [trial.results["steps"] for trial in trials] == [2, 2]
    assert whole.config.model.options == min(trials, key=lambda trial: trial.metrics["loss"]).config.model.options


def test_the_report_shows_what_was_tried(whole: Run) -> None:
    page = whole.report.read_text("utf-8")
    assert "Networks that were tried" in page
    assert page.count(", taken") == 1
    for number in ("1", "2"):
        assert f">{api.load(whole.path / 'trials' / number).metrics['loss']:.4f}</td>" in page


def test_without_trials_the_network_that_the_search_picked_is_taken(source: str, teacher: str, tmp_path: Path) -> None:
    given = {**GIVEN, "search": {**SEARCH, "trials": 0, "train": {"epochs": 1}}}
    run = distil(tmp_path / "run", source, teacher, TERMS, **given)
    assert not (run.path / "trials").exists()
    assert run.config.model.options == api.load(run.path / "search").bundle.model.backbone.options


@pytest.mark.parametrize(("number", "step"), [(1, 2), (1, 5), (3, 1), (4, 2)])
def test_a_stopped_search_and_the_run_after_it_go_on_to_the_same_bits(
    number: int, step: int, whole: Run, source: str, teacher: str, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    with stopped_at(step, number=number), pytest.raises(RuntimeError, match="the power went off"):
        distil(path, source, teacher, TERMS, **GIVEN)
    assert (path / "search" / "results.json").exists() is (number > 1)
    assert_same(distil(path, source, teacher, TERMS, resume=True, **GIVEN), whole)


@pytest.mark.parametrize(("number", "step"), [(1, 5), (3, 1), (4, 2)])
def test_a_stopped_run_goes_on_by_the_settings_in_its_folder(
    number: int, step: int, whole: Run, source: str, teacher: str, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    with stopped_at(step, number=number), pytest.raises(RuntimeError, match="the power went off"):
        distil(path, source, teacher, TERMS, **GIVEN)
    assert_same(api.distill(None, {"output": str(path)}, resume=True, progress=False), whole)


def test_search_only_stops_after_the_search_and_a_resumed_run_does_not_search_again(
    whole: Run, source: str, teacher: str, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    searched = distil(path, source, teacher, TERMS, search_only=True, **GIVEN)
    assert searched.path == path / "search"
    assert not (path / "model").exists()
    before = {file: file.stat().st_mtime_ns for file in sorted((path / "search").rglob("*"))}
    run = distil(path, source, teacher, TERMS, resume=True, **GIVEN)
    assert {file: file.stat().st_mtime_ns for file in sorted((path / "search").rglob("*"))} == before
    assert_same(run, whole)


def test_the_config_that_a_run_leaves_trains_the_student_that_was_found(whole: Run, tmp_path: Path) -> None:
    run = api.distill(whole.path / "config.yaml", {"output": str(tmp_path / "again")}, progress=False)
    assert not (tmp_path / "again" / "search").exists()
    assert bits(run.path) == bits(whole.path)


def test_what_was_searched_is_said_in_words(source: str, teacher: str, tmp_path: Path) -> None:
    found = {**GIVEN, "model": {**SEARCHED, "cell": "random", "num_cells": 1}}
    message = "search is set, but the model adabert@init leaves nothing to search for. Leave out search."
    assert refused(tmp_path / "run", source, teacher, TERMS, **found) == message
    assert refused(tmp_path / "run", source, teacher, search=SEARCH) == message.replace("adabert", "bert")
    message = refused(tmp_path / "run", source, teacher, model=dict(STUDENT), search_only=True)
    assert message == (
        "there is nothing to search: model says all of the student's architecture. "
        "Leave out --search-only (search_only)."
    )
    assert not (tmp_path / "run").exists()


def test_a_search_refuses_what_needs_a_depth_and_leaves_no_folder(source: str, teacher: str, tmp_path: Path) -> None:
    message = refused(tmp_path / "run", source, teacher, {"pkd": 1.0}, **GIVEN)
    assert message == (
        "distill.terms.pkd teaches a student of a fixed depth, and a search has none yet. "
        "Use vanilla-kd and probes, or say model.cell and model.num_cells."
    )
    assert not (tmp_path / "run").exists()


def test_a_model_that_leaves_its_architecture_open_is_not_trained(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^model.num_cells is not set, so it is not known what network adabert@init"):
        api.train(settings(source, model=dict(SEARCHED)), {"output": str(tmp_path / "run")}, progress=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_search_goes_on_to_the_same_bits(source: str, teacher: str, tmp_path: Path) -> None:
    config = settings(source, distill={"teacher": teacher, "terms": TERMS}, **GIVEN)
    (tmp_path / "config.json").write_text(json.dumps(config))
    distil_apart(tmp_path / "whole", tmp_path / "config.json", 0)
    events = json.loads((tmp_path / "whole.events").read_text())
    for event in (
        "replace config.yaml.tmp",
        "mkdir search",
        "rename search/checkpoints/step-000003.tmp",
        "step 4",
        "mkdir search/model.tmp",
        "replace search/results.json.tmp",
        "mkdir trials/1",
        "replace trials/1/results.json.tmp",
        "rename checkpoints/step-000004.tmp",
        "mkdir model.tmp",
    ):
        killed = tmp_path / f"killed-{events.index(event)}"
        distil_apart(killed, tmp_path / "config.json", events.index(event) + 1)
        distil_apart(killed, tmp_path / "config.json", 0, resume=True)
        for part in ("", "search"):
            assert bits(killed / part) == bits(tmp_path / "whole" / part), event
