"""The loop: exact gradients however a batch is cut, its schedule, when it looks at dev, and what it refuses."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from et_core import api
from et_core.data import collate
from et_core.errors import EtError, Interrupted
from et_core.interfaces import Example, Head, Objective
from et_core.training import Position
from et_core.training.losses import CrossEntropy
from tests.seams.tools import (
    PLUGIN,
    TokenHead,
    bag,
    bag_objective,
    distance,
    fit,
    seam_plugins,
    settings,
    split_of,
    store_of,
    token_examples,
    weights,
    word_examples,
    write_words,
)

STEPS = 6


def plain() -> Objective:
    return bag_objective()


def weighted() -> Objective:
    return bag_objective(loss=CrossEntropy(weights=[0.3, 2.0], smoothing=0.1))


def per_token() -> Objective:
    return bag_objective(head=TokenHead, loss=CrossEntropy(weights=[0.3, 2.0]))


@pytest.mark.parametrize(
    ("make", "examples"), [(plain, word_examples), (weighted, word_examples), (per_token, token_examples)]
)
def test_weights_do_not_depend_on_how_a_batch_is_cut(
    make: Callable[[], Objective], examples: Callable[[], list[Example]], tmp_path: Path
) -> None:
    store = store_of(tmp_path / "rows.arrow", examples())
    train = settings(max_steps=STEPS, optimizer="sgd", lr=0.2)
    ends, losses = [], []
    for name, options in (
        ("whole", {}),
        ("budget", {"token_budget": 30}),
        ("single rows", {"token_budget": 1}),
        ("parts", {"parts": 3}),
        ("uneven parts", {"parts": 5}),
    ):
        objective = make()
        done = fit(objective, {"train": split_of(store, **options)}, tmp_path / name, train=train)
        ends.append(weights(objective))
        losses.append(done.losses)
    assert distance(ends[0], weights(make())) > 1e-3
    for end, loss in zip(ends[1:], losses[1:], strict=True):
        assert distance(ends[0], end) < 1e-6
        assert loss == pytest.approx(losses[0], abs=1e-5)


def test_the_budget_really_cuts_the_batch(tmp_path: Path) -> None:
    store = store_of(tmp_path / "rows.arrow", word_examples())
    turn = next(split_of(store, token_budget=30).turns(0))
    assert len(turn.parts) > 2
    assert all(part.inputs.texts[0].ids.numel() <= 30 for part in turn.parts)
    assert sum(len(part) for part in turn.parts) == turn.rows == 12
    assert sum(part.tokens for part in turn.parts) == turn.tokens
    assert len(next(split_of(store, parts=5).turns(0)).parts) >= 4


def test_a_step_is_the_same_whenever_training_began(tmp_path: Path) -> None:
    split = split_of(store_of(tmp_path / "rows.arrow", word_examples(50)))
    from_start = split.turns(0)
    all_rows = [[part.rows.tolist() for part in next(from_start).parts] for _ in range(12)]
    for step in (3, 5, 11):
        assert [part.rows.tolist() for part in next(split.turns(step)).parts] == all_rows[step]
    epoch = [row for parts in all_rows[: split.steps_per_epoch] for part in parts for row in part]
    assert sorted(epoch) == list(range(50))


def test_padding_changes_nothing_in_bert() -> None:
    from transformers import BertConfig, BertModel

    from et_bert.encoder import BertBackbone

    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    backbone = BertBackbone(BertModel(BertConfig(**sizes)), marks={"history": 3}).eval()
    short = {"texts.0.ids": np.arange(2, 7), "marks.history": np.arange(5) % 3}
    long = {"texts.0.ids": np.arange(1, 30), "marks.history": np.arange(29) % 3}
    torch.nn.init.normal_(backbone.marks["history"].weight)
    want = frozenset({"attentions", "layers"})
    with torch.inference_mode():
        alone = backbone(collate([Example(short)], pad_id=0).inputs, want=want)
        beside = backbone(collate([Example(short), Example(long)], pad_id=0).inputs, want=want)
    torch.testing.assert_close(alone.pooled[0], beside.pooled[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(alone.tokens[0], beside.tokens[0, :5], atol=1e-5, rtol=0)
    torch.testing.assert_close(alone.extra["layers"][1][0], beside.extra["layers"][1][0, :5], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        alone.extra["attentions"][1][0], beside.extra["attentions"][1][0, :, :5, :5], atol=1e-5, rtol=0
    )
    assert not beside.extra["attentions"][1][0, :, :, 5:].any()


def moved(tmp_path: Path, **values: Any) -> float:
    objective = bag_objective()
    before = weights(objective)
    split = split_of(store_of(tmp_path / "rows.arrow", word_examples()))
    train = settings(max_steps=1, optimizer="sgd", lr=1.0, weight_decay=0.0, **values)
    fit(objective, {"train": split}, tmp_path / f"run-{values['clip_norm']}", train=train)
    after = weights(objective)
    return math.sqrt(sum(float((after[name] - before[name]).square().sum()) for name in before))


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    free = moved(tmp_path, clip_norm=None)
    assert free > 0.2
    assert moved(tmp_path, clip_norm=0.1) == pytest.approx(0.1, rel=1e-3)
    assert moved(tmp_path, clip_norm=100.0) == pytest.approx(free, rel=1e-5)


def test_warmup_rises_to_the_peak_and_falls_to_zero(tmp_path: Path) -> None:
    split = split_of(store_of(tmp_path / "rows.arrow", word_examples()))
    train = settings(max_steps=10, warmup=4, schedule="linear", lr=1.0)
    lines = fit(bag_objective(), {"train": split}, tmp_path / "run", train=train).lines
    rates = [line["lr"] for line in lines]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_warmup_below_one_is_a_share_of_the_steps(tmp_path: Path) -> None:
    split = split_of(store_of(tmp_path / "rows.arrow", word_examples()))
    train = settings(max_steps=10, warmup=0.2, schedule="cosine", lr=1.0)
    rates = [line["lr"] for line in fit(bag_objective(), {"train": split}, tmp_path / "run", train=train).lines]
    assert rates == pytest.approx([0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8))])


def test_log_lines_count_steps_epochs_rows_and_average_over_their_interval(tmp_path: Path) -> None:
    store = store_of(tmp_path / "rows.arrow", word_examples(50))
    each = fit(bag_objective(), {"train": split_of(store)}, tmp_path / "a", train=settings(max_steps=8)).lines
    some = fit(
        bag_objective(), {"train": split_of(store)}, tmp_path / "b", train=settings(max_steps=8, log_every=3)
    ).lines
    assert [line["step"] for line in each] == list(range(1, 9))
    assert [line["step"] for line in some] == [3, 6, 8]
    assert [line["epoch"] for line in some] == [0.6, 1.2, 1.6]
    losses = [line["loss"] for line in each]
    expected = [sum(losses[:3]) / 3, sum(losses[3:6]) / 3, sum(losses[6:]) / 2]
    assert [line["loss"] for line in some] == pytest.approx(expected, rel=1e-5)
    assert set(each[0]) == {"step", "epoch", "loss", "lr", "grad_norm", "tokens_per_second", "rows_per_second"}
    assert each[0]["tokens_per_second"] > each[0]["rows_per_second"] > 0


def test_training_stops_after_max_steps_or_after_its_epochs(tmp_path: Path) -> None:
    store = store_of(tmp_path / "rows.arrow", word_examples(50))
    ends = [
        fit(
            bag_objective(), {"train": split_of(store)}, tmp_path / str(n), train=settings(log_every=100, **values)
        ).position
        for n, values in enumerate([{"max_steps": 7, "epochs": 1}, {"epochs": 2}, {"epochs": 0.5}, {"epochs": 0.01}])
    ]
    assert [end.step for end in ends] == [7, 10, 3, 1]
    assert ends[1].rows == 100
    assert ends[1].tokens == 2 * int(store.lengths.sum())
    assert ends[1].seconds > 0


def scores(*values: float) -> tuple[Callable[[], dict[str, float]], list[float]]:
    """An evaluation that gives *values* in turn, and the list of those it has given."""
    given: list[float] = []
    rest: Iterator[float] = iter(values)

    def evaluate() -> dict[str, float]:
        given.append(next(rest))
        return {"score": given[-1]}

    return evaluate, given


def run_with_scores(tmp_path: Path, *values: float, **options: Any) -> tuple[Position, list[float], list[Position]]:
    evaluate, given = scores(*values)
    saved: list[Position] = []
    done = fit(
        bag_objective(),
        {"train": split_of(store_of(tmp_path / "rows.arrow", word_examples()))},
        tmp_path / "run",
        train=settings(**options),
        evaluate=evaluate,
        save=lambda position: saved.append(Position(**vars(position))),
    )
    return done.position, given, saved


def test_patience_stops_after_evaluations_without_a_better_one(tmp_path: Path) -> None:
    position, given, saved = run_with_scores(tmp_path, 0.5, 0.7, 0.6, 0.7, 0.9, max_steps=20, eval_every=2, patience=2)
    assert given == [0.5, 0.7, 0.6, 0.7]
    assert (position.step, position.best_step, position.best_value) == (8, 4, 0.7)
    assert [entry.misses for entry in saved] == [0, 0, 1, 2]


def test_dev_is_looked_at_each_so_many_steps_and_at_the_end(tmp_path: Path) -> None:
    _, given, saved = run_with_scores(tmp_path, 1, 2, 3, 4, max_steps=7, eval_every=3)
    assert given == [1, 2, 3]
    assert [entry.step for entry in saved] == [3, 6, 7]


def test_checkpoints_may_be_more_frequent_than_evaluations(tmp_path: Path) -> None:
    _, given, saved = run_with_scores(tmp_path, 1, 2, max_steps=8, eval_every="epoch", checkpoint_every=3)
    assert given == [1, 2]
    assert [entry.step for entry in saved] == [3, 4, 6, 8]


def test_dev_is_looked_at_without_dropout_and_training_goes_on_with_it(tmp_path: Path) -> None:
    objective = bag_objective()
    modes: list[bool] = []

    def evaluate() -> dict[str, float]:
        modes.append(objective.training)
        return {"score": 0.0}

    split = split_of(store_of(tmp_path / "rows.arrow", word_examples()))
    fit(objective, {"train": split}, tmp_path / "run", train=settings(max_steps=2, eval_every=1), evaluate=evaluate)
    assert modes == [False, False]
    assert objective.training


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_signal_during_the_last_evaluation_stops_the_run_after_it_is_saved(score: float, tmp_path: Path) -> None:
    objective = bag_objective()
    saved: list[int] = []

    def evaluate() -> dict[str, float]:
        signal.raise_signal(signal.SIGTERM)
        return {"score": score}

    split = split_of(store_of(tmp_path / "rows.arrow", word_examples()))
    with pytest.raises(Interrupted, match="stopped at step 2; a checkpoint is saved") as caught:
        fit(
            objective,
            {"train": split},
            tmp_path / "run",
            train=settings(max_steps=2, eval_every=2),
            evaluate=evaluate,
            save=lambda position: saved.append(position.step),
        )
    assert caught.value.signal_number == signal.SIGTERM
    assert saved == [2]


def test_a_part_that_is_frozen_whole_stays_in_evaluation() -> None:
    objective = bag_objective()
    objective.teacher = bag(dropout=0.5).requires_grad_(False)
    objective.dropout = torch.nn.Dropout(0.5)
    objective.train()
    assert (objective.training, objective.model.training, objective.dropout.training) == (True, True, True)
    assert not any(module.training for module in objective.teacher.modules())


def test_a_metric_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    position, _, _ = run_with_scores(tmp_path, math.nan, 0.2, math.nan, 0.1, max_steps=4, eval_every=1)
    assert (position.best_step, position.best_value) == (2, 0.2)


class Poisoned(Head):
    """A head whose logits are not numbers from its third call on."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls = 0

    def forward(self, features: Any, *, positions: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        self.calls += 1
        logits = self.inner(features)["logits"]
        return {"logits": logits * math.inf if self.calls >= 3 else logits}


def test_a_gradient_that_is_not_finite_ends_the_run_too(tmp_path: Path) -> None:
    objective = bag_objective()
    objective.model.heads["main"].linear.weight.register_hook(lambda gradient: gradient * math.inf)
    split = split_of(store_of(tmp_path / "rows.arrow", word_examples()))
    with pytest.raises(EtError, match=r"^the gradient norm is (nan|inf) at step 1\. Lower train\.lr"):
        fit(objective, {"train": split}, tmp_path / "run", train=settings(max_steps=3, log_every=1))


@pytest.mark.parametrize("log_every", [1, 10])
def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(log_every: int, tmp_path: Path) -> None:
    objective = bag_objective()
    objective.model.heads["main"] = Poisoned(objective.model.heads["main"])
    saved: list[int] = []
    split = split_of(store_of(tmp_path / "rows.arrow", word_examples()))
    with pytest.raises(EtError) as caught:
        fit(
            objective,
            {"train": split},
            tmp_path / "run",
            train=settings(max_steps=10, checkpoint_every=2, log_every=log_every, eval_every=None),
            save=lambda position: saved.append(position.step),
        )
    step = 3 if log_every == 1 else 4
    assert str(caught.value) == (
        f"the loss is nan at step {step}. Lower train.lr, raise train.warmup, or set train.precision=fp32; "
        "the last checkpoint is intact."
    )
    assert saved == [2]


def test_keep_best_brings_the_best_weights_back(tmp_path: Path) -> None:
    # The labels of dev are the wrong way round: the more is learned, the worse it gets.
    dev = write_words(tmp_path / "dev.tsv", 30, seed=1)
    dev.write_text(dev.read_text().replace("pos", "other").replace("neg", "pos").replace("other", "neg"))
    config: dict[str, Any] = {
        "app": {"name": "classification", "head": "pooled-linear"},
        "model": "seam-bag@init",
        "data": {"train": str(write_words(tmp_path / "train.tsv", 40)), "dev": str(dev)},
        "train": {
            "max_steps": 12,
            "eval_every": 4,
            "batch_size": 8,
            "lr": 0.05,
            "keep_best": "loss",
            "precision": "fp32",
        },
        "plugins": {"files": [str(PLUGIN)]},
    }
    with seam_plugins():
        best = api.train(config, {"output": str(tmp_path / "best")})
        last = api.train(config, {"output": str(tmp_path / "last"), "train.keep_best": None})
    losses = {line["step"]: line["dev/loss"] for line in best.folder.read_metrics() if "dev/loss" in line}
    step = min(losses, key=lambda entry: losses[entry])
    assert step == 4
    assert best.results["best_step"] == step
    assert best.metrics["loss"] == pytest.approx(losses[step])
    assert f"the weights are those of step {step}, the best on dev of 12 steps" in best.results["notes"]
    checkpoint = load_file(best.folder.checkpoints / f"step-{step:06d}" / "tensors.safetensors")
    kept = {name: tensor for name, tensor in checkpoint.items() if name.startswith("model.model.")}
    stored = load_file(best.folder.model / "model.safetensors") | load_file(best.folder.model / "extra.safetensors")
    assert {name.removeprefix("model.model."): value.tolist() for name, value in kept.items()} == {
        name: value.tolist() for name, value in stored.items()
    }
    assert last.results["best_step"] is None
    assert last.metrics["loss"] == pytest.approx(losses[12])
    state = json.loads((best.folder.checkpoints / "step-000012" / "state.json").read_text())["state"]
    assert state["position"]["best_step"] == step
