"""Which parameters an optimiser moves, how fast and with which decay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from et_core.errors import ConfigError
from et_core.interfaces import Phase
from et_core.training.groups import freeze, make_optimizer
from tests.seams.tools import bag_objective, distance, fit, settings, split_of, store_of, weights, word_examples

BLOCK = ["model.backbone.layers.0.0.bias", "model.backbone.layers.0.0.weight"]
EMBEDDINGS = [f"model.backbone.embeddings.{name}" for name in ("norm.bias", "norm.weight", "words.weight")]


def groups(objective: torch.nn.Module, optimizer: torch.optim.Optimizer, key: str) -> dict[str, float]:
    """The value of *key* for each parameter that the optimiser moves."""
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    return {names[id(p)]: group[key] for group in optimizer.param_groups for p in group["params"]}


def frozen(*patterns: str) -> list[str]:
    objective = bag_objective()
    freeze(objective, patterns)
    return sorted(name for name, parameter in objective.named_parameters() if not parameter.requires_grad)


def test_biases_and_norms_do_not_decay() -> None:
    objective = bag_objective()
    decay = groups(objective, make_optimizer(objective, Phase(), settings(weight_decay=0.1)), "weight_decay")
    assert set(decay) == {name for name, _ in objective.named_parameters()}
    none = {name for name, value in decay.items() if value == 0}
    assert none == {name for name in decay if name.endswith(".bias") or "norm" in name}
    assert {value for name, value in decay.items() if name not in none} == {0.1}


def test_each_layer_learns_at_a_fraction_of_the_one_above() -> None:
    objective = bag_objective()
    rates = groups(objective, make_optimizer(objective, Phase(), settings(lr=1.0, layer_decay=0.5)), "lr")
    assert rates["model.heads.main.linear.weight"] == 1.0
    assert rates["model.backbone.pooler.weight"] == 1.0
    assert rates["model.backbone.layers.1.0.weight"] == 0.5
    assert rates["model.backbone.layers.0.0.bias"] == 0.25
    assert rates["model.backbone.embeddings.words.weight"] == 0.125
    assert rates["model.backbone.embeddings.norm.weight"] == 0.125


def test_without_layer_decay_all_learn_alike() -> None:
    objective = bag_objective()
    assert set(groups(objective, make_optimizer(objective, Phase(), settings(lr=0.3)), "lr").values()) == {0.3}


def test_a_phase_overrides_the_settings_of_the_run() -> None:
    objective = bag_objective()
    phase = Phase("heads", ("*.heads.*",), optimizer="sgd", lr=0.7, weight_decay=0.3)
    optimizer = make_optimizer(objective, phase, settings(lr=0.1))
    assert isinstance(optimizer, torch.optim.SGD)
    assert groups(objective, optimizer, "lr") == {f"model.heads.main.linear.{n}": 0.7 for n in ("weight", "bias")}
    assert groups(objective, optimizer, "weight_decay")["model.heads.main.linear.weight"] == 0.3


def test_options_of_the_optimizer_reach_it() -> None:
    train = settings(optimizer={"name": "adamw", "betas": [0.8, 0.95], "eps": 1e-6})
    optimizer = make_optimizer(bag_objective(), Phase(), train)
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.8, 0.95), 1e-6)


def test_a_phase_that_moves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        make_optimizer(bag_objective(), Phase("search", ("alphas*",)), settings())
    assert str(caught.value) == "the phase 'search' moves no parameter: alphas* matches none that trains."


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("backbone", None),
        ("model.backbone", None),
        ("blocks.0", BLOCK),
        ("backbone.layers.0", BLOCK),
        ("*.layers.0.*", BLOCK),
        ("embeddings", EMBEDDINGS),
        ("embeddings*", EMBEDDINGS),
        ("backbone.embeddings.*", EMBEDDINGS),
        ("embeddings.norm", EMBEDDINGS[:2]),
        ("heads", ["model.heads.main.linear.bias", "model.heads.main.linear.weight"]),
    ],
)
def test_freeze_understands_prefixes_patterns_and_blocks(pattern: str, expected: list[str] | None) -> None:
    if expected is None:
        expected = sorted(n for n, _ in bag_objective().named_parameters() if n.startswith("model.backbone."))
    assert frozen(pattern) == expected


def test_block_one_is_not_block_ten() -> None:
    objective = bag_objective(num_layers=11)
    freeze(objective, ["blocks.1"])
    still = {n.split(".")[3] for n, p in objective.named_parameters() if not p.requires_grad}
    assert still == {"1"}


def test_several_patterns_add_up() -> None:
    assert frozen("embeddings", "blocks.0") == sorted([*EMBEDDINGS, *BLOCK])


def test_a_pattern_without_a_match_names_the_parts() -> None:
    with pytest.raises(ConfigError) as caught:
        frozen("embedings")
    assert str(caught.value) == (
        "train.freeze: 'embedings' matches no parameter. Did you mean 'embeddings'? "
        "Parts: backbone, blocks, embeddings, heads, layers, model, pooler."
    )


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^train\.freeze leaves nothing to train\.$"):
        frozen("*")


def test_what_is_frozen_stays_and_the_rest_moves(tmp_path: Path) -> None:
    objective = bag_objective()
    before = weights(objective)
    split = split_of(store_of(tmp_path / "rows.arrow", word_examples()))
    train = settings(max_steps=4, freeze=["embeddings*", "blocks.0"], weight_decay=0.1)
    fit(objective, {"train": split}, tmp_path / "run", train=train)
    after = weights(objective)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == set(before) - set(EMBEDDINGS) - set(BLOCK)


def test_a_part_that_is_frozen_whole_stays_in_evaluation_and_the_rest_trains() -> None:
    objective = bag_objective()
    freeze(objective, ["blocks.0"])
    backbone = objective.train().get_submodule("model.backbone")
    assert [layer.training for layer in backbone.layers] == [False, True]
    assert backbone.training
    freeze(objective, ["backbone"])
    assert not any(module.training for module in objective.train().get_submodule("model.backbone").modules())
    assert objective.get_submodule("model.heads").training


def test_weight_decay_alone_shrinks_matrices_and_leaves_biases(tmp_path: Path) -> None:
    objective = bag_objective()
    optimizer = make_optimizer(objective, Phase(), settings(lr=0.1, weight_decay=0.5))
    before = weights(objective)
    for parameter in objective.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = weights(objective)
    expected = {n: t * (1 - 0.1 * 0.5) if t.ndim > 1 else t for n, t in before.items()}
    assert distance(after, expected) < 1e-7
