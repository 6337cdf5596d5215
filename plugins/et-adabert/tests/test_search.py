"""The network over all choices, what is derived of it, and what its search is paid for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from et_adabert.search.efficiency import (
    Efficiency,
    Target,
    expected_cells,
    expected_edge_cost,
    operation_costs,
    operation_flops,
    operation_sizes,
    read_target,
)
from et_adabert.search.measure import parameters_of
from et_adabert.search.scores import Chosen, best, draw, entropy
from et_adabert.search.supernet import Supernet
from et_adabert.student.backbone import AdaBert
from et_adabert.student.cell import EDGES, OPERATIONS, Cell
from et_adabert.student.operations import make_operation
from et_core.data import PretrainedTokenizer
from et_core.errors import ConfigError
from et_core.interfaces import Inputs, Model, Text, build_backbone
from et_core.registry import registry
from et_core.sources import resolve

SMALL = {"embedding_size": 12, "hidden_size": 8, "max_positions": 64}
NONE = OPERATIONS.index("none")


@pytest.fixture(scope="module")
def tokenizer() -> PretrainedTokenizer:
    folder = resolve("bert-tiny-random@zoo").tokenizer
    assert folder is not None
    return PretrainedTokenizer.load(folder)


def supernet(tokenizer: PretrainedTokenizer, cells: int = 4, seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    backbone = build_backbone("adabert-supernet", {**SMALL, "max_cells": cells}, tokenizer=tokenizer)
    assert isinstance(backbone, Supernet)
    for parameter in backbone.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return backbone


def model_of(backbone: Supernet) -> Model:
    head = registry("heads").create("et-appzoo/pooled-linear", hidden_size=backbone.hidden_size, num_outputs=2)
    return Model(backbone, {"main": head})


def texts(*lengths: tuple[int, ...]) -> Inputs:
    found = []
    for number, rows in enumerate(lengths):
        mask = torch.arange(max(rows)) < torch.tensor(rows)[:, None]
        ids = torch.randint(5, 1000, mask.shape, generator=torch.Generator().manual_seed(number)) * mask
        found.append(Text(ids, mask))
    return Inputs(tuple(found))


def derived(backbone: Supernet, chosen: Chosen, tokenizer: PretrainedTokenizer) -> AdaBert:
    options = {**SMALL, "cell": chosen.cell.written(), "num_cells": chosen.depth}
    found = build_backbone("adabert", options, tokenizer=tokenizer)
    assert isinstance(found, AdaBert)
    backbone.derive(chosen, found)
    return found


@pytest.mark.parametrize("inputs", [texts((5, 9, 3)), texts((5, 9, 3), (11, 2, 6))], ids=["text", "pair"])
@pytest.mark.parametrize("seed", range(3))
def test_the_derived_network_is_the_supernet_restricted_to_its_choices(
    tokenizer: PretrainedTokenizer, inputs: Inputs, seed: int
) -> None:
    backbone = supernet(tokenizer, seed=seed)
    chosen = draw(backbone.operation_scores, backbone.depth_scores, temperature=1.0, all_edges=False)
    alone = derived(backbone, chosen, tokenizer)
    for mode in (True, False):
        backbone.train(mode)
        alone.train(mode)
        torch.manual_seed(seed)
        layers = backbone.layers_of(inputs, chosen)
        whole = backbone.features(layers, want=frozenset({"layers"}))
        torch.manual_seed(seed)
        found = alone(inputs, want=frozenset({"layers"}))
        torch.testing.assert_close(found.pooled, whole.pooled, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.tokens, whole.tokens, rtol=1e-5, atol=1e-5)
        assert len(found.extra["layers"]) == chosen.depth + 1  # type: ignore[arg-type]


def test_each_node_keeps_its_two_strongest_edges_and_none_is_never_kept() -> None:
    for seed in range(20):
        scores = torch.randn(len(EDGES), len(OPERATIONS), generator=torch.Generator().manual_seed(seed))
        probabilities = scores.softmax(-1).numpy()
        chosen = best(scores, torch.tensor([0.0, 2.0, 1.0]))
        assert chosen.depth == 2
        for node, kept in enumerate(chosen.nodes):
            into = [edge for edge, (_, target) in enumerate(EDGES) if target == 2 + node]
            strength = {edge: np.delete(probabilities[edge], NONE).max() for edge in into}
            expected = sorted(sorted(into, key=lambda edge: -strength[edge])[:2])
            assert [edge for edge, _ in kept] == expected
            for edge, operation in kept:
                assert operation != NONE
                assert probabilities[edge, operation] == strength[edge]


def test_draws_follow_the_softmax_of_the_scores() -> None:
    torch.manual_seed(0)
    scores = torch.zeros(len(EDGES), len(OPERATIONS))
    scores[:, 0] = 2.0
    depths = torch.tensor([0.0, 1.0, -1.0])
    counts, rounds = np.zeros(3), 2000
    firsts = 0
    for _ in range(rounds):
        chosen = draw(scores, depths, temperature=1.0, all_edges=True)
        counts[chosen.depth - 1] += 1
        firsts += sum(operation == 0 for node in chosen.nodes for _, operation in node)
    np.testing.assert_allclose(counts / rounds, depths.softmax(0).numpy(), atol=0.04)
    assert abs(firsts / rounds / len(EDGES) - float(scores[0].softmax(0)[0])) < 0.02


def test_a_draw_runs_only_what_was_drawn(tokenizer: PretrainedTokenizer) -> None:
    backbone = supernet(tokenizer).train()
    ran = []
    for cell_number, cell in enumerate(backbone.stack):
        for edge in range(len(EDGES)):
            for number in range(len(OPERATIONS)):
                place = (cell_number, edge, number)
                cell.operation(edge, number).register_forward_hook(  # type: ignore[operator]
                    lambda *_, place=place: ran.append(place)
                )
    chosen = draw(backbone.operation_scores, backbone.depth_scores, temperature=1.0, all_edges=False)
    backbone.layers_of(texts((4, 6)), chosen)
    pairs = [pair for node in chosen.nodes for pair in node]
    assert ran == [(cell, *pair) for cell in range(chosen.depth) for pair in pairs]


def test_gradients_reach_the_scores_of_what_was_drawn(tokenizer: PretrainedTokenizer) -> None:
    backbone = supernet(tokenizer).train()
    chosen = draw(backbone.operation_scores, backbone.depth_scores, temperature=1.0, all_edges=False)
    layers = backbone.layers_of(texts((4, 6)), chosen)
    backbone.features(layers, want=frozenset()).pooled.square().sum().backward()  # type: ignore[union-attr]
    gradient = backbone.operation_scores.grad
    assert gradient is not None
    drawn = {edge for node in chosen.nodes for edge, _ in node}
    moved = {edge for edge in range(len(EDGES)) if gradient[edge].abs().sum() > 0}
    assert moved == drawn


def test_sizes_are_those_of_the_real_operations() -> None:
    sizes = operation_sizes(16).tolist()
    assert sizes == [sum(p.numel() for p in make_operation(name, 16).parameters()) for name in OPERATIONS]


def test_costs_add_up_to_one_and_follow_size_and_flops() -> None:
    costs = operation_costs(128)
    assert float(costs.sum()) == pytest.approx(1.0)
    size, flops = operation_sizes(128).numpy(), operation_flops(128).numpy()
    np.testing.assert_allclose(costs.numpy(), (size / size.sum() + flops / flops.sum()) / 2, rtol=1e-6)
    assert costs[2] > costs[1] > costs[0] > costs[OPERATIONS.index("max3")] > costs[NONE] == 0


def test_the_efficiency_term_is_the_formula(tokenizer: PretrainedTokenizer) -> None:
    backbone = supernet(tokenizer)
    term = Efficiency(model_of(backbone), None, length=8)(backbone.operation_scores, backbone.depth_scores)
    scores, depths = (t.detach().double().numpy() for t in (backbone.operation_scores, backbone.depth_scores))
    costs = operation_costs(8).double().numpy()
    expected_k = sum((k + 1) * np.exp(depths[k]) / np.exp(depths).sum() for k in range(len(depths)))
    edges = [sum(np.exp(row[o]) / np.exp(row).sum() * costs[o] for o in range(len(row))) for row in scores]
    assert float(term.detach()) == pytest.approx(expected_k / len(depths) * np.mean(edges), rel=1e-5)
    assert float(expected_cells(backbone.depth_scores).detach()) == pytest.approx(expected_k, rel=1e-5)
    assert float(expected_edge_cost(backbone.operation_scores, operation_costs(8)).detach()) == pytest.approx(
        np.mean(edges), rel=1e-5
    )


def test_a_target_costs_nothing_once_it_is_kept(tokenizer: PretrainedTokenizer) -> None:
    backbone = supernet(tokenizer)
    model = model_of(backbone)
    bare = parameters_of(model) - parameters_of(backbone.stack)
    roomy, tight = (
        Efficiency(model, Target({"params": limit}), length=8)(backbone.operation_scores, backbone.depth_scores)
        for limit in (1e9, float(bare))
    )
    assert float(roomy.detach()) == 0
    assert float(tight.detach()) > 0
    tight.backward()
    assert backbone.depth_scores.grad is not None
    assert backbone.depth_scores.grad.abs().sum() > 0


def test_the_expected_parameters_of_a_decided_search_are_those_of_its_network(tokenizer: PretrainedTokenizer) -> None:
    backbone = supernet(tokenizer)
    model = model_of(backbone)
    scores = torch.full((len(EDGES), len(OPERATIONS)), -50.0)
    scores[:, OPERATIONS.index("conv5")] = 50.0
    depths = torch.tensor([-50.0, 50.0, -50.0, -50.0])
    chosen = best(scores, depths)
    alone = Model(derived(backbone, chosen, tokenizer), model.heads_by_task)
    real = parameters_of(alone)
    # The pooling of the whole network has a weight for each of its layers.
    efficiency = Efficiency(model, Target({"params": 1.0}), length=8)
    assert float(efficiency(scores, depths).exp()) == pytest.approx(real, rel=1e-5, abs=4)


@pytest.mark.parametrize(
    ("written", "limits"),
    [
        ({"speedup": 20}, {"latency_ms": 2.0}),
        ({"speedup": "20x"}, {"latency_ms": 2.0}),
        ({"latency_ms": 5}, {"latency_ms": 5.0}),
        ({"params": "5M"}, {"params": 5e6}),
        ({"params": "800k", "latency_ms": 3, "speedup": 10}, {"params": 8e5, "latency_ms": 3.0}),
    ],
)
def test_targets_are_read(written: dict[str, float | str], limits: dict[str, float]) -> None:
    assert read_target(written, teacher_ms=40.0).limits == limits


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"speed": 20}, "search.target.speed is no target. Targets: speedup, latency_ms, params."),
        ({"params": "small"}, "search.target.params is 'small': expected a number above 0, such as 20 or 5M."),
        ({"speedup": 0}, "search.target.speedup is 0: expected a number above 0"),
    ],
)
def test_what_is_no_target_is_refused(written: dict[str, float | str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_target(written, teacher_ms=40.0)
    assert message in str(caught.value)


def test_entropy_says_how_far_a_choice_is_made() -> None:
    assert entropy(torch.zeros(9, 10)) == pytest.approx(1.0)
    assert entropy(1000 * torch.eye(9, 10)) == pytest.approx(0.0, abs=1e-6)


def test_a_fixed_depth_is_never_another(tokenizer: PretrainedTokenizer) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("adabert-supernet", {**SMALL, "num_cells": 3}, tokenizer=tokenizer)
    assert isinstance(backbone, Supernet)
    drawn = {draw(backbone.operation_scores, backbone.depth_scores, temperature=1.0, all_edges=False).depth}
    assert drawn == {3}
    assert not backbone.depth_scores.requires_grad


def test_a_cell_that_was_chosen_reads_as_a_cell() -> None:
    chosen = best(torch.randn(9, 10, generator=torch.Generator().manual_seed(3)), torch.zeros(2))
    assert Cell.read(chosen.cell.written()) == chosen.cell
