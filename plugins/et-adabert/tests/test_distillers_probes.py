"""Probes find what a layer of a teacher knows, and find the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from et_adabert.distillers.probes import layer_weights
from et_adabert.distillers.probing import fit_probe
from et_core.config import ComponentConfig
from et_core.errors import ConfigError
from et_core.interfaces import Batch, Features, Head, Inputs, Model, Observed, Text, build_distiller
from et_core.testing.distiller.observed import Sizes, model_of

WIDTH, TOKENS, ROWS = 8, 4, 240


def build(teacher: Model, **options: Any) -> Any:
    config = ComponentConfig(name="et-adabert/probes", options=options)
    student = model_of(Sizes(WIDTH, 2), 3)
    return build_distiller(config, where="distill.terms.probes", student=student, teacher=teacher)


def teacher_of(outputs: int = 3) -> Model:
    return model_of(Sizes(WIDTH, 3), outputs)


def labels_of(kind: str) -> Tensor:
    rng = torch.Generator().manual_seed(5)
    if kind == "single-label":
        return torch.randint(0, 3, (ROWS,), generator=rng)
    if kind == "multi-label":
        return torch.randint(0, 2, (ROWS, 3), generator=rng).float()
    return torch.randn(ROWS, generator=rng)


def shown(labels: Tensor, size: int, *, knows: int = 2) -> Iterator[tuple[Observed, Batch]]:
    """Rows of a teacher of three layers, of which only the layer *knows* tells the labels, in batches of *size*."""
    rng = torch.Generator().manual_seed(7)
    layers = [torch.randn(ROWS, TOKENS, WIDTH, generator=rng) for _ in range(4)]
    told = nn.functional.one_hot(labels, 3).float() if labels.dtype == torch.int64 else labels.view(ROWS, -1)
    layers[knows][:, 0, : told.shape[1]] = 3 * told
    layers[0][:, 1:] *= torch.tensor([1.0, 1.0, 1e3])[:, None]  # the last token is padding
    mask = torch.tensor([True, True, True, False]).expand(ROWS, -1)
    logits = torch.zeros(ROWS, told.shape[1])
    for rows in torch.arange(ROWS).split(size):
        features = Features(mask=mask[rows], extra={"layers": tuple(layer[rows] for layer in layers)})
        ids = torch.ones((len(rows), TOKENS), dtype=torch.long)
        batch = Batch(Inputs((Text(ids, mask[rows]),)), {"label": labels[rows]}, rows)
        yield Observed(features, {"logits": logits[rows]}), batch


def with_layers(seen: Observed, chosen: list[int]) -> Observed:
    """A student whose layers are these of the teacher."""
    layers: Any = seen.features.extra["layers"]
    return Observed(Features(mask=seen.features.mask, extra={"layers": tuple(layers[layer] for layer in chosen)}), {})


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_a_probe_finds_the_layer_that_tells_the_labels_apart(kind: str) -> None:
    labels = labels_of(kind)
    distiller = build(teacher_of(1 if kind == "regression" else 3))
    distiller.fit(shown(labels, 60))
    (seen, batch), *_ = shown(labels, ROWS)
    logits = distiller.record(seen, batch)["logits"]
    assert list(logits.shape) == [ROWS, 4, 1 if kind == "regression" else 3]
    for layer in range(4):
        found = logits[:, layer]
        if kind == "regression":
            share = 1 - float((found[:, 0] - labels).square().mean() / labels.var())
        elif kind == "multi-label":
            share = float(((found > 0) == labels.bool()).float().mean())
        else:
            share = float((found.argmax(-1) == labels).float().mean())
        assert share > 0.99 if layer == 2 else share < 0.75


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_layers_that_know_the_answer_weigh_more(kind: Any) -> None:
    labels = labels_of(kind)
    distiller = build(teacher_of(1 if kind == "regression" else 3))
    distiller.fit(shown(labels, ROWS))
    (seen, batch), *_ = shown(labels, ROWS)
    weights = layer_weights(distiller.record(seen, batch)["logits"], labels, kind)
    assert torch.allclose(weights.sum(1), torch.ones(ROWS))
    assert int(weights.mean(0).argmax()) == 2
    # A layer without an idea of the number is right by chance more often than of a label.
    assert float((weights.argmax(1) == 2).float().mean()) > (0.6 if kind == "regression" else 0.9)


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_the_same_rows_in_other_batches_and_at_another_time_teach_the_same(kind: str) -> None:
    labels = labels_of(kind)
    found = []
    for seed, size in ((0, 60), (1, 60), (2, 17)):
        torch.manual_seed(seed)
        distiller = build(teacher_of(1 if kind == "regression" else 3))
        distiller.fit(shown(labels, size))
        found.append((distiller.weights, distiller.biases))
    for weights, biases in found[1:]:
        assert torch.equal(weights, found[0][0])
        assert torch.equal(biases, found[0][1])


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_a_probe_is_the_minimum_of_its_loss(kind: str) -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(2.0, [0.1, 1.0, 5.0, 0.0], (100, 4))
    labels = labels_of(kind)[:100]
    l2, outputs = 0.05, 1 if kind == "regression" else 3
    weights, biases = fit_probe(torch.tensor(states), labels, kind, outputs, l2)
    logits = states @ weights.numpy().T + biases.numpy()
    wanted = np.eye(3)[labels] if kind == "single-label" else labels.numpy().reshape(100, -1)
    if kind == "single-label":
        powers = np.exp(logits - logits.max(1, keepdims=True))
        errors = (powers / powers.sum(1, keepdims=True) - wanted) / 100
    elif kind == "multi-label":
        errors = (1 / (1 + np.exp(-logits)) - wanted) / wanted.size
    else:
        errors = (logits - wanted) / 100
    spread = np.where(states.std(0) > 0, states.std(0), 1.0)
    slopes = errors.T @ ((states - states.mean(0)) / spread) + l2 * weights.numpy() * spread
    assert np.abs(slopes).max() < 1e-4
    assert np.abs(errors.sum(0)).max() < 1e-4
    assert np.abs(weights.numpy()[:, :3]).max() > 1e-3


def test_what_is_fitted_is_not_saved_and_moves_with_it() -> None:
    distiller = build(teacher_of())
    before = {name: tensor.clone() for name, tensor in distiller.state_dict().items()}
    distiller.fit(shown(labels_of("single-label"), 60))
    assert distiller.state_dict().keys() == before.keys()
    assert all(torch.equal(distiller.state_dict()[name], before[name]) for name in before)
    assert distiller.to(torch.float64).weights.dtype == torch.float64


class Wide(Head):
    """Ends in a product, of which the last linear layer does not tell the width."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, 5)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.inner(features.pooled)[:, :3]}


class Bare(Head):
    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": features.pooled}  # type: ignore[dict-item]


def test_a_head_of_an_unknown_width_is_refused() -> None:
    backbone: Any = teacher_of().backbone
    with pytest.raises(ConfigError) as caught:
        build(Model(backbone, {"main": Bare()}))
    assert str(caught.value) == ("probes need the number of labels, and the teacher's head, Bare, has no linear layer.")
    with pytest.raises(ConfigError) as caught:
        build(Model(backbone, {"one": Wide(), "two": Wide()}))
    assert str(caught.value) == "probes are for one task, and the teacher has 2: one, two."
    with pytest.raises(ConfigError) as caught:
        build(Model(backbone, {"main": Wide()})).fit(shown(labels_of("single-label"), 60))
    assert str(caught.value) == (
        "probes: the teacher gives 3 logits, and the last linear layer of its head 5. "
        "Probes are for heads that end in a linear layer."
    )


def test_probes_need_rows_with_labels() -> None:
    labels = labels_of("single-label")
    unlabelled = ((seen, Batch(batch.inputs, {}, batch.rows)) for seen, batch in shown(labels, 60))
    with pytest.raises(ConfigError, match=r"probes read labels, and the rows have none\. Use pkd"):
        build(teacher_of()).fit(unlabelled)
    with pytest.raises(ConfigError, match="there is no training row to fit them on"):
        build(teacher_of()).fit(iter(()))
    (seen, batch), *_ = shown(labels, 60)
    student = with_layers(seen, [0, 1, 2])
    later = Batch(batch.inputs, {}, batch.rows)
    recorded = {"logits": torch.zeros(60, 4, 3)}
    with pytest.raises(ConfigError, match="Set weighting: none"):
        build(teacher_of())(student, recorded, later)
    assert float(build(teacher_of(), weighting="none")(student, recorded, later).sum.detach()) > 0
