"""Which teachers teach what, at which weight, and by whose tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from et_core import api
from tests.distill.tools import STUDENT, bert_calls, bits, distil, losses, refused, train_teacher, write_rows

STILL: dict[str, Any] = {
    "model": {**STUDENT, "dropout": 0.0, "attention_dropout": 0.0},
    "train": {"max_steps": 4, "epochs": 1, "batch_size": 36, "lr": 1e-12, "warmup": 0, "weight_decay": 0.0},
}
"""Four steps over all rows that change nothing, so that only weights that change are seen in the log."""


@pytest.fixture(scope="module")
def second(source: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another teacher of the same task, with words of its own."""
    model = {**STUDENT, "hidden_size": 64, "num_layers": 3, "tokenizer": {"vocab_size": 90}}
    return train_teacher(
        tmp_path_factory.mktemp("others") / "small", source, model=model, train={"epochs": 20, "lr": 1e-2}
    )


def test_no_teacher_runs_once_the_student_learns(source: str, tmp_path: Path) -> None:
    teacher = train_teacher(tmp_path / "teacher", source, train={"epochs": 1, "seed": 5})
    with bert_calls() as seen:
        distil(tmp_path / "run", source, teacher, {"vanilla-kd": 1.0, "tinybert": {"layers": [1, 2]}})
    begin = seen.index((STUDENT["hidden_size"], True))
    assert (64, False) in seen[:begin]
    assert set(seen[begin:]) == {(STUDENT["hidden_size"], True)}


def test_each_of_several_teachers_has_an_equal_share_and_a_name(
    source: str, teacher: str, second: str, tmp_path: Path
) -> None:
    terms = {"vanilla-kd": 0.8}
    both = distil(tmp_path / "both", source, [teacher, second], terms, **STILL)
    assert set(losses(both)[0]) == {"loss", "main", "vanilla-kd@1-sst2", "vanilla-kd@2-small"}
    # Another tokenizer than that of the first teacher would be another student.
    tokenizer = {"model": {**STILL["model"], "tokenizer": f"{teacher.removesuffix('@local')}/model@local"}}
    for name, ref in (("1-sst2", teacher), ("2-small", second)):
        alone = distil(tmp_path / name, source, ref, terms, **{**STILL, **tokenizer})
        assert set(losses(alone)[0]) == {"loss", "main", "vanilla-kd"}
        found = [line[f"vanilla-kd@{name}"] for line in losses(both)]
        assert found == pytest.approx([line["vanilla-kd"] / 2 for line in losses(alone)], rel=1e-5)


def test_weights_go_from_start_to_end(source: str, teacher: str, tmp_path: Path) -> None:
    plain = losses(distil(tmp_path / "plain", source, teacher, **STILL))
    ramps = distil(
        tmp_path / "ramps",
        source,
        teacher,
        {"vanilla-kd": {"start": 1.0, "end": 3.0}},
        distill={"labels": {"start": 1.0, "end": 0.0, "shape": "cosine"}},
        **STILL,
    )
    for share, line, before in zip((0, 0.25, 0.5, 0.75), losses(ramps), plain, strict=True):
        assert line["vanilla-kd"] == pytest.approx((1 + 2 * share) * before["vanilla-kd"], rel=1e-5)
        assert line["loss"] == pytest.approx(line["main"] + line["vanilla-kd"], rel=1e-5)
    labels = [line["main"] / before["main"] for line, before in zip(losses(ramps), plain, strict=True)]
    assert labels == pytest.approx([1.0, 0.853553, 0.5, 0.146447], rel=1e-4)


def test_a_ramp_may_stand_beside_options(source: str, teacher: str, tmp_path: Path) -> None:
    term = {"weight": {"start": 2.0, "end": 2.0}, "temperature": {"start": 4.0, "end": 1.0, "shape": "exponential"}}
    run = distil(tmp_path / "run", source, teacher, {"vanilla-kd": term}, **STILL)
    half = {"weight": 2.0, "temperature": 2.0}
    fixed = distil(tmp_path / "fixed", source, teacher, {"vanilla-kd": half}, **STILL)
    assert losses(run)[2]["vanilla-kd"] == pytest.approx(losses(fixed)[2]["vanilla-kd"], rel=1e-5)
    assert losses(run)[0]["vanilla-kd"] != pytest.approx(losses(fixed)[0]["vanilla-kd"], rel=1e-3)


def test_labels_of_weight_0_teach_nothing(source: str, teacher: str, tmp_path: Path) -> None:
    """Rows whose labels are turned around give the same student."""
    turned = tmp_path / "turned.tsv"
    text = Path(source).read_text("utf-8").replace("\tpos", "\tx").replace("\tneg", "\tpos").replace("\tx", "\tneg")
    turned.write_text(text, "utf-8")
    runs = [distil(tmp_path / str(i), rows, teacher, distill={"labels": 0}) for i, rows in enumerate((source, turned))]
    assert bits(runs[0].path) == bits(runs[1].path)
    assert {line["main"] for line in losses(runs[0])} == {0.0}


def test_a_fresh_student_takes_its_teacher_s_tokenizer_unless_another_is_given(
    source: str, teacher: str, tmp_path: Path
) -> None:
    run = distil(tmp_path / "run", source, teacher)
    taught = api.load(teacher.removesuffix("@local")).bundle.tokenizer
    assert run.bundle.tokenizer.fingerprint() == taught.fingerprint()
    own = distil(tmp_path / "own", source, teacher, model={**STUDENT, "tokenizer": {"vocab_size": 80}})
    assert own.bundle.tokenizer.vocab_size <= 80
    assert losses(own)[-1].keys() == losses(run)[-1].keys()


def test_token_by_token_both_read_the_same_tokens(source: str, teacher: str, tmp_path: Path) -> None:
    path = teacher.removesuffix("@local")
    model = {**STUDENT, "tokenizer": {"vocab_size": 80}}
    assert refused(tmp_path / "run", source, teacher, {"tinybert": 1.0}, model=model) == (
        f"distill.terms.tinybert compares token by token, but the teacher in {path} has another tokenizer than the "
        f"student. Let the student use it: model.tokenizer={path}/model@local"
    )
    assert refused(tmp_path / "run", source, teacher, {"tinybert": 1.0}, data={"max_length": 6}) == (
        f"tinybert compares token by token, but the teacher in {path} cuts texts at another length. "
        "Set data.max_length and data.truncation as in its config.yaml."
    )
    assert refused(tmp_path / "run", source, teacher, {"tinybert": 1.0}, data={"truncation": "left"}) == (
        f"distill.terms.tinybert compares token by token, but the teacher in {path} cuts long texts at the right and "
        "the student at the left. Set data.truncation=right."
    )
    short = distil(tmp_path / "short", source, teacher, data={"max_length": 6, "truncation": "left"})
    assert "vanilla-kd" in losses(short)[0]


def test_pairs_that_one_reads_as_two_texts_are_not_compared_token_by_token(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "pairs.tsv", 16, labels=("0", "1"), pairs=True)
    teacher = train_teacher(tmp_path / "teacher", source)
    model = {"ref": "adabert@init", "cell": "random", "num_cells": 1, "embedding_size": 8, "hidden_size": 8}
    run = distil(tmp_path / "run", source, teacher, {"vanilla-kd": 1.0, "probes": 1.0}, model=model)
    assert "probes" in losses(run)[0]
    message = refused(tmp_path / "refused", source, teacher, {"tinybert": {"attention": False}}, model=model)
    assert message.startswith("distill.terms.tinybert compares token by token, but of the teacher in")


def test_a_student_starts_from_what_its_teacher_knows(source: str, teacher: str, tmp_path: Path) -> None:
    """The embeddings of a fresh adabert, after a step that changes nothing, are those of the teacher, reduced."""
    model = {"ref": "adabert@init", "cell": "random", "num_cells": 1, "embedding_size": 8, "hidden_size": 8}
    still = {**STILL["train"], "max_steps": 1}
    run = distil(tmp_path / "run", source, teacher, model=model, train=still)
    other = distil(tmp_path / "other", source, teacher, model={**model, "embeddings": "random"}, train=still)
    table, drawn = (found.bundle.model.backbone.token_table() for found in (run, other))
    assert table is not None
    assert drawn is not None
    assert (table.weight == drawn.weight).float().mean() < 0.1
    again = distil(tmp_path / "again", source, teacher, model=model, train={**still, "seed": 1})
    assert (table.weight == again.bundle.model.backbone.token_table().weight).float().mean() > 0.9
