"""What the suites of losses, distillers and tokenizers say of sound components of another kind and of more flaws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from et_core.registry import plugins, refresh
from et_core.registry.files import forget_file, import_file
from et_core.testing import (
    CheckFailed,
    Conformance,
    DistillerConformance,
    LossConformance,
    Status,
    TokenizerConformance,
    run_suite,
)

PLUGIN = """
import torch
from torch.nn import functional as F
from et_core.data import PretrainedTokenizer
from et_core.hooks import hookimpl
from et_core.interfaces import Distiller, Loss, Term

ET_API = 1

@hookimpl
def et_register_losses(register):
    register("kind-pairs", "kinds_plugin:InBatchNegatives", summary="Each text against those of the others")
    register("kind-strange", "kinds_plugin:Strange", summary="Reads what no made-up target holds")

@hookimpl
def et_register_distillers(register):
    register("kind-logits", "kinds_plugin:Logits", summary="Hinton et al. 2015")
    register("kind-attention", "kinds_plugin:Attention", summary="Attention by divergence, of queries and keys")
    register("kind-distances", "kinds_plugin:Distances", summary="Distances between rows, Park et al. 2019")

@hookimpl
def et_register_tokenizers(register):
    register("kind-fixed", "kinds_plugin:Fixed", summary="Cannot be fitted")

class InBatchNegatives(Loss):
    def forward(self, outputs, targets):
        scores = outputs["first"].float() @ outputs["second"].float().mT
        return F.cross_entropy(scores, torch.arange(len(scores)), reduction="sum"), self.count(targets)

    def count(self, targets):
        return torch.tensor(float(len(targets["row"])))

class Strange(InBatchNegatives):
    pass

class Logits(Distiller):
    def __init__(self, *, temperature: float = 2.0):
        super().__init__()
        self.temperature = temperature

    def record(self, teacher, batch):
        return {"logits": teacher.outputs["logits"].float()}

    def count(self, batch):
        return torch.tensor(float(len(batch)))

    def forward(self, student, recorded, batch, *, progress=0.0):
        seen = (student.outputs["logits"].float(), recorded["logits"])
        mine, goal = ((logits / self.temperature).log_softmax(-1) for logits in seen)
        return Term(self.temperature**2 * F.kl_div(mine, goal, reduction="sum", log_target=True), self.count(batch))

class Attention(Distiller):
    wants = frozenset({"queries-keys-values"})
    per_token = frozenset({"queries", "keys"})

    def record(self, teacher, batch):
        queries, keys, _ = teacher.features.extra["queries-keys-values"][-1]
        return {"queries": queries.transpose(1, 2).half(), "keys": keys.transpose(1, 2).half()}

    def count(self, batch):
        return batch.inputs.texts[0].mask.sum()

    def forward(self, student, recorded, batch, *, progress=0.0):
        mask = batch.inputs.texts[0].mask
        seen = student.features.extra["queries-keys-values"][-1][:2]
        mine = self.weights(*seen, mask)
        goal = self.weights(*(recorded[name].transpose(1, 2) for name in ("queries", "keys")), mask)
        return Term(((goal.exp() * (goal - mine)).sum(-1).mean(1) * mask).sum(), self.count(batch))

    def weights(self, queries, keys, mask):
        scores = (queries.float() @ keys.float().mT).float()  # autocast multiplies in bfloat16
        return scores.masked_fill(~mask[:, None, None], -1e9).log_softmax(-1).clamp(min=-100)

class Distances(Distiller):
    def record(self, teacher, batch):
        return {"pooled": teacher.features.pooled.float()}

    def count(self, batch):
        return torch.tensor(float(len(batch) ** 2))

    def forward(self, student, recorded, batch, *, progress=0.0):
        mine, goal = (pooled.float() for pooled in (student.features.pooled, recorded["pooled"]))
        return Term((torch.cdist(mine, mine) - torch.cdist(goal, goal)).square().sum(), self.count(batch))

class Fixed(PretrainedTokenizer):
    trainable = False
"""


@pytest.fixture(scope="module", autouse=True)
def _plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("kinds") / "kinds_plugin.py"
    file.write_text(PLUGIN, "utf-8")
    plugins().add_file(file)
    yield
    forget_file(file)
    refresh()


class Pairs(LossConformance):
    name = "kind-pairs"
    splits = False
    ignores = False

    def outputs(self, rows: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        return {name: torch.randn(rows, 6, generator=rng) for name in ("first", "second")}

    def targets(self, rows: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        return {"row": torch.arange(rows)}


class Loaded(TokenizerConformance):
    name = "kind-fixed"
    ref = "bert-tiny-random@zoo"


def suite(base: type[Conformance], **attributes: Any) -> type[Conformance]:
    return type("Suite", (base,), attributes)


def skipped(suite: type[Conformance]) -> Mapping[str, str]:
    """Why checks are skipped; all others pass."""
    found = list(run_suite(suite))
    assert {outcome.status for outcome in found} <= {Status.PASSED, Status.SKIPPED}, [o.error for o in found if o.error]
    return {outcome.check: outcome.reason for outcome in found if outcome.status is Status.SKIPPED}


def test_a_loss_that_compares_rows_is_checked_without_splits() -> None:
    depends = "splits = False: the rows of a batch depend on each other"
    assert skipped(Pairs) == {
        "a_batch_twice_counts_twice": depends,
        "any_split_adds_up": depends,
        "ignored_labels_add_nothing": "ignores = False: no target of -100 is left out",
    }


def test_a_loss_that_compares_rows_fails_where_it_does_not_say_so() -> None:
    outcome = suite(Pairs, splits=True)().run(LossConformance.checks()["any_split_adds_up"])
    assert "sums of parts of [6, 6] rows add up to" in str(outcome.error)


@pytest.mark.parametrize(
    ("name", "kind"), [("cross-entropy", "index"), ("binary-cross-entropy", "labels"), ("mse", "number")]
)
def test_the_kind_of_target_is_found_by_trying(name: str, kind: str) -> None:
    found: Any = suite(LossConformance, name=f"et-core/{name}")()
    assert found.target_kind() == kind


def test_a_loss_that_takes_no_made_up_target_says_what_to_write() -> None:
    outcome = suite(LossConformance, name="kind-strange")().run(LossConformance.checks()["any_split_adds_up"])
    assert isinstance(outcome.error, CheckFailed)
    assert str(outcome.error).startswith(
        "kind-strange takes none of the made-up outputs and targets. Set target and num_outputs, or write the methods "
        "outputs and targets. Tried: index: KeyError: 'first'; number: "
    )


@pytest.mark.parametrize(
    ("name", "attributes", "reasons"),
    [
        ("kind-logits", {"config": {"temperature": 4.0}}, {"other_sizes_are_bridged"}),
        ("kind-logits", {"other_sizes": True}, set()),
        ("kind-attention", {"other_sizes": True}, set()),
        ("kind-distances", {"other_sizes": True, "splits": False}, {"any_split_adds_up"}),
    ],
)
def test_distillers_of_several_makes_are_sound(name: str, attributes: dict[str, Any], reasons: set[str]) -> None:
    assert skipped(suite(DistillerConformance, name=name, **attributes)).keys() == reasons | {
        "its_own_parameters_learn",
        "the_same_rows_teach_it_the_same",
        "what_it_learns_stays_out_of_what_is_saved",
    }


def test_a_tokenizer_that_cannot_be_fitted_needs_a_reference() -> None:
    outcome = suite(TokenizerConformance, name="kind-fixed")().run(
        TokenizerConformance.checks()["ids_lie_in_the_vocabulary"]
    )
    assert str(outcome.error).startswith(
        "kind-fixed cannot be fitted: set ref to a model reference that brings its files."
    )


def test_a_tokenizer_that_is_loaded_is_not_checked_for_fitting() -> None:
    outcomes = list(run_suite(Loaded))
    reasons = {outcome.check: outcome.reason for outcome in outcomes if outcome.status is Status.SKIPPED}
    assert reasons == dict.fromkeys(
        [name for name in TokenizerConformance.checks() if name.startswith("fitting_")]
        + ["the_fingerprint_changes_with_the_vocabulary"],
        "trainable = False: it cannot be fitted on texts",
    )
    assert next(outcome for outcome in outcomes if outcome.check == "enough_checks_run").status is Status.PASSED


def mutants(kind: str) -> Any:
    path = Path(__file__).with_name(f"mutants_{kind}.py")
    plugins().add_file(path)
    return import_file(path)


@pytest.mark.parametrize(
    ("name", "check", "found"),
    [
        (
            "offsets-through-both",
            "pairs_have_segments_0_then_1",
            "text 1 of a pair has a token at 36:39, which is at 0:3 where the text stands alone",
        ),
        ("offsets-through-both", "the_longer_of_a_pair_is_cut_first", "text 1 of a pair keeps 6 tokens of 15:48 of"),
        ("numbers-on", "one_by_one_equals_a_batch", "alone and among 30 texts, the words differ"),
        ("numbers-segments", "one_by_one_equals_a_batch", "alone and among 30 texts, the segments differ"),
        (
            "takes-what-is-there",
            "missing_and_broken_files_are_refused",
            "half of words.json is loaded as another tokenizer",
        ),
    ],
)
def test_a_tokenizer_with_a_flaw_that_one_text_or_a_whole_file_does_not_show(name: str, check: str, found: str) -> None:
    outcome = mutants("tokenizer").broken(name)().run(TokenizerConformance.checks()[check])
    assert found in str(outcome.error)


@pytest.mark.parametrize(
    ("name", "check", "found"),
    [
        ("learns-padding", "ignored_labels_add_nothing", "the padding at the end of rows gets a gradient in 'logits'"),
        ("reads-padding", "ignored_labels_add_nothing", "with other outputs at the padding of rows"),
        ("counts-padding", "ignored_labels_add_nothing", "the count with padded rows is 68, that without padding 64"),
        ("foretells-padding", "the_count_is_known_from_the_targets", "but forward returns"),
    ],
)
def test_labels_per_token_are_ignored_at_the_end_of_a_row(name: str, check: str, found: str) -> None:
    losses = mutants("loss")
    outcome = losses.broken(name, losses.OverTokens)().run(LossConformance.checks()[check])
    assert found in str(outcome.error)


def test_a_sound_loss_over_tokens_passes() -> None:
    assert skipped(mutants("loss").OverTokens) == {}
