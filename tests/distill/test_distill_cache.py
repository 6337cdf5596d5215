"""A teacher runs once: what is recorded of it is kept by all that it depends on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from et_core import api
from et_core.config import load_config
from et_core.data import ExampleStore, ReadOptions, open_rows
from et_core.strategies import Single
from et_core.training.recordings import Recordings
from et_core.training.teachers import make_lessons, open_teachers
from tests.distill.tools import SEARCHED, STUDENT, bert_calls, bits, cached, distil, run_module, settings, train_teacher

TWO = {"name": "ddp", "processes": 2}
TERMS = {"vanilla-kd": 1.0, "pkd": 0.5, "probes": {"weight": 0.5, "fit_rows": 16}}
STILL: dict[str, Any] = {**STUDENT, "dropout": 0.0, "attention_dropout": 0.0}


def times_read(folder: Path, *arguments: Any, **sections: Any) -> int:
    """How many batches a teacher, which is 64 wide, reads in a run that has no dev set."""
    with bert_calls() as seen:
        distil(folder, *arguments, **sections)
    return sum(width == 64 for width, _ in seen)


def test_a_teacher_runs_once_for_the_same_rows(source: str, teacher: str, own_cache: Path, tmp_path: Path) -> None:
    assert times_read(tmp_path / "first", source, teacher, TERMS) > 0
    kept = cached("encoded")
    assert times_read(tmp_path / "second", source, teacher, TERMS) == 0
    # Neither weights nor the student's own training change what is recorded.
    other = {"train": {"epochs": 1, "lr": 1e-2}, "distill": {"labels": 0.1}}
    assert times_read(tmp_path / "third", source, teacher, {**TERMS, "pkd": 3.0}, **other) == 0
    # Nor does what is only compared.
    compared = {**TERMS, "vanilla-kd": {"temperature": 4.0}, "pkd": {"reduce": "sum"}}
    assert times_read(tmp_path / "fourth", source, teacher, compared) == 0
    assert cached("encoded") == kept
    assert bits(tmp_path / "first") == bits(tmp_path / "second")


@pytest.mark.parametrize("what", ["teacher", "rows", "options", "terms", "layers", "seed of what is fitted"])
def test_it_runs_again_for_what_is_another(
    what: str, source: str, teacher: str, own_cache: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"source": source, "teacher": teacher, "terms": TERMS}
    distil(tmp_path / "first", **given)
    rows = tmp_path / "more.tsv"
    rows.write_text(Path(source).read_text("utf-8") + "one more good film\tpos\n", "utf-8")
    changed = {
        "teacher": lambda: {"teacher": train_teacher(tmp_path / "other", source, train={"epochs": 1})},
        "rows": lambda: {"source": str(rows)},
        "options": lambda: {"terms": {**TERMS, "probes": {"weight": 0.5, "fit_rows": 16, "l2": 0.1}}},
        "terms": lambda: {"terms": {"vanilla-kd": 1.0}},
        "layers": lambda: {"terms": {**TERMS, "pkd": {"layers": [2]}}},
        "seed of what is fitted": lambda: {"train": {"seed": 1}},
    }[what]()
    assert times_read(tmp_path / "second", **{**given, **changed}) > 0


def test_what_is_recorded_depends_on_the_precision_of_the_teacher(source: str, teacher: str) -> None:
    values = settings(source, distill={"teacher": teacher, "terms": {"et-adabert/vanilla-kd": 1.0}})
    config = load_config(values).config
    own = api.load(teacher.removesuffix("@local")).bundle
    rows = open_rows(source, ReadOptions(), roles=own.apps["main"].roles, need_targets=True)
    keys = []
    for precision in ("fp32", "bf16", "fp32"):
        (found,) = open_teachers(config)
        found.run.bundle.precision = precision
        lessons = make_lessons(config, [found], own.model, own.tokenizer)[found]
        recordings = Recordings(found, lessons, strategy=Single(device="cpu"), skip_bad=False, fit_rows=rows, seed=1)
        keys.append(recordings.key(rows))
    assert keys[0] == keys[2] != keys[1]
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {"precision"}


def test_a_file_that_was_cut_off_is_made_anew(source: str, teacher: str, own_cache: Path, tmp_path: Path) -> None:
    distil(tmp_path / "first", source, teacher, TERMS)
    for path in cached("encoded"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert times_read(tmp_path / "second", source, teacher, TERMS) > 0
    assert bits(tmp_path / "first") == bits(tmp_path / "second")
    for path in cached("encoded"):
        assert len(ExampleStore(path)) == 36


def recorded(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "encoded").glob("*"))}


def test_two_processes_record_and_learn_what_one_does(
    source: str, teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"optimizer": "sgd", "lr": 0.05, "epochs": 1}
    runs = {}
    for name, strategy in (("one", "single"), ("two", TWO)):
        monkeypatch.setenv("ET_CACHE_DIR", str(tmp_path / f"cache-{name}"))
        runs[name] = distil(
            tmp_path / name,
            source,
            teacher,
            TERMS,
            model=dict(STILL),
            train=train,
            strategy=strategy,
            data={"dev": 0.2},
        )
    assert recorded(tmp_path / "cache-one") == recorded(tmp_path / "cache-two")
    assert runs["two"].results["steps"] == runs["one"].results["steps"]
    assert runs["two"].metrics == pytest.approx(runs["one"].metrics, abs=1e-4)
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_that_torchrun_started_search_and_distil(source: str, teacher: str, tmp_path: Path) -> None:
    distill = {"teacher": teacher, "terms": {"vanilla-kd": 1.0}, "augment": {"random-deletion": {}}}
    search = {"sampled": 2, "length": 16, "trials": 2, "trial_steps": 2, "target": {"params": "20M"}}
    values = settings(source, distill=distill, search=search, model=dict(SEARCHED), train={"epochs": 1})
    (tmp_path / "run.yaml").write_text(json.dumps({**values, "data": {**values["data"], "dev": 0.25}}))
    command = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "et_core", "distill")
    run = (str(tmp_path / "run.yaml"), f"output={tmp_path / 'run'}", "strategy=ddp")
    done = run_module(*command, *run, timeout=400)
    assert done.returncode == 0, done.stderr
    found = api.load(tmp_path / "run")
    assert len(found.config.model.options["cell"]) == 3
    assert np.isfinite(found.metrics["loss"])
    assert torch.isfinite(found.bundle.model.backbone.token_table().weight).all()


def test_a_run_needs_no_more_than_its_own_folder_once_it_is_finished(source: str, tmp_path: Path) -> None:
    teacher = train_teacher(tmp_path / "teacher", source, train={"epochs": 1})
    run = distil(tmp_path / "run", source, teacher)
    before = run.predict(["w1 good"])
    shutil.rmtree(tmp_path / "teacher")
    again = api.load(run.path)
    assert again.predict(["w1 good"]) == before
    assert again.config.distill.teacher == teacher
