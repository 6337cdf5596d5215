"""What a step of the search minimises, against the formulas written out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from et_adabert.search.efficiency import Efficiency
from et_adabert.search.objective import AdaBertSearch
from et_adabert.search.scores import draw, without_none
from et_core.data import PretrainedTokenizer
from et_core.interfaces import Batch, Inputs, LossSpec, Model, Step, Text, build_backbone
from et_core.registry import registry
from et_core.sources import resolve
from et_core.training import Lesson

SMALL = {"embedding_size": 12, "hidden_size": 8, "max_positions": 64, "dropout": 0.0, "max_cells": 4}


@pytest.fixture
def objective() -> AdaBertSearch:
    folder = resolve("bert-tiny-random@zoo").tokenizer
    assert folder is not None
    tokenizer = PretrainedTokenizer.load(folder)
    torch.manual_seed(0)
    backbone = build_backbone("adabert-supernet", SMALL, tokenizer=tokenizer)
    head = registry("heads").create("et-appzoo/pooled-linear", hidden_size=8, num_outputs=3, dropout=0.0)
    model = Model(backbone, {"main": head})
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    distiller = registry("distillers").create("et-adabert/vanilla-kd")
    return AdaBertSearch(
        model=model,
        losses={"main": LossSpec("et-core/cross-entropy").build()},
        lessons=[Lesson("vanilla-kd", 0.8, distiller, {})],
        apps={"main": SimpleNamespace(reads_pairs=False)},
        tokenizer=tokenizer,
        teachers=[],
        label_weight=0.2,
        temperature=1.0,
    )


@pytest.fixture
def batch() -> Batch:
    mask = torch.arange(7) < torch.tensor([7, 4, 2, 5])[:, None]
    ids = torch.randint(5, 1000, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    targets = {"label": torch.tensor([0, 2, 1, 1]), "vanilla-kd/logits": logits}
    return Batch(Inputs((Text(ids, mask),)), targets, torch.arange(4))


def a_step(phase: str, index: int = 5) -> Step:
    return Step(index, 10, phase, np.random.default_rng(0), lambda tensor: tensor)


def test_the_loss_is_the_weighted_sum_of_labels_knowledge_and_efficiency(
    objective: AdaBertSearch, batch: Batch
) -> None:
    net = objective.supernet
    torch.manual_seed(5)
    terms = objective(batch, a_step("weights"))
    torch.manual_seed(5)
    chosen = draw(net.operation_scores, net.depth_scores, temperature=1.0, all_edges=False)
    features = net.features(net.layers_of(batch.inputs, chosen), want=frozenset())
    logits = objective.model.heads_by_task["main"](features)["logits"].detach().double().numpy()
    teacher = batch.targets["vanilla-kd/logits"].double().numpy()
    labels = batch.targets["label"].numpy()
    cross_entropy = divergence = 0.0
    for row in range(4):
        mine = logits[row] - np.log(np.exp(logits[row]).sum())
        theirs = teacher[row] - np.log(np.exp(teacher[row]).sum())
        cross_entropy -= mine[labels[row]]
        divergence += sum(np.exp(theirs[c]) * (theirs[c] - mine[c]) for c in range(3))
    cost = float(
        Efficiency(objective.model, None, length=8)(without_none(net.operation_scores), net.depth_scores).detach()
    )
    total = sum(term.weight * float(term.sum.detach() / term.count) for term in terms.values())
    assert total == pytest.approx(0.2 * cross_entropy / 4 + 0.8 * divergence / 4 + 4.0 * cost, rel=1e-5)
    share = objective.readings()["search/efficiency_share"]
    assert share == pytest.approx(4.0 * cost / total, rel=1e-5)


def test_depths_get_the_straight_through_gradient_of_what_was_run(objective: AdaBertSearch, batch: Batch) -> None:
    net = objective.supernet
    net.depth_scores.data = torch.tensor([0.0, 0.1, 0.2, 3.0])
    torch.manual_seed(3)
    terms = objective(batch, a_step("architecture"))
    (term,) = (terms[name] for name in ("depth",))
    assert float(term.sum.detach()) == pytest.approx(0.0, abs=1e-6)
    (found,) = torch.autograd.grad(term.sum / term.count, net.depth_scores)
    torch.manual_seed(3)
    chosen = draw(net.operation_scores, net.depth_scores, temperature=1.0, all_edges=False)
    assert chosen.depth > 1
    layers = net.layers_of(batch.inputs, chosen)
    losses = []
    for depth in range(1, chosen.depth + 1):
        seen = objective._seen(replace(layers, states=layers.states[: depth + 1]), batch)
        losses.append(
            sum(
                term.weight * float(term.sum.detach() / term.count)
                for term in objective.terms(seen, batch, a_step("architecture")).values()
            )
        )
    assert chosen.depth_soft is not None
    weights = chosen.depth_soft.detach().double().numpy()
    # d soft_k / d score_j = soft_k (1[k = j] - soft_j), at a temperature of 1.
    expected = np.zeros(4)
    for k in range(4):
        gain = losses[k] - losses[-1] if k < len(losses) else 0.0
        for j in range(4):
            expected[j] += gain * weights[k] * ((k == j) - weights[j])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_counts_are_foretold_for_both_phases(objective: AdaBertSearch, batch: Batch) -> None:
    for phase in ("weights", "architecture"):
        terms = objective(batch, a_step(phase))
        assert objective.counts(batch, phase).keys() == terms.keys()


def test_each_parameter_belongs_to_one_phase(objective: AdaBertSearch) -> None:
    weights, scores = (set(phase.parameters) for phase in objective.phases())
    assert scores == {"model.backbone.operation_scores", "model.backbone.depth_scores"}
    assert not weights & scores
    assert weights | scores == {name for name, _ in objective.named_parameters()}


def test_scores_rest_in_the_first_steps(objective: AdaBertSearch) -> None:
    weights, scores = objective.phases()
    assert [weights.acts(index, 10) for index in (0, 4, 5)] == [True, True, True]
    assert [scores.acts(index, 10) for index in (0, 4, 5)] == [False, False, True]
