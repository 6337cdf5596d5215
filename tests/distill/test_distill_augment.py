"""More training rows: made once for a seed, labelled by the teacher, none that is there already."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from et_core import api
from et_core.errors import EtError
from et_core.testing.parts import STAND_INS
from tests.distill.tools import bits, cached, distil, losses, plugin_file, refused, stopped_at, train_teacher

AUGMENT: dict[str, Any] = {"random-deletion": {"copies": 2, "rate": 0.3}}


def rows_in(folder: Path) -> list[dict[str, str]]:
    (path,) = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def augmented(folder: Path, *arguments: Any, augment: Any = None, **sections: Any) -> Any:
    return distil(folder, *arguments, distill={"augment": augment or AUGMENT}, **sections)


def test_new_rows_have_the_labels_that_the_teacher_predicts(
    source: str, teacher: str, own_cache: Path, tmp_path: Path
) -> None:
    run = augmented(tmp_path / "run", source, teacher)
    rows = rows_in(own_cache / "labelled")
    predicted = api.load(teacher.removesuffix("@local")).predict([row["text"] for row in rows])
    assert [row["label"] for row in rows] == [prediction.prediction for prediction in predicted]
    assert {row["label"] for row in rows} == {"neg", "pos"}
    assert run.results["train_rows"] == 36 + len(rows)
    assert f"{36 + len(rows):,}, {len(rows):,} of them new" in run.report.read_text("utf-8")
    assert losses(run)[-1]["main"] != 0


def test_no_new_row_is_one_that_is_there_or_another_new_one(
    source: str, teacher: str, own_cache: Path, tmp_path: Path
) -> None:
    augmented(tmp_path / "run", source, teacher, augment={"random-deletion": {"copies": 12, "rate": 0.01}})
    made = [row["text"] for row in rows_in(own_cache / "augmented")]
    old = [line.split("\t")[0] for line in Path(source).read_text("utf-8").splitlines()[1:]]
    assert 36 < len(made) < 12 * 36
    assert not set(made) & set(old)
    assert len(set(made)) == len(made)
    assert all(len(text.split()) >= 3 for text in made)


def test_rows_are_the_same_for_the_same_seed_and_made_once(
    source: str, teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        monkeypatch.setenv("ET_CACHE_DIR", str(tmp_path / f"cache-{name}"))
        augmented(tmp_path / name, source, teacher, train={"seed": seed})
        made[name] = rows_in(tmp_path / f"cache-{name}" / "labelled")
    assert made["first"] == made["again"] != made["other"]
    assert bits(tmp_path / "first") == bits(tmp_path / "again")
    monkeypatch.setenv("ET_CACHE_DIR", str(tmp_path / "cache-first"))
    before = {kind: cached(kind) for kind in ("augmented", "labelled", "encoded")}
    augmented(tmp_path / "cached", source, teacher, train={"seed": 1})
    assert {kind: cached(kind) for kind in before} == before
    assert bits(tmp_path / "cached") == bits(tmp_path / "first")


def test_an_augmented_run_goes_on(source: str, teacher: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"train": {"checkpoint_every": 4}}
    augmented(tmp_path / "whole", source, teacher, **given)
    with stopped_at(6), pytest.raises(RuntimeError):
        augmented(tmp_path / "broken", source, teacher, **given)
    augmented(tmp_path / "broken", source, teacher, resume=True, **given)
    assert bits(tmp_path / "broken") == bits(tmp_path / "whole")


def test_rows_of_several_augmenters_come_together(source: str, teacher: str, own_cache: Path, tmp_path: Path) -> None:
    both = {"random-deletion": {}, "span-mixing": {"copies": 2}}
    augmented(tmp_path / "run", source, teacher, augment=both)
    assert 2 * 36 < len(rows_in(own_cache / "labelled")) <= 3 * 36


def test_where_no_copy_differs_it_is_said(tmp_path: Path) -> None:
    source = tmp_path / "words.tsv"
    rows = [f"{word}{i}\t{label}" for i in range(8) for word, label in (("good", "pos"), ("bad", "neg"))]
    source.write_text("\n".join(["text\tlabel", *rows]) + "\n", "utf-8")
    teacher = train_teacher(tmp_path / "teacher", str(source), train={"epochs": 1})
    message = refused(tmp_path / "run", str(source), teacher, distill={"augment": AUGMENT})
    assert message == (
        f"distill.augment makes no new row of {source}: no copy differs. Leave it out, or raise its rate."
    )


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"random-deletion": {"rate": 2}}, "rate is 2. It is a share of the words: above 0 and at most 1."),
        (
            {"random-deletion": {"copies": 0}},
            "distill.augment.random-deletion.copies is 0: expected a whole number above 0.",
        ),
        (
            {"random-deletion": {"copies": "many"}},
            "distill.augment.random-deletion.copies is 'many': expected a whole number.",
        ),
        (
            {"random-deletion": {"rates": 0.2}},
            "distill.augment.random-deletion.rates is not an argument of random-deletion (et-adabert 0.1.0). "
            "Did you mean 'rate'? Arguments: rate.",
        ),
        ({"masked-lm": {}}, "masked-lm needs the option model: a masked language model, such as bert-base-en@zoo."),
    ],
)
def test_bad_options_are_refused(
    augment: dict[str, Any], message: str, source: str, teacher: str, tmp_path: Path
) -> None:
    assert refused(tmp_path / "run", source, teacher, distill={"augment": augment}) == message
    assert not (tmp_path / "run").exists()


def test_an_unknown_augmenter_is_refused_with_the_nearest(source: str, teacher: str, tmp_path: Path) -> None:
    with pytest.raises(EtError, match=r"unknown augmenter 'random-deletions'.\nDid you mean 'random-deletion'"):
        distil(tmp_path / "run", source, teacher, distill={"augment": {"random-deletions": {}}})


PLUGIN = """
from et_core.hooks import hookimpl
from et_core.interfaces import Augmenter

ET_API = 1


@hookimpl
def et_register_augmenters(register):
    register("acme-shout", "acme_shout:Shout", summary="Ends in the vocabulary's size")


class Shout(Augmenter):
    def __init__(self, tokenizer, *, mark: str = "!"):
        self._end = f" {mark}{tokenizer.vocab_size}"

    def augment(self, rows, rng):
        return [tuple(text + self._end for text in row) for row in rows]
"""


@pytest.fixture
def shout(tmp_path: Path) -> Iterator[str]:
    yield from plugin_file(tmp_path / "acme_shout.py", PLUGIN)


def test_an_augmenter_in_a_plugin_file_gets_the_teacher_s_tokenizer(
    shout: str, source: str, teacher: str, own_cache: Path, tmp_path: Path
) -> None:
    run = augmented(
        tmp_path / "run", source, teacher, augment={"acme-shout": {"mark": "?"}}, plugins={"files": [shout]}
    )
    size = api.load(teacher.removesuffix("@local")).bundle.tokenizer.vocab_size
    assert all(row["text"].endswith(f" ?{size}") for row in rows_in(own_cache / "labelled"))
    assert run.results["train_rows"] == 72


def test_an_app_that_makes_no_labels_of_predictions_is_refused(source: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"app": "stand-in-labels", "plugins": {"files": [str(STAND_INS)]}}
    model = {"ref": "stand-in-text@init", "hidden_size": 24}
    teacher = train_teacher(tmp_path / "teacher", source, model=model, train={"epochs": 1}, **given)
    small = {"ref": "stand-in-text@init", "hidden_size": 8}
    message = refused(tmp_path / "run", source, teacher, distill={"augment": AUGMENT}, model=small, **given)
    assert message == (
        "distill.augment: Labels makes no labels of predictions, so a teacher cannot label new rows. Leave it out."
    )
    assert "vanilla-kd" in losses(distil(tmp_path / "plain", source, teacher, model=small, **given))[0]
