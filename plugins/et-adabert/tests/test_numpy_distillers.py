"""What distillers give for two small BERTs, against their formulas written out row by row in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from et_core.config import ComponentConfig
from et_core.interfaces import Batch, Distiller, Inputs, Model, Observed, Text, build_backbone, build_distiller
from et_core.registry import registry
from et_core.testing.parts import small_tokenizer

ALL = frozenset({"layers", "queries-keys-values"})
LENGTHS = (6, 3, 1, 4)
CLASSES = 3
HALF = 3e-3
"""How far a term may be off, relatively, where the teacher's side was rounded to float16."""


def bert(hidden: int, layers: int, heads: int, seed: int, outputs: int = CLASSES) -> Model:
    """A BERT with weights large enough for attention to be far from even."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": hidden, "num_layers": layers, "num_heads": heads, "intermediate_size": 2 * hidden}
    backbone = build_backbone("et-bert/bert", {**sizes, "max_positions": 16}, tokenizer=small_tokenizer())
    head = registry("heads").create("et-appzoo/pooled-linear", hidden_size=hidden, num_outputs=outputs)
    model = Model(backbone, {"main": head})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model.eval()


def batch_of(labels: Any) -> Batch:
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(5, 60, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    return Batch(Inputs((Text(ids, mask),)), {"label": torch.as_tensor(labels)}, torch.arange(len(LENGTHS)))


def seen(model: Model, batch: Batch) -> Observed:
    with torch.no_grad():
        features = model.features(batch, want=ALL)
        return Observed(features, model.heads_by_task["main"](features))


@pytest.fixture(scope="module")
def student() -> Model:
    return bert(12, 2, 2, seed=1)


@pytest.fixture(scope="module")
def teacher() -> Model:
    return bert(16, 4, 2, seed=2)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return batch_of([0, 2, 1, 0])


def build(name: str, student: Model, teacher: Model, **options: Any) -> Distiller:
    torch.manual_seed(0)
    config = ComponentConfig(name=f"et-adabert/{name}", options=options)
    return build_distiller(config, where="distill.terms", student=student, teacher=teacher)


def mean_term(distiller: Distiller, student: Model, teacher: Model, batch: Batch, progress: float = 0.0) -> float:
    """The term per row, of what the student and the teacher answer to *batch*."""
    taught = seen(teacher, batch)
    if distiller.fit_rows:
        others = {"label": batch.targets["label"].roll(1, 0)}  # so that probes err
        distiller.fit(iter([(taught, replace(batch, targets=others))]))
    with torch.no_grad():
        recorded = distiller.record(taught, batch)
        term = distiller(seen(student, batch), recorded, batch, progress=progress)
    assert float(term.count) == len(batch)
    return float(term.sum) / len(batch)


def array(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach(), np.float64)


def logits(model: Model, batch: Batch) -> np.ndarray:
    return array(seen(model, batch).outputs["logits"])


def layers(model: Model, batch: Batch) -> list[np.ndarray]:
    found: Any = seen(model, batch).features.extra["layers"]
    return [array(layer) for layer in found]


def parts(model: Model, batch: Batch) -> list[list[np.ndarray]]:
    found: Any = seen(model, batch).features.extra["queries-keys-values"]
    return [[array(part) for part in layer] for layer in found]


def softmax(values: Sequence[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def kl(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(first, second, strict=True) if p > 0)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def hinton(mine: np.ndarray, goal: np.ndarray, temperature: float) -> float:
    rows = [
        temperature**2 * kl(softmax(list(t / temperature)), softmax(list(s / temperature)))
        for s, t in zip(mine, goal, strict=True)
    ]
    return sum(rows) / len(rows)


def bernoulli(mine: np.ndarray, goal: np.ndarray, temperature: float) -> float:
    total = 0.0
    for s_row, t_row in zip(mine, goal, strict=True):
        for s, t in zip(s_row, t_row, strict=True):
            p, q = sigmoid(t / temperature), sigmoid(s / temperature)
            total += kl([p, 1 - p], [q, 1 - q]) / len(s_row)
    return temperature**2 * total / len(mine)


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_vanilla_kd_is_the_divergence_of_softened_answers(
    student: Model, teacher: Model, batch: Batch, temperature: float
) -> None:
    expected = hinton(logits(student, batch), logits(teacher, batch), temperature)
    found = mean_term(build("vanilla-kd", student, teacher, temperature=temperature), student, teacher, batch)
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected > 0.1


def test_a_temperature_changes_in_the_course_of_training(student: Model, teacher: Model, batch: Batch) -> None:
    distiller = build("vanilla-kd", student, teacher, temperature={"start": 8.0, "end": 2.0, "shape": "exponential"})
    for progress, temperature in ((0.0, 8.0), (0.5, 4.0), (1.0, 2.0)):
        expected = hinton(logits(student, batch), logits(teacher, batch), temperature)
        assert mean_term(distiller, student, teacher, batch, progress) == pytest.approx(expected, rel=1e-4)


def test_vanilla_kd_of_several_labels_is_a_divergence_for_each(student: Model, teacher: Model) -> None:
    batch = batch_of([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    expected = bernoulli(logits(student, batch), logits(teacher, batch), 3.0)
    found = mean_term(build("vanilla-kd", student, teacher, temperature=3.0), student, teacher, batch)
    assert found == pytest.approx(expected, rel=1e-4)


def test_vanilla_kd_of_numbers_is_a_squared_difference() -> None:
    student, teacher, batch = bert(12, 2, 2, 1, outputs=1), bert(16, 4, 2, 2, outputs=1), batch_of([0.1, 0.2, 3.0, 4.0])
    pairs = zip(logits(student, batch), logits(teacher, batch), strict=True)
    expected = sum((s[0] - t[0]) ** 2 for s, t in pairs) / len(batch)
    for options in ({}, {"temperature": 7.0}, {"loss": "mse"}):
        found = mean_term(build("vanilla-kd", student, teacher, **options), student, teacher, batch)
        assert found == pytest.approx(expected, rel=1e-4)


def test_vanilla_kd_may_compare_logits_by_their_squares(student: Model, teacher: Model, batch: Batch) -> None:
    expected = 0.0
    for s_row, t_row in zip(logits(student, batch), logits(teacher, batch), strict=True):
        expected += sum((s - t) ** 2 for s, t in zip(s_row, t_row, strict=True)) / CLASSES / len(batch)
    found = mean_term(build("vanilla-kd", student, teacher, loss="mse"), student, teacher, batch)
    assert found == pytest.approx(expected, rel=1e-4)


def pkd_by_hand(
    mine: list[np.ndarray], goals: list[np.ndarray], chosen: Sequence[int], projection: np.ndarray
) -> float:
    total = 0.0
    for row in range(len(LENGTHS)):
        for layer, goal in enumerate(chosen, start=1):
            s, t = projection @ mine[layer][row, 0], goals[goal][row, 0]
            s, t = s / math.sqrt(sum(s * s)), t / math.sqrt(sum(t * t))
            total += sum((a - b) ** 2 for a, b in zip(s, t, strict=True))
    return total / len(LENGTHS)


@pytest.mark.parametrize(("layers_option", "chosen"), [("skip", [2, 3]), ("last", [2, 3]), ([4, 1], [4, 1])])
def test_pkd_compares_first_tokens_of_unit_length(batch: Batch, layers_option: Any, chosen: list[int]) -> None:
    student, teacher = bert(12, 3, 2, 1), bert(16, 4, 2, 2)
    distiller: Any = build("pkd", student, teacher, layers=layers_option, reduce="sum")
    weight = array(distiller.project.weight)
    expected = pkd_by_hand(layers(student, batch), layers(teacher, batch), chosen, weight)
    assert mean_term(distiller, student, teacher, batch) == pytest.approx(expected, rel=HALF)


def test_pkd_is_the_mean_over_layers_and_width_unless_told_otherwise(batch: Batch) -> None:
    student, teacher = bert(16, 3, 2, 1), bert(16, 4, 2, 2)
    total, mean = build("pkd", student, teacher, reduce="sum"), build("pkd", student, teacher)
    expected = pkd_by_hand(layers(student, batch), layers(teacher, batch), [2, 3], np.eye(16))
    assert mean_term(total, student, teacher, batch) == pytest.approx(expected, rel=HALF)
    assert mean_term(mean, student, teacher, batch) == pytest.approx(expected / (2 * 16), rel=HALF)


def attention_scores(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """[heads, n, n] of [heads, n, d], one product at a time."""
    heads, tokens, width = query.shape
    found = np.zeros((heads, tokens, tokens))
    for head in range(heads):
        for first in range(tokens):
            for second in range(tokens):
                product = sum(query[head, first, i] * key[head, second, i] for i in range(width))
                found[head, first, second] = product / math.sqrt(width)
    return found


def tinybert_scores(mine: list[list[np.ndarray]], goals: list[list[np.ndarray]], chosen: Sequence[int]) -> float:
    total = 0.0
    for row, length in enumerate(LENGTHS):
        for layer, goal in enumerate(chosen):
            s, t = (
                attention_scores(*(part[row][:, :length] for part in seen[:2]))
                for seen in (mine[layer], goals[goal - 1])
            )
            total += ((s - t) ** 2).sum() / s.size
    return total / len(LENGTHS)


def tinybert_states(
    mine: list[np.ndarray], goals: list[np.ndarray], chosen: Sequence[int], projection: np.ndarray
) -> float:
    total = 0.0
    for row, length in enumerate(LENGTHS):
        for layer, goal in enumerate([0, *chosen]):
            errors = [
                ((projection @ mine[layer][row, token] - goals[goal][row, token]) ** 2).mean()
                for token in range(length)
            ]
            total += sum(errors) / length
    return total / len(LENGTHS)


@pytest.mark.parametrize(("layers_option", "chosen"), [("uniform", [2, 4]), ("last", [3, 4]), ([1, 4], [1, 4])])
def test_tinybert_compares_scores_and_states(
    student: Model, teacher: Model, batch: Batch, layers_option: Any, chosen: list[int]
) -> None:
    both: Any = build("tinybert", student, teacher, layers=layers_option)
    of_scores = tinybert_scores(parts(student, batch), parts(teacher, batch), chosen)
    of_states = tinybert_states(layers(student, batch), layers(teacher, batch), chosen, array(both.project.weight))
    assert mean_term(both, student, teacher, batch) == pytest.approx(of_scores + of_states, rel=HALF)
    attention = build("tinybert", student, teacher, layers=layers_option, hidden=False)
    assert mean_term(attention, student, teacher, batch) == pytest.approx(of_scores, rel=HALF)
    hidden = build("tinybert", student, teacher, layers=layers_option, attention=False)
    assert mean_term(hidden, student, teacher, batch) == pytest.approx(of_states, rel=HALF)


def split(part: np.ndarray, heads: int | None) -> np.ndarray:
    """[heads, n, d] of one row, in other heads: the states of each token, cut anew."""
    if heads is None:
        return part
    tokens = [np.concatenate([part[head, token] for head in range(len(part))]) for token in range(part.shape[1])]
    return np.stack([np.stack([np.split(token, heads)[head] for token in tokens]) for head in range(heads)])


def minilm_by_hand(
    mine: list[np.ndarray], goals: list[np.ndarray], pairs: Sequence[tuple[int, int]], heads: int | None
) -> float:
    total = 0.0
    for row, length in enumerate(LENGTHS):
        s_parts, t_parts = ([split(part[row][:, :length], heads) for part in seen] for seen in (mine, goals))
        for first, second in pairs:
            s, t = (attention_scores(seen[first], seen[second]) for seen in (s_parts, t_parts))
            found = [
                kl(softmax(list(t[head, token])), softmax(list(s[head, token])))
                for head in range(len(s))
                for token in range(length)
            ]
            total += sum(found) / len(found)
    return total / len(LENGTHS)


@pytest.mark.parametrize(
    ("options", "layer", "pairs", "heads"),
    [
        ({}, 4, [(0, 1), (2, 2)], None),
        ({"layer": 3}, 3, [(0, 1), (2, 2)], None),
        ({"relations": "queries+keys+values", "relation_heads": 4}, 4, [(0, 0), (1, 1), (2, 2)], 4),
        ({"relation_heads": 1, "layer": 1}, 1, [(0, 1), (2, 2)], 1),
    ],
)
def test_minilm_compares_how_tokens_relate(
    student: Model,
    teacher: Model,
    batch: Batch,
    options: dict[str, Any],
    layer: int,
    pairs: list[tuple[int, int]],
    heads: int | None,
) -> None:
    expected = minilm_by_hand(parts(student, batch)[-1], parts(teacher, batch)[layer - 1], pairs, heads)
    found = mean_term(build("minilm", student, teacher, **options), student, teacher, batch)
    assert found == pytest.approx(expected, rel=HALF)
    assert expected > 0.01


def probe_loss(row: np.ndarray, label: Any) -> float:
    """The error of one probe's logits on the label of one row, whatever kind it is of."""
    if np.ndim(label):
        return float(np.mean([-math.log(sigmoid(z if wanted else -z)) for z, wanted in zip(row, label, strict=True)]))
    if isinstance(label, float):
        return float((row[0] - label) ** 2)
    return -math.log(softmax(list(row))[label])


def probes_by_hand(mine: np.ndarray, goals: np.ndarray, labels: Any, temperature: float, *, weigh: bool) -> float:
    """From logits [B, K, C] of the student's classifiers and of the mapped probes."""
    total = 0.0
    for s_row, t_row, label in zip(mine, goals, labels, strict=True):
        count = len(s_row)
        weights = softmax([-probe_loss(t, label) for t in t_row]) if weigh else [1 / count] * count
        for weight, s, t in zip(weights, s_row, t_row, strict=True):
            if np.ndim(label):
                apart = bernoulli(s[None], t[None], temperature) / temperature**2
            elif isinstance(label, float):
                apart = float((s[0] - t[0]) ** 2)
            else:
                apart = hinton(s[None], t[None], temperature) / temperature**2
            total += weight * apart
    return total / len(mine)


LABELS: dict[str, tuple[Any, int]] = {
    "one label": ([0, 2, 1, 0], CLASSES),
    "several labels": ([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], CLASSES),
    "a number": ([0.25, 0.5, 3.0, 1.5], 1),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize(
    ("options", "chosen", "pooling"),
    [
        ({}, [2, 4], "first"),
        ({"layers": "last", "pooling": "mean", "temperature": 3.0}, [3, 4], "mean"),
        ({"layers": [0, 2], "weighting": "none"}, [0, 2], "first"),
    ],
)
def test_probes_weigh_layers_by_what_their_probes_know(
    kind: str, options: dict[str, Any], chosen: list[int], pooling: str
) -> None:
    labels, outputs = LABELS[kind]
    student, teacher, batch = bert(12, 2, 2, 1, outputs), bert(16, 4, 2, 2, outputs), batch_of(labels)
    distiller: Any = build("probes", student, teacher, **options)
    found = mean_term(distiller, student, teacher, batch)
    goals = []
    for number, layer in enumerate(layers(teacher, batch)):
        means = [layer[row, :length].mean(0) for row, length in enumerate(LENGTHS)]
        states = np.stack(means) if number == 0 else layer[:, 0]
        goals.append(states @ array(distiller.weights[number]).T + array(distiller.biases[number]))
    mine = []
    for classifier, layer in zip(distiller.classifiers, layers(student, batch)[1:], strict=True):
        states = layer[:, 0]
        if pooling == "mean":
            states = np.stack([layer[row, :length].mean(0) for row, length in enumerate(LENGTHS)])
        mine.append(states @ array(classifier.weight).T + array(classifier.bias))
    chosen_goals = np.stack([goals[layer] for layer in chosen], 1)
    weigh = options.get("weighting") != "none"
    expected = probes_by_hand(np.stack(mine, 1), chosen_goals, labels, options.get("temperature", 1.0), weigh=weigh)
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["vanilla-kd", "pkd", "tinybert", "minilm"])
def test_a_model_learns_nothing_from_itself(teacher: Model, batch: Batch, name: str) -> None:
    assert mean_term(build(name, teacher, teacher), teacher, teacher, batch) == pytest.approx(0, abs=1e-5)


def test_probes_are_0_where_the_students_classifiers_say_the_same(teacher: Model, batch: Batch) -> None:
    distiller: Any = build("probes", teacher, teacher)
    assert mean_term(distiller, teacher, teacher, batch) > 1e-2
    with torch.no_grad():
        for classifier, weights, biases in zip(
            distiller.classifiers, distiller.weights[1:], distiller.biases[1:], strict=True
        ):
            classifier.weight.copy_(weights)
            classifier.bias.copy_(biases)
    assert mean_term(distiller, teacher, teacher, batch) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["vanilla-kd", "pkd", "tinybert", "minilm", "probes"])
def test_autocast_takes_no_digits_from_a_term(student: Model, teacher: Model, batch: Batch, name: str) -> None:
    distiller = build(name, student, teacher)
    taught, own = seen(teacher, batch), seen(student, batch)
    if distiller.fit_rows:
        distiller.fit(iter([(taught, batch)]))
    plain = distiller.record(taught, batch)
    expected = distiller(own, plain, batch).sum
    with torch.autocast("cpu", torch.bfloat16):
        recorded = distiller.record(taught, batch)
        found = distiller(own, recorded, batch).sum
    assert all(torch.equal(recorded[part], plain[part]) for part in plain)
    assert torch.equal(found, expected)
