"""A distiller from a plugin file trains a student on real rows, by the objective that the kit brings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from et_core import api
from et_core.errors import ConfigError
from et_core.interfaces import Batch, Inputs, Step, Text
from et_core.registry import refresh
from et_core.registry.files import forget_file
from et_core.testing import distilling
from et_core.testing.parts import STAND_INS

DISTILLING = Path(distilling.__file__)
DISTILLERS = """
import torch
from torch import nn
from et_core.hooks import hookimpl
from et_core.interfaces import Distiller, Term

ET_API = 1

@hookimpl
def et_register_distillers(register):
    register("acme-layers", "acme_distillers:Layers", summary="The top layers, at the width of the teacher")
    register("acme-pictures", "acme_distillers:Pictures", summary="What no text has")

class Layers(Distiller):
    wants = frozenset({"layers"})
    per_token = frozenset({"states"})

    def __init__(self, *, student, teacher, scale: float = 1.0):
        super().__init__()
        self.project = nn.Linear(student.backbone.hidden_size, teacher.backbone.hidden_size)
        self.scale = scale

    def record(self, teacher, batch):
        return {"states": teacher.features.extra["layers"][-1]}

    def count(self, batch):
        return batch.inputs.texts[0].mask.sum()

    def forward(self, student, recorded, batch, *, progress=0.0):
        errors = self.project(student.features.extra["layers"][-1]) - recorded["states"]
        return Term(self.scale * (errors.square().mean(-1) * batch.inputs.texts[0].mask).sum(), self.count(batch))

class Pictures(Layers):
    wants = frozenset({"pictures"})
"""


def write_rows(path: Path, names: tuple[str, str] = ("neg", "pos"), *, count: int = 48, seed: int = 0) -> Path:
    """Texts of 3 to 7 words, in which one word says which label they have."""
    rng = np.random.default_rng(seed)
    lines = ["text\tlabel"]
    for row in range(count):
        words = [f"w{number}" for number in rng.integers(0, 12, int(rng.integers(3, 8)))]
        words[int(rng.integers(len(words)))] = ("dull", "bright")[row % 2]
        lines.append(f"{' '.join(words)}\t{names[row % 2]}")
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def config(folder: Path, output: str, model: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {
        "app": "stand-in-labels",
        "model": {"ref": "stand-in-text@init", **model},
        "data": {"train": str(write_rows(folder / f"{output}.tsv"))},
        "train": {"epochs": 12, "batch_size": 12, "lr": 0.01, "precision": "fp32", "log_every": 1},
        "plugins": {"files": [str(STAND_INS), str(DISTILLING), str(folder / "acme_distillers.py")]},
        "output": str(folder / output),
        **sections,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the distillers and a run that teaches."""
    folder = tmp_path_factory.mktemp("distilling")
    file = folder / "acme_distillers.py"
    file.write_text(DISTILLERS, "utf-8")
    api.train(config(folder, "teacher", {"hidden_size": 24, "num_layers": 3}))
    yield folder
    forget_file(file)
    refresh()


def distil(folder: Path, output: str, objective: dict[str, Any], **sections: Any) -> Any:
    tokenizer = str(folder / "teacher" / "model@local")
    settings = {"name": "stand-in-distillation", "teacher": str(folder / "teacher"), **objective}
    return api.train(config(folder, output, {"tokenizer": tokenizer}, objective=settings, **sections))


def test_a_student_is_drawn_to_its_teacher(folder: Path) -> None:
    terms = {"acme-layers": 0.5}
    run = distil(folder, "student", {"terms": terms, "options": {"acme-layers": {"scale": 2.0}}, "loss_weight": 0.25})
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    for term in ("loss/acme-layers", "loss/main"):
        assert lines[-1][term] < 0.5 * lines[0][term]
    for line in lines:
        assert line["loss"] == pytest.approx(line["loss/acme-layers"] + line["loss/main"], rel=1e-5)
    assert run.bundle.model.backbone.hidden_size == 16
    assert api.load(run.path).predict(["w1 bright w2"])[0].prediction == "pos"


def test_the_teacher_is_frozen_and_the_student_is_the_result(folder: Path) -> None:
    student = api.load(folder / "teacher").bundle
    app = student.apps["main"]
    objective = distilling.Distillation(
        model=student.model,
        losses={"main": app.loss().build()},
        apps=student.apps,
        tokenizer=student.tokenizer,
        teacher=str(folder / "teacher"),
        terms={"acme-layers": 1.0},
    ).train()
    ids = torch.tensor([[5, 6, 7]])
    batch = Batch(Inputs((Text(ids, ids > 0),)), {"label": torch.tensor([1])}, torch.tensor([0]))
    terms = objective(batch, Step(0, 1, "main", np.random.default_rng(0), lambda tensor: tensor))
    sum(term.sum for term in terms.values()).backward()
    trained = {name.split(".")[0] for name, tensor in objective.named_parameters() if tensor.grad is not None}
    assert trained == {"model", "distillers"}
    assert not objective.teacher.training
    assert objective.result() is student.model
    assert {name: float(term.count) for name, term in terms.items()} == {"main": 1, "acme-layers": 3}
    assert objective.counts(batch, "main") == {name: term.count for name, term in terms.items()}


def test_weights_and_options_scale_a_term(folder: Path) -> None:
    first = {}
    for output, objective in {
        "one": {"terms": {"acme-layers": 1.0}},
        "weighed": {"terms": {"acme-layers": 3.0}},
        "scaled": {"terms": {"acme-layers": 1.0}, "options": {"acme-layers": {"scale": 3.0}}},
        "unlabelled": {"terms": {"acme-layers": 1.0}, "loss_weight": 0.0},
    }.items():
        run = distil(folder, output, objective, train={"max_steps": 1, "precision": "fp32", "log_every": 1})
        first[output] = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[0])
    once = first["one"]["loss/acme-layers"]
    assert first["weighed"]["loss/acme-layers"] == pytest.approx(3 * once, rel=1e-5)
    assert first["scaled"]["loss/acme-layers"] == pytest.approx(3 * once, rel=1e-5)
    assert first["one"]["loss/main"] > 0 == first["unlabelled"]["loss/main"]


def test_the_command_line_trains_a_student(folder: Path) -> None:
    objective = f"{{name: stand-in-distillation, teacher: {folder / 'teacher'}, terms: {{acme-layers: 1.0}}}}"
    arguments = (
        "app=stand-in-labels",
        f"model={{ref: stand-in-text@init, tokenizer: {folder / 'teacher' / 'model@local'}}}",
        f"data.train={write_rows(folder / 'rows.tsv')}",
        "train.max_steps=3",
        "train.precision=fp32",
        f"plugins.files=[{STAND_INS},{DISTILLING},{folder / 'acme_distillers.py'}]",
        f"objective={objective}",
        f"output={folder / 'by-command'}",
    )
    command = [sys.executable, "-m", "et_core", "train", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    lines = (folder / "by-command" / "metrics.jsonl").read_text().splitlines()
    assert "loss/acme-layers" in json.loads(lines[-1])


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"terms": {}}, "objective.terms is empty: nothing would be distilled"),
        ({"terms": {"acme-layers": 1.0}, "options": {"acme-layer": {}}}, "objective.options has 'acme-layer', which"),
        (
            {"terms": {"acme-layers": 1.0}, "options": {"acme-layers": {"scales": 2}}},
            "objective.options.acme-layers.scales is not an argument of acme-layers (acme-distillers 0). "
            "Did you mean 'scale'? Arguments: scale.",
        ),
        (
            {"terms": {"acme-pictures": 1.0}},
            "the distiller 'acme-pictures' wants pictures of the student, whose family 'stand-ins/stand-in-text' "
            "provides attentions, layers, pooled, queries-keys-values, tokens.",
        ),
    ],
)
def test_what_cannot_be_distilled_is_refused(folder: Path, objective: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        distil(folder, "refused", objective)
    assert message in str(caught.value)


def test_a_teacher_of_other_labels_is_refused(folder: Path) -> None:
    rows = write_rows(folder / "other.tsv", ("bad", "good"))
    with pytest.raises(ConfigError) as caught:
        distil(folder, "refused", {"terms": {"acme-layers": 1.0}}, data={"train": str(rows)})
    assert str(caught.value) == (
        f"the teacher in {folder / 'teacher'} learned 2 labels: neg, pos; the student learns 2 labels: bad, good."
    )


def test_a_teacher_of_other_tokens_is_refused(folder: Path) -> None:
    objective = {
        "name": "stand-in-distillation",
        "teacher": str(folder / "teacher"),
        "terms": {"acme-layers": 1.0},
    }
    rows = write_rows(folder / "others.tsv", count=24, seed=5)
    with pytest.raises(ConfigError) as caught:
        api.train(config(folder, "refused", {}, objective=objective, data={"train": str(rows)}))
    assert f"Let the student use its tokenizer: model.tokenizer={folder / 'teacher'}/model@local" in str(caught.value)
