"""What an objective, an app and a backbone promise each other is checked before it can train badly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from et_core.data import ReadOptions, encode_rows, open_rows
from et_core.errors import ComponentError
from et_core.interfaces import Batch, Example, Phase, Role, Step, Term
from et_core.training import Supervised
from et_core.training.checks import check_phases
from tests.seams.tools import bag_objective, fit, settings, split_of, store_of, word_examples


def objective_with(**promised: Any) -> Supervised:
    """A sound objective, but for what its methods named in *promised* give."""
    objective = bag_objective()
    objective.__class__ = type(
        "Flawed", (Supervised,), {name: lambda self, value=value: value for name, value in promised.items()}
    )
    return objective


@pytest.mark.parametrize(
    ("promised", "message"),
    [
        ({"splits": {"dev": 1.0}}, "Flawed.splits() gives {'dev': 1.0}. Shares are above 0"),
        ({"splits": {"train": 0.5}}, "Flawed.splits() gives {'train': 0.5}. Shares are above 0"),
        ({"splits": {"train": 1.5, "rest": -0.5}}, "Flawed.splits() gives {'train': 1.5, 'rest': -0.5}."),
        ({"phases": []}, "Flawed.phases() gives none, so nothing would be trained."),
        ({"phases": ["main"]}, "Flawed.phases() gives a str where a Phase is due."),
        ({"phases": [Phase("a.b")]}, "Flawed names a phase 'a.b'. Checkpoints join the name"),
        (
            {"phases": [Phase(after=1.0)]},
            "Flawed: the phase 'main' has after=1.0. It is the share of the steps before it acts, from 0 to below 1.",
        ),
        ({"phases": [Phase(every=0)]}, "Flawed: the phase 'main' has every=0. It acts each so many steps: 1, 2, ..."),
        ({"phases": [Phase(split="search")]}, "the phase 'main' learns from the split 'search', which splits() does"),
        (
            {"phases": [Phase(), Phase()]},
            "Flawed.phases() gives two phases of the name 'main'. Give each its own name.",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_phases_and_splits_that_cannot_be_trained_are_refused(promised: dict[str, Any], message: str) -> None:
    with pytest.raises(ComponentError) as caught:
        check_phases(objective_with(**promised))
    assert message in str(caught.value)


def test_phases_and_splits_that_can_be_trained_pass() -> None:
    check_phases(objective_with())
    check_phases(objective_with(phases=[Phase("a", split="other"), Phase("b")], splits={"train": 0.9, "other": 0.1}))


def train_with(forward: Callable[[Supervised, Batch, Step], Any], folder: Path) -> None:
    objective = bag_objective()
    objective.__class__ = type("Flawed", (Supervised,), {"forward": forward})
    store = store_of(folder / "rows", word_examples(24))
    fit(objective, {"train": split_of(store, token_budget=40)}, folder / "run", train=settings(max_steps=2))


def mean(self: Supervised, batch: Batch, step: Step) -> dict[str, Term]:
    loss, count = self.losses["main"](self.model(batch), batch.targets)
    return {"main": Term(loss / count, torch.ones(()))}


def unannounced(self: Supervised, batch: Batch, step: Step) -> dict[str, Term]:
    term = Supervised.forward(self, batch, step)["main"]
    return {"main": term, "extra": term}


def per_row(self: Supervised, batch: Batch, step: Step) -> dict[str, Term]:
    return {"main": Term(self.model(batch)["logits"].sum(1), torch.as_tensor(len(batch)))}


def detached(self: Supervised, batch: Batch, step: Step) -> dict[str, Term]:
    term = Supervised.forward(self, batch, step)["main"]
    return {"main": Term(term.sum.detach(), term.count)}


def bare(self: Supervised, batch: Batch, step: Step) -> Any:
    return Supervised.forward(self, batch, step)["main"].sum


def untyped(self: Supervised, batch: Batch, step: Step) -> Any:
    return {"main": Supervised.forward(self, batch, step)["main"].sum}


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (mean, "Flawed: the term 'main' has a count of"),
        (unannounced, "the term 'extra' has no count. counts() gives every term of forward; it gave 'main'."),
        (per_row, "Flawed.forward: the term 'main' has a sum of shape ["),
        (detached, "the term 'main' has a sum without a gradient, so it would train nothing."),
        (bare, "Flawed.forward gives a Tensor, not its terms by name: {'loss': Term(...)}."),
        (untyped, "Flawed.forward: the term 'main' is a Tensor. Give Term(sum, count)."),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_terms_that_would_train_wrongly_end_the_first_step(
    forward: Callable[..., Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ComponentError) as caught:
        train_with(forward, tmp_path)
    assert message in str(caught.value)


def test_a_term_that_is_only_logged_needs_no_gradient(tmp_path: Path) -> None:
    def forward(self: Supervised, batch: Batch, step: Step) -> dict[str, Term]:
        term = Supervised.forward(self, batch, step)["main"]
        return {"main": term, "seen": Term(term.sum.detach(), term.count, weight=0.0)}

    def counts(self: Supervised, batch: Batch, phase: str) -> dict[str, Any]:
        count = Supervised.counts(self, batch, phase)["main"]
        return {"main": count, "seen": count}

    objective = bag_objective()
    objective.__class__ = type("Sound", (Supervised,), {"forward": forward, "counts": counts})
    store = store_of(tmp_path / "rows", word_examples(24))
    trained = fit(objective, {"train": split_of(store)}, tmp_path / "run", train=settings(max_steps=2))
    assert trained.position.step == 2


def examples_of(*rows: int) -> list[Example]:
    return [Example({"texts.0.ids": np.arange(3, dtype=np.int32)}, {}, row) for row in rows]


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0, 0, 2), "row 2 stands where row 1 is due"),
        ((0, 1), "2 rows have examples, of 3 that were given"),
        ((1, 0, 2), "row 1 stands where row 0 is due"),
        ((0, 0, 0), "1 rows have examples, of 3 that were given"),
    ],
)
def test_examples_that_do_not_name_their_rows_are_refused(given: tuple[int, ...], said: str, skip_bad: bool) -> None:
    rows = open_rows(
        [{"text": text} for text in "abc"], ReadOptions(), roles={"text": Role(str, "a text")}, need_targets=False
    )
    with pytest.raises(ComponentError) as caught:
        list(encode_rows(rows, lambda chunk: examples_of(*given), skip_bad=skip_bad, owner="Acme"))
    assert str(caught.value).startswith(
        f"Acme encodes 3 rows into {len(given)} examples that do not name them: {said}."
    )


def test_a_row_may_give_several_examples() -> None:
    rows = open_rows(
        [{"text": text} for text in "abc"], ReadOptions(), roles={"text": Role(str, "a text")}, need_targets=False
    )
    (encoded,) = encode_rows(rows, lambda chunk: examples_of(0, 0, 1, 2, 2), skip_bad=False)
    assert [example.row for example in encoded] == [0, 0, 1, 2, 2]
