"""A check finds each of the things it looks for, and says which."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from et_core.interfaces import Features, Head
from et_core.registry import plugins, refresh
from et_core.registry.files import import_file
from et_core.testing import BackboneConformance, CheckFailed, HeadConformance

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def branches() -> Iterator[None]:
    for name in ("mutants_backbone.py", "backbone_branches.py", "mutants_head.py"):
        plugins().add_file(HERE / name)
    yield
    refresh()


@cache
def suite(name: str) -> type[BackboneConformance]:
    sound: Any = import_file(HERE / "mutants_backbone.py").SOUND
    return type("Suite", (sound,), {"name": f"branch-{name}"})


@pytest.mark.parametrize(
    ("name", "check", "found"),
    [
        ("misspelt", "outputs_have_their_shapes", "provides names 'token', which is none of attentions"),
        ("half", "outputs_have_their_shapes", "pooled is [2, 16] of torch.float16, not [2, H] of torch.float32"),
        ("wholemask", "outputs_have_their_shapes", "mask is [2, 7] of torch.int64, not [2, 7] of torch.bool"),
        ("fewlayers", "extras_are_as_features_says", "attentions is a tuple of 1; 2 blocks make it a tuple of 2"),
        ("rawmaps", "extras_are_as_features_says", "in attentions[0] a token gives 2.000 to the real tokens, not 1"),
        ("flatparts", "extras_are_as_features_says", "queries[0] is [2, 7, 16], not"),
        ("clamps", "max_length_is_true", "max_length is 40, but 41 tokens are taken without an error"),
        ("leaksmarks", "garbage_under_the_mask_changes_nothing", "garbage under the mask moves pooled of row 0"),
        ("noprocessor", "its_processor_makes_images_fit", "processor() gives None"),
        ("asksforname", "it_builds_offline", "building it calls getaddrinfo('example.org', 443)"),
        ("outsideblocks", "blocks_are_its_layers_lowest_first", "blocks()[2], a Linear, is no module of the backbone"),
        ("uncalledblocks", "blocks_are_its_layers_lowest_first", "blocks()[0], a LayerNorm, is not called in forward"),
        ("sharedblocks", "blocks_are_its_layers_lowest_first", "blocks()[1] holds parts.weight, which blocks()[0]"),
        ("smalltable", "token_table_is_looked_up_with_ids", "token_table() has 40 rows, the tokenizer"),
        (
            "sharedtable",
            "token_table_is_looked_up_with_ids",
            "changing rows that another text reads moves tokens",
        ),
        ("readsunknown", "token_table_is_looked_up_with_ids", "the rows of ids that no text reads moves tokens"),
        ("losesconfig", "it_loads_in_a_new_process", "a new process fails: ValueError: config.json names no width"),
        ("oddconfig", "its_config_names_the_family", "config({}) cannot be written as JSON"),
    ],
)
def test_each_finding_is_named(name: str, check: str, found: str) -> None:
    outcome = suite(name)().run(BackboneConformance.checks()[check])
    assert isinstance(outcome.error, CheckFailed), outcome
    assert found in str(outcome.error)


def test_what_no_weight_shows_is_read_from_the_config_too() -> None:
    sound = suite("forgetsscale")
    own = type("Own", (sound,), {"config": {**sound.config, "scale": 2.0}})
    outcome = own().run(BackboneConformance.checks()["training_can_start_from_it"])
    assert "starting from a saved model moves tokens of row 0" in str(outcome.error)


def test_an_extra_of_its_own_has_to_be_given() -> None:
    own = type("Own", (suite("withholds"),), {"own_extras": frozenset({"sums"})})
    outcome = own().run(BackboneConformance.checks()["outputs_have_their_shapes"])
    assert str(outcome.error) == "where sums is wanted, Features.extra does not hold it."


class TakesLabels(Head):
    needs = frozenset({"pooled"})

    def __init__(self, *, hidden_size: int, **spec: Any) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(hidden_size, 3)

    def forward(  # type: ignore[override]
        self, features: Features, *, positions: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        return {"logits": self.linear(features.pooled)}


class AddsUpInTraining(TakesLabels):
    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:  # type: ignore[override]
        outputs = super().forward(features)
        return {**outputs, "loss": outputs["logits"].mean()} if self.training else outputs


class Unknown(TakesLabels):
    needs = frozenset({"pooled", "sums"})


@pytest.mark.parametrize(
    ("cls", "check", "found"),
    [
        (TakesLabels, "it_computes_no_loss", "forward takes labels besides features and positions"),
        (AddsUpInTraining, "it_computes_no_loss", "of 4 rows loss is []"),
        (Unknown, "needs_is_honest", "needs names 'sums', which is none of attentions"),
    ],
)
def test_each_finding_about_a_head_is_named(
    cls: type[Head], check: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(import_file(HERE / "mutants_head.py").HEADS, "sound", cls)
    sound: Any = import_file(HERE / "mutants_head.py").SOUND
    outcome = sound().run(HeadConformance.checks()[check])
    assert isinstance(outcome.error, CheckFailed), outcome
    assert found in str(outcome.error)
