"""What a user is told when distillation cannot begin; the folder of the run is not made."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from et_core import api
from et_core.errors import ConfigError, EtError
from tests.distill.tools import STUDENT, distil, refused, settings, train_teacher, write_rows


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(values: dict[str, Any], call: Any = api.distill) -> str:
    with pytest.raises(EtError) as caught:
        call(values, {"output": "run"}, progress=False)
    assert not Path("run").exists()
    return str(caught.value)


def test_et_distill_wants_a_teacher_and_et_train_none(source: str, teacher: str) -> None:
    plain = settings(source)
    taught = {**plain, "distill": {"teacher": teacher, "terms": {"vanilla-kd": 1.0}}}
    assert said(plain) == (
        "distill.teacher is not set. Write distill.teacher=./runs/NAME@local, a finished run of the same task."
    )
    assert said(taught, api.train) == "distill.teacher is set, which et train does not read. Run it with et distill."
    assert said({**plain, "search": {"target": {"params": "5M"}}}, api.train) == (
        "search is set, which et train does not read. Run it with et distill, or leave it out."
    )
    for other in ({"terms": {"vanilla-kd": 1.0}}, {"labels": 0.5}, {"augment": {"random-deletion": {}}}):
        message = "distill.teacher is not set. Write distill.teacher=./runs/NAME@local, a finished run"
        assert said({**plain, "distill": other}, api.train) == f"{message}."
        assert said({**plain, "distill": other}) == f"{message} of the same task."


def test_a_teacher_is_a_finished_run(source: str, teacher: str) -> None:
    shutil.copytree(teacher.removesuffix("@local"), "teacher")
    assert refused(Path("run"), source, "minilm-l6-en@zoo") == (
        "distill.teacher is 'minilm-l6-en@zoo', which has not learned this task. A teacher is a finished run: "
        "train one with et train, and write ./runs/NAME@local."
    )
    assert refused(Path("run"), source, "./teacher/model@local") == (
        "distill.teacher is './teacher/model@local': teacher/model is no finished run. Did you mean teacher@local?"
    )
    assert refused(Path("run"), source, "./nowhere@local") == (
        "distill.teacher is './nowhere@local': nowhere is no finished run."
    )
    Path("teacher/results.json").unlink()
    assert refused(Path("run"), source, "./teacher@local") == (
        "distill.teacher is './teacher@local': teacher is no finished run. It was stopped: go on with it by --resume."
    )
    assert not Path("run").exists()


def test_a_teacher_with_a_damaged_model_is_refused(source: str, teacher: str) -> None:
    shutil.copytree(teacher.removesuffix("@local"), "teacher")
    weights = Path("teacher/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(EtError, match=r"model\.safetensors"):
        distil(Path("run"), source, "./teacher@local")
    shutil.rmtree("teacher/model")
    assert refused(Path("run"), source, "./teacher@local").startswith("distill.teacher is './teacher@local': teacher")
    assert not Path("run").exists()


def test_a_teacher_does_the_same_task_with_the_same_labels(tmp_path: Path, teacher: str) -> None:
    path = teacher.removesuffix("@local")
    pairs = write_rows(tmp_path / "pairs.tsv", labels=("neg", "pos"), pairs=True)
    assert refused(Path("run"), pairs, teacher, app="matching") == (
        f"the teacher in {path} does another task (app=classification) than the student (matching). "
        "Let both have the same app, or choose another teacher."
    )
    others = write_rows(tmp_path / "others.tsv", labels=("bad", "good"))
    assert refused(Path("run"), others, teacher) == (
        f"the teacher in {path} predicts 2 labels: neg, pos; the student's data has 2 labels: bad, good. "
        "Choose a teacher that was trained on the same labels."
    )
    more = write_rows(tmp_path / "more.tsv", labels=("neg", "pos", "so-so"))
    assert "the student's data has 3 labels: neg, pos, so-so." in refused(Path("run"), more, teacher)
    assert not Path("run").exists()


def test_a_teacher_that_reads_pairs_does_not_teach_one_of_single_texts(source: str, tmp_path: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.tsv", pairs=True)
    teacher = train_teacher(tmp_path / "teacher", pairs, train={"epochs": 1})
    path = teacher.removesuffix("@local")
    remedy = "Choose a teacher that was trained on rows of the same kind."
    assert refused(Path("run"), source, teacher) == (
        f"the teacher in {path} reads pairs of texts; the student's data has single texts. {remedy}"
    )
    single = train_teacher(tmp_path / "single", source, train={"epochs": 1}).removesuffix("@local")
    assert refused(Path("run"), pairs, f"{single}@local") == (
        f"the teacher in {single} reads single texts; the student's data has pairs of texts. {remedy}"
    )
    assert not Path("run").exists()


def test_a_student_is_at_most_as_large_as_its_teacher(source: str, teacher: str) -> None:
    message = refused(Path("run"), source, teacher, model={**STUDENT, "num_layers": 40})
    assert message.startswith("the student has ")
    assert message.endswith(
        f", its teacher in {teacher.removesuffix('@local')} 207,682. "
        "A student is at most as large: choose smaller sizes under model, or a larger teacher."
    )
    assert not Path("run").exists()
    distil(Path("equal"), source, teacher, model="bert-tiny-random@zoo")


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (
            {},
            "distill.terms is empty: nothing would be learned from the teacher. "
            "Write {DISTILLER: WEIGHT}, such as {vanilla-kd: 1.0}; et list distillers shows all.",
        ),
        (
            {"pkd": {"layer": [1]}},
            "distill.terms.pkd.layer is not an argument of pkd (et-adabert 0.1.0). Did you mean 'layers'? "
            "Arguments: layers, reduce.",
        ),
        ({"pkd": {"weight": "much"}}, "distill.terms.pkd.weight is 'much': expected a number or keys start and end."),
        (
            {"pkd": {"layers": [1, 9]}},
            "pkd: layers has 2 of the teacher's layers, [1, 9], for 1 of the student's 2. Give 1.",
        ),
        (
            {"pkd": {"layers": [9]}},
            "pkd: layers is [9], which takes layer 9 of the teacher for one of the student's 2. "
            "The teacher has the layers 1 to 2.",
        ),
        (
            {"vanilla-kd": {"temperature": 0}},
            "vanilla-kd: temperature is 0, by which logits are divided. Give a number above 0.",
        ),
        (
            {"vanilla-kd": {"start": 1, "end": 0, "shape": "exponential"}},
            "distill.terms.vanilla-kd.weight is {'start': 1, 'end': 0, 'shape': 'exponential'}: an exponential ramp "
            "multiplies, so that both of its ends are above 0.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_terms_that_cannot_teach_are_refused(terms: dict[str, Any], message: str, source: str, teacher: str) -> None:
    assert said(settings(source, distill={"teacher": teacher, "terms": terms})) == message


def test_an_unknown_term_is_refused_with_the_nearest(source: str, teacher: str) -> None:
    message = said(settings(source, distill={"teacher": teacher, "terms": {"vanila-kd": 1.0}}))
    assert message.startswith("unknown distiller 'vanila-kd'.\nDid you mean 'vanilla-kd'?")


def test_what_a_family_does_not_provide_is_said(source: str, teacher: str) -> None:
    model = {"ref": "textcnn@init", "embedding_size": 8, "filters": 4}
    assert refused(Path("run"), source, teacher, {"pkd": 1.0}, model=model) == (
        "distill.terms.pkd needs layers of the student, whose family 'et-hcnn/textcnn' provides pooled, tokens. "
        "Leave the term out, or choose another student."
    )


def test_an_objective_that_learns_from_labels_alone_is_refused(source: str, teacher: str) -> None:
    values = settings(source, distill={"teacher": teacher, "terms": {"vanilla-kd": 1.0}}, objective="supervised")
    assert said(values) == (
        "objective=et-core/supervised learns from labels alone, but distill.teacher is set. Leave out one of them."
    )


def test_an_objective_that_only_distils_is_refused_without_a_teacher(source: str) -> None:
    for name in ("distillation", "adabert-search"):
        message = said(settings(source, objective=name), api.train)
        assert message == (
            f"objective=et-{'core' if name == 'distillation' else 'adabert'}/{name} learns from a teacher, and "
            "distill.teacher is not set. Leave the objective out, or set distill.teacher and run et distill."
        )


def test_misspelt_keys_are_told_with_the_right_ones(source: str, teacher: str) -> None:
    for key, meant in (("teachers", "teacher"), ("alpha", "labels"), ("augmentation", "augment"), ("losses", "terms")):
        with pytest.raises(ConfigError, match=rf"^distill.{key} is not a setting. Did you mean distill.{meant}\?$"):
            api.distill(settings(source, distill={key: "x"}), {"output": "run"})
