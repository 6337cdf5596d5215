"""Backbones are checked with whatever they accept: two texts, a decoder's side, pictures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from et_core.interfaces import Inputs
from et_core.registry import plugins, refresh
from et_core.testing import BackboneConformance, CheckFailed, HeadConformance, Status
from et_core.testing.backbone.inputs import InputMaker
from et_core.testing.head.features import FeatureMaker, real_outputs, tensors_of
from et_core.testing.parts import use_stand_ins

SOUND = ("form-decoder", "form-either", "form-picture", "stand-in-text", "stand-in-texts")
IN_A_PROCESS = "it_loads_in_a_new_process"


@pytest.fixture(autouse=True)
def forms() -> Iterator[None]:
    plugins().add_file(Path(__file__).with_name("backbone_forms.py"))
    use_stand_ins()
    yield
    refresh()


class Fixed(BackboneConformance):
    """Of a family whose tokenizer only comes with a checkpoint."""

    name = "form-either"

    @classmethod
    def component(cls) -> type:
        return type("Component", (super().component(),), {"tokenizer": "fixed-words"})


class Brought(BackboneConformance):
    name = "bert"
    tokenizer = "bert-tiny-random@zoo"


class Plain(HeadConformance):
    name = "stand-in-pooled"


@cache
def suite(name: str) -> type[BackboneConformance]:
    return type("Suite", (BackboneConformance,), {"name": name, "loads_weights": False})


def maker(*accepts: str) -> InputMaker:
    image = (lambda number: torch.full((3,), float(number))) if "image" in accepts else None
    marks = {"turn": 3} if "marks" in accepts else {}
    return InputMaker(frozenset(accepts), 50, 0, tuple(range(5, 50)), segments=2, marks=marks, image=image)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_backbone_of_any_form_passes(name: str) -> None:
    found = suite(name)
    for check in found.checks().values():
        if check.name != IN_A_PROCESS or name == "form-picture":
            outcome = found().run(check)
            assert outcome.status in (Status.PASSED, Status.SKIPPED), (check.name, outcome.error)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("form-leaks", "padding decoder by 5 tokens moves tokens of row 0"),
        ("form-second", "padding texts.1 by 5 tokens moves pooled of row 0"),
    ],
)
def test_the_padding_of_each_text_is_checked(name: str, found: str) -> None:
    outcome = suite(name)().run(BackboneConformance.checks()["padding_changes_nothing"])
    assert found in str(outcome.error)


def test_without_text_nothing_is_padded_and_enough_is_left() -> None:
    skipped = {
        check.name: check.reason_to_skip(suite("form-picture")()) for check in BackboneConformance.checks().values()
    }
    assert skipped["padding_changes_nothing"] == "it accepts no text, so nothing is padded"
    assert skipped["its_processor_makes_images_fit"] is None
    assert sum(reason is None for reason in skipped.values()) >= BackboneConformance.minimum


def test_a_tokenizer_that_cannot_be_fitted_is_asked_for() -> None:
    plugins().add_file(Path(__file__).with_name("fixed_words.py"))
    outcome = Fixed().run(Fixed.checks()["evaluation_is_deterministic"])
    assert isinstance(outcome.error, CheckFailed)
    assert 'Set on the suite: tokenizer = "REF"' in str(outcome.error)


def test_a_reference_brings_the_tokenizer() -> None:
    assert Brought.its_tokenizer().vocab_size == 2000


def test_a_row_is_the_same_in_every_batch() -> None:
    made = maker("text", "marks", "image", "decoder")
    alone, among = made.stack([made.row(2, 4, 3)]), made.batch((9, 2), (1, 1), (4, 3))
    assert among.texts[0].mask[2].tolist() == [True] * 4 + [False] * 5
    for name, tensor in alone.flatten().items():
        row = among.flatten()[name][2]
        assert torch.equal(tensor[0], row[: len(tensor[0])])


def test_garbage_lies_under_the_mask_alone() -> None:
    made = maker("text", "marks", "decoder")
    plain, spoilt = made.batch((9, 2), (2, 9)), made.garbage(made.batch((9, 2), (2, 9)))
    for name in ("texts.0", "decoder"):
        mask, before, after = (_of(inputs, f"{name}.{part}") for inputs, part in _parts(plain, spoilt))
        assert torch.equal(before[mask], after[mask])
        assert not torch.equal(before[~mask], after[~mask])
    mask = plain.texts[0].mask
    assert torch.equal(plain.marks["turn"][mask], spoilt.marks["turn"][mask])
    assert not torch.equal(plain.marks["turn"], spoilt.marks["turn"])
    assert not torch.equal(plain.texts[0].segments[~mask], spoilt.texts[0].segments[~mask])


def test_padding_of_one_text_leaves_the_other() -> None:
    made = maker("texts")
    padded = made.stack([made.row(0, 4, 6)], extra=3, at="texts.1")
    assert [text.ids.shape[1] for text in padded.texts] == [4, 9]


def test_features_hold_what_is_needed_and_no_more() -> None:
    made = FeatureMaker(frozenset({"layers"}), 16).batch([3, 5])
    assert (made.tokens, made.pooled) == (None, None)
    assert made.mask is not None
    assert tensors_of(made).keys() == {"layers"}
    towers = FeatureMaker(frozenset({"towers", "pooled"}), 16).batch([3, 5])
    assert tensors_of(towers).keys() == {"towers[0]", "towers[1]"}


def test_outputs_of_padded_tokens_are_left_out() -> None:
    features = FeatureMaker(frozenset({"tokens"}), 16).batch([3, 5])
    first, second = real_outputs({"spans": torch.zeros(2, 5, 5), "logits": torch.zeros(2, 5, 4)}, features)
    assert [list(first[name].shape) for name in ("spans", "logits")] == [[3, 3], [3, 4]]
    assert [list(second[name].shape) for name in ("spans", "logits")] == [[5, 5], [5, 4]]


def test_a_head_of_another_plugin_is_checked_as_it_comes() -> None:
    assert [o.status for o in map(Plain().run, Plain.checks().values())].count(Status.PASSED) == 14


def _parts(plain: Inputs, spoilt: Inputs) -> list[tuple[Inputs, str]]:
    return [(plain, "mask"), (plain, "ids"), (spoilt, "ids")]


def _of(inputs: Inputs, name: str) -> torch.Tensor:
    return inputs.flatten()[name]
