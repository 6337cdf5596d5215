"""Two towers: vectors of single texts, and learning from the other texts of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from et_appzoo.heads import TwoTowers
from et_appzoo.losses import CosineCrossEntropy, CosineMse
from et_appzoo.matching.app import Matching
from et_appzoo.objectives import InBatchNegatives
from et_core.data import PretrainedTokenizer, collate
from et_core.errors import ConfigError
from et_core.interfaces import Batch, Features, Inputs, Row, Step, Text, build_backbone, build_model
from et_core.sources import resolve

ROWS = (
    ("a plane takes off", "an aircraft leaves", "1"),
    ("a man plays a flute", "music", "1"),
    ("a plane takes off", "the plane starts now", "1"),
    ("a plane takes off", "a plane lands", "0"),
    ("someone sleeps and sleeps on", "an aircraft leaves", "0"),
    ("cooking", "someone cooks", "1"),
    ("music", "notes in a row", "1"),
)


def rows(values: Sequence[Sequence[str]] = ROWS) -> list[Row]:
    return [
        Row({"text": text, "text_pair": pair, "label": label}, index=index)
        for index, (text, pair, label) in enumerate(values)
    ]


@pytest.fixture(scope="module")
def tokenizer() -> PretrainedTokenizer:
    folder = resolve("bert-tiny-random@zoo").tokenizer
    assert folder is not None
    return PretrainedTokenizer.load(folder)


def built(
    tokenizer: PretrainedTokenizer, data: Sequence[Row] | None = None, **settings: Any
) -> tuple[Matching, Any, Batch]:
    """An app over *data*, or the rows above, its model without dropout, and the rows as one batch."""
    torch.manual_seed(0)
    data = rows() if data is None else data
    app = Matching(towers=2, **settings)
    app.fit(data)
    artifact = resolve("bert-tiny-random@zoo")
    options = {"dropout": 0.0, "attention_dropout": 0.0}
    model = build_model(build_backbone("bert", options, tokenizer=tokenizer, artifact=artifact), {"main": app})
    examples = app.encode(data, tokenizer, max_length=32, accepts=model.backbone.accepts)
    return app, model.eval(), collate(examples, pad_id=tokenizer.pad_id)


def step_of(gather: Any = lambda tensor: tensor) -> Step:
    return Step(0, 1, "main", np.random.default_rng(0), gather)


@pytest.mark.parametrize("pooling", ["mean", "first", "pooled"])
def test_towers_are_the_backbone_run_by_hand_on_each_text(tokenizer: PretrainedTokenizer, pooling: str) -> None:
    _, model, batch = built(tokenizer, pooling=pooling)
    found = model(batch)
    for row in range(len(ROWS)):
        vectors = []
        for text in ROWS[row][:2]:
            ids = torch.tensor(tokenizer.encode([text], max_length=32).ids)
            features = model.backbone(Inputs((Text(ids, torch.ones_like(ids, dtype=torch.bool)),)))
            pooled = {
                "mean": lambda f: f.tokens.mean(1),
                "first": lambda f: f.tokens[:, 0],
                "pooled": lambda f: f.pooled,
            }
            vectors.append(functional.normalize(pooled[pooling](features), dim=-1)[0])
        torch.testing.assert_close(found["first"][row], vectors[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(found["second"][row], vectors[1], atol=1e-5, rtol=0)
        torch.testing.assert_close(found["cosine"][row], vectors[0] @ vectors[1], atol=1e-5, rtol=0)


def test_a_pooler_that_no_vector_comes_from_is_dropped(tokenizer: PretrainedTokenizer) -> None:
    assert built(tokenizer)[1].backbone.model.pooler is None
    assert built(tokenizer, pooling="pooled")[1].backbone.model.pooler is not None


def test_a_projection_is_shared_by_both_texts_and_sets_the_width(tokenizer: PretrainedTokenizer) -> None:
    _, model, batch = built(tokenizer, projection_dim=5)
    found = model(batch)
    assert found["first"].shape == found["second"].shape == (len(ROWS), 5)
    same = Batch(Inputs((batch.inputs.texts[0], batch.inputs.texts[0])), {}, batch.rows)
    torch.testing.assert_close(model(same)["cosine"], torch.ones(len(ROWS)))


def test_padding_and_what_lies_under_it_change_no_vector() -> None:
    head = TwoTowers(hidden_size=4)
    tokens = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    (padded,) = head(Features(extra={"towers": (Features(tokens, mask),)})).values()
    (alone,) = head(Features(extra={"towers": (Features(tokens[:1, :2], mask[:1, :2]),)})).values()
    torch.testing.assert_close(padded[:1], alone)
    tokens[0, 2] = 1e4
    (dirty,) = head(Features(extra={"towers": (Features(tokens, mask),)})).values()
    torch.testing.assert_close(dirty, padded)


def expected_loss(outputs: dict[str, Tensor], *, scale: float, symmetric: bool) -> float:
    """The loss of the rows above from its definition, row by row."""
    total, sides = 0.0, ((0, 1, "first", "second"), (1, 0, "second", "first"))
    for asking, answering, one, other in sides[: 2 if symmetric else 1]:
        for row, values in enumerate(ROWS):
            if values[2] != "1":
                continue
            right = {v[answering] for v in ROWS if v[2] == "1" and v[asking] == values[asking]} | {values[asking]}
            kept = [n for n, v in enumerate(ROWS) if n == row or v[answering] not in right]
            scores = [math.exp(scale * float(outputs[one][row] @ outputs[other][n])) for n in kept]
            total -= math.log(scores[kept.index(row)] / sum(scores))
    return total / (2 if symmetric else 1)


@pytest.mark.parametrize("symmetric", [False, True])
def test_in_batch_negatives_are_all_texts_that_are_no_right_answer(
    tokenizer: PretrainedTokenizer, symmetric: bool
) -> None:
    app, model, batch = built(tokenizer)
    objective = InBatchNegatives(model=model, apps={"main": app}, scale=7.0, symmetric=symmetric)
    term = objective(batch, step_of())["main"]
    assert float(term.count) == float(objective.counts(batch, "main")["main"]) == 5
    with torch.no_grad():
        expected = expected_loss(model(batch), scale=7.0, symmetric=symmetric)
    assert float(term.sum.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_pair_that_is_no_match_is_never_a_right_answer(tokenizer: PretrainedTokenizer) -> None:
    app, model, batch = built(tokenizer)
    objective = InBatchNegatives(model=model, apps={"main": app})
    before = model(batch)["cosine"].detach()
    optimizer = torch.optim.Adam(objective.parameters(), lr=2e-3)
    for _ in range(60):
        objective(batch, step_of())["main"].sum.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model(batch)["cosine"].detach()
    # Rows 0, 2 and 3 ask the same.
    assert after[[0, 2]].min() > after[3]
    others = ~batch.targets["positive"].bool()
    assert (after[others] < before[others]).all()


def test_a_batch_without_a_match_costs_nothing_and_has_a_gradient(tokenizer: PretrainedTokenizer) -> None:
    app, model, batch = built(tokenizer)
    targets = {**batch.targets, "positive": torch.zeros(len(ROWS), dtype=torch.int64)}
    objective = InBatchNegatives(model=model, apps={"main": app}, symmetric=True)
    term = objective(Batch(batch.inputs, targets, batch.rows), step_of())["main"]
    assert (float(term.sum.detach()), float(term.count)) == (0.0, 0.0)
    term.sum.backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())


@pytest.mark.parametrize("settings", [{"towers": 1}, {"towers": 2, "mode": "regression"}])
def test_the_objective_is_refused_where_no_label_says_match(settings: Any) -> None:
    with pytest.raises(ConfigError, match=r"it is for app=matching with app.towers=2 and app.mode=single-label"):
        InBatchNegatives(model=torch.nn.Linear(1, 1), apps={"main": Matching(**settings)})
    three = Matching(towers=2, labels=["x", "y", "z"])
    with pytest.raises(ConfigError, match=r"that one of two labels calls a match"):
        InBatchNegatives(model=torch.nn.Linear(1, 1), apps={"main": three})


@pytest.mark.parametrize(
    ("name", "value"), [("loss", "cosine-cross-entropy"), ("class_weights", "balanced"), ("label_smoothing", 0.1)]
)
def test_what_says_how_another_loss_is_computed_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        InBatchNegatives(model=torch.nn.Linear(1, 1), apps={"main": Matching(towers=2, **{name: value})})
    assert str(error.value) == (
        f"app.{name} has no effect with objective=in-batch-negatives, which has a loss of its own. "
        "Leave one of them out."
    )


def test_the_losses_of_the_cosine_are_their_formulas() -> None:
    cosine, labels = torch.tensor([0.9, 0.2, -0.4]), torch.tensor([1, 1, 0])
    total, count = CosineCrossEntropy(scale=4.0, center=0.1)({"cosine": cosine}, {"label": labels})
    logits = 4.0 * (cosine - 0.1)
    expected = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum")
    torch.testing.assert_close(total, expected)
    assert float(count) == 3
    total, count = CosineMse(low=1.0, high=5.0)({"cosine": cosine}, {"label": torch.tensor([5.0, 1.0, 3.0])})
    assert float(total) == pytest.approx(0.1**2 + 0.2**2 + 0.9**2, rel=1e-5)
    assert float(count) == 3


@pytest.mark.parametrize("settings", [{}, {"mode": "graded"}])
def test_three_labels_are_told_apart_by_a_layer_over_both_vectors(
    tokenizer: PretrainedTokenizer, settings: Any
) -> None:
    data = rows([(text, pair, str(number % 3)) for number, (text, pair, _) in enumerate(ROWS)])
    app, model, batch = built(tokenizer, data=data, projection_dim=5, **settings)
    head = model.heads_by_task["main"]
    towers = model.features(batch, want=frozenset({"towers"})).extra["towers"]
    u, v = (
        head.projection((tower.tokens * tower.mask.unsqueeze(-1)).sum(1) / tower.mask.sum(1, keepdim=True))
        for tower in towers
    )
    expected = torch.cat([u, v, (u - v).abs()], 1) @ head.classifier.weight.T + head.classifier.bias
    found = app.outputs(model, batch)
    assert list(found) == ["logits"]
    torch.testing.assert_close(found["logits"], expected)
    assert app.own_loss().name == "et-core/cross-entropy"
    predicted = app.decode({"logits": found["logits"].detach().numpy()}, [])
    assert list(predicted[0].probabilities) == ["0", "1", "2"]
    torch.testing.assert_close(app.vectors(model, alone(batch))[0], functional.normalize(u, dim=-1)[0])


def alone(batch: Batch) -> Batch:
    """The first texts of *batch*."""
    return Batch(Inputs(batch.inputs.texts[:1]), {}, batch.rows)


def test_a_threshold_for_three_labels_and_numbers_without_a_range_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        Matching(towers=2, threshold=0.5).fit(rows([("a", "b", label) for label in "xyz"]))
    assert str(error.value) == (
        "app.threshold is a cosine, which tells two labels apart, not 3: x, y, z. Leave it out."
    )
    with pytest.raises(ConfigError, match=r"^every label of the training data is 2, so that there is no range"):
        Matching(towers=2, mode="regression").fit(rows([("a", "b", "2"), ("a", "c", "2")]))
