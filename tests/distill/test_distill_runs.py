"""What a distilled run is, what its loss adds up to, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from et_core import api
from et_core.errors import CheckpointError, Interrupted
from et_core.inference import Run
from et_core.training.loop import Loop
from tests.distill.tools import (
    STUDENT,
    WORDS,
    bits,
    distil,
    distil_apart,
    figures,
    losses,
    plugin_file,
    refused,
    run_module,
    settings,
    stopped_at,
    train_teacher,
    write_rows,
)

ONE_STEP = {"max_steps": 1, "batch_size": 36, "lr": 1e-12, "warmup": 0, "weight_decay": 0.0}
LONG = {"epochs": 20, "lr": 1e-2}
SHARP = {"dropout": 0.0, "attention_dropout": 0.0}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def logits_of(run: Run, rows: list[dict[str, str]]) -> np.ndarray:
    """The logits of a finished run, up to a constant a row, by the scores that it predicts with."""
    found = [prediction.probabilities for prediction in run.predict([row["text"] for row in rows])]
    return np.log(np.asarray([[probabilities[name] for name in WORDS] for probabilities in found], np.float64))


def read(source: str) -> list[dict[str, str]]:
    header, *lines = Path(source).read_text("utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def test_a_distilled_run_predicts_is_loaded_and_names_its_teacher(source: str, teacher: str, tmp_path: Path) -> None:
    run = distil(tmp_path / "run", source, teacher, data={"dev": 0.25}, train=LONG)
    first, last = losses(run)[0], losses(run)[-1]
    assert set(first) == {"loss", "main", "vanilla-kd"}
    assert last["vanilla-kd"] < 0.5 * first["vanilla-kd"]
    assert run.results["metrics"]["teacher"].keys() == run.metrics.keys()
    again = api.load(run.path)
    assert again.predict(["w1 good w2"]) == run.predict(["w1 good w2"])
    assert again.config.distill.terms == {"et-adabert/vanilla-kd": 1.0}
    assert again.config.distill.teacher == teacher
    report = run.report.read_text("utf-8")
    assert f"{teacher.removesuffix('@local')} (0.2 M parameters)" in report
    assert "et distill" in report


def test_a_run_repeats_itself_and_a_saved_config_makes_it_again(source: str, teacher: str, tmp_path: Path) -> None:
    one = distil(tmp_path / "one", source, teacher, {"vanilla-kd": 0.5, "pkd": {"weight": 2.0}})
    other = api.distill(one.path / "config.yaml", {"output": str(tmp_path / "other")}, progress=False)
    assert bits(one.path) == bits(other.path)
    assert bits(one.path) != bits(distil(tmp_path / "plain", source, teacher).path)


def test_the_logged_loss_is_the_weighted_sum_of_terms_computed_by_hand(
    source: str, teacher: str, tmp_path: Path
) -> None:
    """One step over all rows, in fp32 and without dropout; the learning rate is so low that the weights stay."""
    run = distil(
        tmp_path / "run",
        source,
        teacher,
        {"vanilla-kd": {"weight": 0.7, "temperature": 2.0}},
        distill={"labels": 0.3},
        model={**STUDENT, **SHARP},
        train=ONE_STEP,
    )
    rows = read(source)
    student = log_softmax(logits_of(run, rows))
    labels = np.asarray([list(WORDS).index(row["label"]) for row in rows])
    entropy = -student[np.arange(len(rows)), labels].mean()
    mine, goal = log_softmax(student / 2), log_softmax(logits_of(api.load(teacher.removesuffix("@local")), rows) / 2)
    apart = 4 * (np.exp(goal) * (goal - mine)).sum(-1).mean()
    (logged,) = losses(run)
    assert logged["main"] == pytest.approx(0.3 * entropy, rel=1e-4)
    assert logged["vanilla-kd"] == pytest.approx(0.7 * apart, rel=1e-4)
    assert logged["loss"] == pytest.approx(0.3 * entropy + 0.7 * apart, rel=1e-4)
    assert apart > 0.01


@pytest.mark.parametrize("step", [2, 6])
def test_a_stopped_run_goes_on_to_the_same_bits(step: int, source: str, teacher: str, tmp_path: Path) -> None:
    terms = {"vanilla-kd": {"temperature": {"start": 4, "end": 1}}, "pkd": {"weight": {"start": 1, "end": 0}}}
    given: dict[str, Any] = {"data": {"dev": 0.2}, "train": {"checkpoint_every": 3}, "distill": {"labels": 0.5}}
    whole = distil(tmp_path / "whole", source, teacher, terms, **given)
    with stopped_at(step), pytest.raises(RuntimeError, match="the power went off"):
        distil(tmp_path / "broken", source, teacher, terms, **given)
    assert not (tmp_path / "broken" / "results.json").exists()
    resumed = distil(tmp_path / "broken", source, teacher, terms, resume=True, **given)
    assert bits(resumed.path) == bits(whole.path)
    assert figures(resumed) == figures(whole)
    assert losses(resumed) == losses(whole)


def test_a_run_that_a_signal_stopped_goes_on_by_the_settings_in_its_folder(
    source: str, teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distil(tmp_path / "whole", source, teacher)
    begin = Loop._step

    def interrupt(loop: Loop, index: int, *rest: Any) -> bool:
        if index == 3:
            signal.raise_signal(signal.SIGTERM)
        return begin(loop, index, *rest)

    monkeypatch.setattr(Loop, "_step", interrupt)
    with pytest.raises(Interrupted, match="Go on with --resume"):
        distil(tmp_path / "broken", source, teacher)
    monkeypatch.undo()
    resumed = api.distill(None, {"output": str(tmp_path / "broken")}, resume=True, progress=False)
    assert bits(resumed.path) == bits(whole.path)


def test_a_run_does_not_go_on_with_another_teacher(source: str, tmp_path: Path) -> None:
    teacher = train_teacher(tmp_path / "teacher", source)
    with stopped_at(5), pytest.raises(RuntimeError):
        distil(tmp_path / "run", source, teacher, train={"checkpoint_every": 2})
    Path(teacher.removesuffix("@local")).rename(tmp_path / "first")
    train_teacher(tmp_path / "teacher", source, train={"epochs": 1, "seed": 7})
    with pytest.raises(CheckpointError, match="was written with other teacher than there is now"):
        distil(tmp_path / "run", source, teacher, train={"checkpoint_every": 2}, resume=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_to_the_same_bits(source: str, teacher: str, tmp_path: Path) -> None:
    config = settings(source, distill={"teacher": teacher, "terms": {"vanilla-kd": 1.0}}, train={"checkpoint_every": 3})
    (tmp_path / "config.json").write_text(json.dumps(config))
    distil_apart(tmp_path / "whole", tmp_path / "config.json", 0)
    events = json.loads((tmp_path / "whole.events").read_text())
    for event in ("step 1", "step 4", "rename checkpoints/step-000006.tmp", "mkdir model.tmp"):
        killed = tmp_path / f"killed-{events.index(event)}"
        distil_apart(killed, tmp_path / "config.json", events.index(event) + 1)
        distil_apart(killed, tmp_path / "config.json", 0, resume=True)
        assert bits(killed) == bits(tmp_path / "whole")


@pytest.mark.parametrize(
    ("app", "lines"),
    [
        (
            {"name": "classification", "mode": "multi-label"},
            [f"{one} {two} w{i}\t{label}" for i in range(6) for one, two, label in (
                ("good", "quick", "pos,fast"), ("good", "long", "pos"), ("bad", "quick", "fast"), ("bad", "long", ""))],
        ),
        ({"name": "classification", "mode": "regression"}, [f"{'good ' * (i % 4)}w{i}\t{i % 4}" for i in range(1, 25)]),
    ],
    ids=["multi-label", "regression"],
)  # fmt: skip
def test_several_labels_and_numbers_distil(app: dict[str, str], lines: list[str], tmp_path: Path) -> None:
    source = tmp_path / "train.tsv"
    source.write_text("\n".join(["text\tlabel", *lines]) + "\n", "utf-8")
    teacher = train_teacher(tmp_path / "teacher", str(source), app=app)
    run = distil(
        tmp_path / "run",
        str(source),
        teacher,
        {"vanilla-kd": 1.0, "probes": 0.5},
        distill={"labels": 0.0, "augment": {"random-deletion": {}}},
        app=app,
        train={"epochs": 12, "lr": 5e-3},
    )
    assert losses(run)[-1]["vanilla-kd"] < 0.5 * losses(run)[0]["vanilla-kd"]
    assert len(run.predict(["good quick", "bad"])) == 2


@pytest.mark.parametrize("app", ["classification", "matching"])
@pytest.mark.parametrize("terms", [{"vanilla-kd": 1.0, "pkd": 1.0}, {"tinybert": 1.0}])
def test_pairs_distil(app: str, terms: dict[str, float], tmp_path: Path) -> None:
    source = write_rows(tmp_path / "train.tsv", 24, labels=("0", "1"), pairs=True)
    teacher = train_teacher(tmp_path / "teacher", source, app=app)
    run = distil(tmp_path / "run", source, teacher, terms, app=app, distill={"augment": {"span-mixing": {}}})
    assert run.results["train_rows"] > 24
    assert len(run.predict([("w1 good", "a film")])) == 1


def test_two_towers_have_no_logits_to_teach_by(tmp_path: Path) -> None:
    app = {"name": "matching", "towers": 2}
    source = write_rows(tmp_path / "train.tsv", 24, labels=("0", "1"), pairs=True)
    teacher = train_teacher(tmp_path / "teacher", source, app=app)
    message = refused(tmp_path / "run", source, teacher, app=app)
    assert message == "vanilla-kd compares logits, and the head gives only cosine, first, second."
    assert not (tmp_path / "run").exists()


DISTILLER = """
import torch
from et_core.hooks import hookimpl
from et_core.interfaces import Distiller, Term

ET_API = 1


@hookimpl
def et_register_distillers(register):
    register("acme-first", "acme_first:First", summary="The first logit")


class First(Distiller):
    def record(self, teacher, batch):
        return {"first": teacher.outputs["logits"][:, 0]}

    def count(self, batch):
        return torch.tensor(float(len(batch)))

    def forward(self, student, recorded, batch, *, progress=0.0):
        apart = student.outputs["logits"][:, 0] - recorded["first"]
        return Term(apart.square().sum(), self.count(batch))
"""


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[str]:
    yield from plugin_file(tmp_path / "acme_first.py", DISTILLER)


def test_a_distiller_in_a_plugin_file_draws_a_student_to_its_teacher(
    acme: str, source: str, teacher: str, tmp_path: Path
) -> None:
    file = {"plugins": {"files": [acme]}}
    run = distil(tmp_path / "run", source, teacher, {"acme-first": 2.0}, **file, train=LONG)
    assert run.config.distill.terms == {"acme-first/acme-first": 2.0}
    assert losses(run)[-1]["acme-first"] < 0.5 * losses(run)[0]["acme-first"]


def test_distillers_of_one_short_name_keep_apart(source: str, teacher: str, tmp_path: Path) -> None:
    files = plugin_file(
        tmp_path / "acme_second.py", DISTILLER.replace("acme-first", "vanilla-kd").replace("acme_first", "acme_second")
    )
    terms = {"et-adabert/vanilla-kd": 0.5, "acme-second/vanilla-kd": 0.5}
    for file in files:
        run = distil(tmp_path / "run", source, teacher, terms, plugins={"files": [file]}, train={"epochs": 1})
        assert {"et-adabert.vanilla-kd", "acme-second.vanilla-kd"} <= losses(run)[0].keys()


def test_a_projection_is_trained_with_the_student_and_not_saved(source: str, teacher: str, tmp_path: Path) -> None:
    """The student is half as wide as its teacher, so that pkd has a projection."""
    run = distil(tmp_path / "run", source, teacher, {"pkd": 1.0}, train={"checkpoint_every": 1})
    states = sorted((run.path / "checkpoints").glob("step-*/tensors.safetensors"))
    early, late = (load_file(path)["model.distillers.0.project.weight"] for path in (states[0], states[-1]))
    assert early.shape == (64, 32)
    assert not (early == late).all()
    assert not any("project" in name for path in (run.path / "model").glob("*.safetensors") for name in load_file(path))


def test_the_command_line_distils(source: str, teacher: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(json.dumps(settings(source, train={"max_steps": 2})))
    terms = [f"distill.teacher={teacher}", "distill.terms={vanilla-kd: 1.0}"]
    command = ["distill", str(tmp_path / "run.yaml"), f"output={tmp_path / 'run'}", *terms, "--resume"]
    done = run_module("et_core", *command)
    assert done.returncode == 0, done.stderr
    assert f"et predict {tmp_path / 'run'}" in done.stdout
    assert len(losses(api.load(tmp_path / "run"))) == 2


def test_a_teacher_that_held_out_other_rows_is_said_to_have_seen_this_dev_set(source: str, tmp_path: Path) -> None:
    taught = train_teacher(tmp_path / "teacher", source, data={"dev": 0.25}, train={"epochs": 1})
    given: dict[str, Any] = {"data": {"dev": 0.25}, "train": {"epochs": 1}}
    same = distil(tmp_path / "same", source, taught, **given)
    other = distil(tmp_path / "other", source, taught, **{**given, "train": {"epochs": 1, "seed": 7}})
    assert not any("held out" in note for note in same.results["notes"])
    assert [note for note in other.results["notes"] if "held out" in note] == [
        f"the teacher in {tmp_path / 'teacher'} held out other rows of data.train than this run, and has learned from "
        "most of its dev set: its figures there are too good. Set data.dev=0.25 and train.seed=42 as it did, or name a "
        "file as data.dev."
    ]
