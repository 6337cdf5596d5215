"""Which layers distillers compare, what they keep of a teacher, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from et_adabert.distillers.attention import heads_of
from et_adabert.distillers.base import half
from et_adabert.distillers.layers import teacher_layers
from et_core.config import ComponentConfig
from et_core.errors import ConfigError
from et_core.interfaces import (
    Batch,
    Distiller,
    Features,
    Inputs,
    Model,
    Observed,
    Text,
    build_backbone,
    build_distiller,
)
from et_core.testing.distiller.observed import Sizes, features_of, model_of, observed, text_batch
from et_core.testing.parts import small_tokenizer


def build(name: str, student: Model, teacher: Model, **options: Any) -> Distiller:
    config = ComponentConfig(name=f"et-adabert/{name}", options=options)
    return build_distiller(config, where=f"distill.terms.{name}", student=student, teacher=teacher)


def of_depth(layers: int, width: int = 8) -> Model:
    return model_of(Sizes(width, layers), 3)


def bert(*, heads: int, width: int = 8) -> Model:
    options = {"hidden_size": width, "num_layers": 2, "num_heads": heads, "intermediate_size": 8, "max_positions": 8}
    return Model(build_backbone("et-bert/bert", options, tokenizer=small_tokenizer()), {})


def batch_of(label: torch.Tensor) -> Batch:
    ids = torch.ones((len(label), 2), dtype=torch.long)
    return Batch(Inputs((Text(ids, ids > 0),)), {"label": label}, torch.arange(len(label)))


@pytest.mark.parametrize(
    ("layers", "compared", "student", "teacher", "expected"),
    [
        ("skip", 5, 6, 12, [2, 4, 6, 8, 10]),
        ("skip", 2, 3, 12, [4, 8]),
        ("last", 5, 6, 12, [7, 8, 9, 10, 11]),
        ("uniform", 4, 4, 12, [3, 6, 9, 12]),
        ("uniform", 6, 6, 12, [2, 4, 6, 8, 10, 12]),
        ("adabert", 8, 8, 12, [2, 3, 5, 6, 8, 9, 11, 12]),
        ("adabert", 5, 5, 12, [3, 5, 8, 10, 12]),
        ("adabert", 4, 4, 2, [1, 1, 2, 2]),
        ([12, 1], 2, 2, 12, [12, 1]),
    ],
)
def test_layers_are_those_of_the_papers(
    layers: Any, compared: int, student: int, teacher: int, expected: list[int]
) -> None:
    assert teacher_layers("it", layers, compared=compared, student=student, teacher=teacher) == expected


@pytest.mark.parametrize(
    ("name", "students", "options", "message"),
    [
        (
            "pkd",
            1,
            {},
            "pkd compares the layers below the last one, and the student has only one layer. "
            "Give it two or more (model.num_layers), or use vanilla-kd or probes.",
        ),
        (
            "pkd",
            3,
            {"layers": [2]},
            "pkd: layers has 1 of the teacher's layers, [2], for 2 of the student's 3. Give 2.",
        ),
        (
            "pkd",
            3,
            {"layers": [0, 2]},
            "pkd: layers is [0, 2], which takes layer 0 of the teacher for one of the student's 3. "
            "The teacher has the layers 1 to 4.",
        ),
        (
            "tinybert",
            2,
            {"layers": [4, 5]},
            "tinybert: layers is [4, 5], which takes layer 5 of the teacher for one of the student's 2. "
            "The teacher has the layers 1 to 4.",
        ),
        (
            "tinybert",
            6,
            {"layers": "last"},
            "tinybert: layers is 'last', which takes layer -1 of the teacher for one of the student's 6. "
            "The teacher has the layers 1 to 4.",
        ),
        (
            "probes",
            1,
            {"layers": [5]},
            "probes: layers is [5], which takes layer 5 of the teacher for one of the student's 1. "
            "The teacher has the layers 0 to 4.",
        ),
        (
            "tinybert",
            2,
            {"attention": False, "hidden": False},
            "tinybert: neither attention nor hidden is left to compare. Leave the term out.",
        ),
        ("minilm", 2, {"layer": 5}, "minilm: layer is 5, and the teacher has the layers 1 to 4."),
        ("minilm", 2, {"layer": 0}, "minilm: layer is 0, and the teacher has the layers 1 to 4."),
        (
            "minilm",
            2,
            {"relation_heads": 3},
            "minilm: relation_heads is 3, which does not divide the student's width of 8. "
            "Take a number that divides both widths, 8 and 12.",
        ),
        (
            "minilm",
            2,
            {"relation_heads": 8},
            "minilm: relation_heads is 8, which does not divide the teacher's width of 12. "
            "Take a number that divides both widths, 8 and 12.",
        ),
        (
            "vanilla-kd",
            2,
            {"temperature": 0},
            "vanilla-kd: temperature is 0, by which logits are divided. Give a number above 0.",
        ),
        (
            "probes",
            2,
            {"temperature": {"start": 2, "end": -1}},
            "probes: temperature is -1, by which logits are divided. Give a number above 0.",
        ),
        ("probes", 2, {"fit_rows": 0}, "probes: fit_rows is 0 and l2 is 0.01. Give numbers above 0."),
        ("probes", 2, {"l2": 0}, "probes: fit_rows is 20000 and l2 is 0. Give numbers above 0."),
        (
            "pkd",
            3,
            {"layers": "uniform"},
            "distill.terms.pkd.layers is 'uniform': expected 'skip' or 'last' or a list of whole numbers.",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_a_teacher_is_seen(
    name: str, students: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, of_depth(students), of_depth(4, 12), **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("tinybert", "Set model.num_heads of the student, or leave attention out: attention: false."),
        ("minilm", "Set relation_heads, which splits both anew, or model.num_heads of the student."),
    ],
)
def test_other_numbers_of_heads_are_refused_before_a_teacher_is_seen(name: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, bert(heads=2), bert(heads=4))
    assert str(caught.value) == (
        f"{name} compares attention head by head, and the student has 2, the teacher 4. {remedy}"
    )
    build("tinybert", bert(heads=2), bert(heads=4), attention=False)
    build("minilm", bert(heads=2), bert(heads=4), relation_heads=2)


def test_counting_heads_leaves_a_model_as_it_is() -> None:
    model = bert(heads=4)
    model.train()
    model.backbone.blocks()[0].eval()
    modes = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    assert heads_of(model) == 4
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_heads_of_a_recorded_teacher_are_compared_where_they_could_not_be_counted() -> None:
    distiller = build("minilm", of_depth(2), of_depth(2))
    batch = batch_of(torch.tensor([0]))

    def with_heads(count: int) -> Observed:
        part = torch.randn(1, count, 2, 8 // count)
        return Observed(
            Features(mask=batch.inputs.texts[0].mask, extra={"queries-keys-values": ((part,) * 3,) * 2}), {}
        )

    recorded = distiller.record(with_heads(4), batch)
    with pytest.raises(ConfigError, match=r"the student has 2, the teacher 4\. Set relation_heads"):
        distiller(with_heads(2), recorded, batch)


def test_a_number_has_no_divergence() -> None:
    distiller = build("vanilla-kd", of_depth(2), of_depth(2), loss="kl")
    seen, batch = Observed(Features(), {"logits": torch.zeros(2, 1)}), batch_of(torch.tensor([0.5, 1.0]))
    with pytest.raises(ConfigError, match="loss is 'kl', and a number has no distribution"):
        distiller(seen, distiller.record(seen, batch), batch)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (
            {"first": torch.zeros(2, 3), "cosine": torch.zeros(2)},
            "vanilla-kd compares logits, and the head gives only cosine, first.",
        ),
        ({"logits": torch.zeros(2, 5, 3)}, "vanilla-kd compares logits [B, C], and the head gives [2, 5, 3]."),
    ],
)
def test_a_head_without_logits_for_rows_is_refused(outputs: dict[str, torch.Tensor], message: str) -> None:
    distiller = build("vanilla-kd", of_depth(2), of_depth(2))
    with pytest.raises(ConfigError) as caught:
        distiller.record(Observed(Features(), outputs), batch_of(torch.tensor([0, 1])))
    assert str(caught.value) == message


def test_a_term_asks_for_no_more_than_it_compares() -> None:
    student, teacher = of_depth(2), of_depth(4, 12)
    both = build("tinybert", student, teacher)
    assert both.wants == {"layers", "queries-keys-values"}
    assert both.per_token == {"queries", "keys", "states"}
    states = build("tinybert", student, teacher, attention=False)
    assert (states.wants, states.per_token) == ({"layers"}, {"states"})
    attention = build("tinybert", student, teacher, hidden=False)
    assert (attention.wants, attention.per_token) == ({"queries-keys-values"}, {"queries", "keys"})
    assert not list(attention.parameters())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vanilla-kd", {"temperature": 3.0, "loss": "mse"}),
        ("pkd", {"reduce": "sum"}),
        ("probes", {"layers": "last", "temperature": 2.0, "weighting": "none", "pooling": "mean"}),
        ("minilm", {"relations": "queries+keys+values"}),
    ],
)
def test_what_is_recorded_does_not_depend_on_options_of_forward(name: str, options: dict[str, Any]) -> None:
    student, teacher, rng = of_depth(2), of_depth(4), torch.Generator().manual_seed(0)
    plain, other = build(name, student, teacher), build(name, student, teacher, **options)
    batch = text_batch(6, 3, rng)
    raw = features_of(batch, Sizes(8, 4), plain.wants, rng)
    taught = observed({**raw, "outputs.logits": torch.randn(6, 3, generator=rng)}, batch)
    for distiller in (plain, other):
        assert distiller.forward_options == options.keys()
        if distiller.fit_rows:
            distiller.fit(iter([(taught, batch)]))
    expected, found = plain.record(taught, batch), other.record(taught, batch)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[part], expected[part]) for part in expected)


@pytest.mark.parametrize("name", ["pkd", "tinybert"])
def test_equal_widths_need_no_projection(name: str) -> None:
    assert not list(build(name, of_depth(2), of_depth(4)).parameters())
    (weight,) = build(name, of_depth(2), of_depth(4, 12)).parameters()
    assert list(weight.shape) == [12, 8]


def test_wide_states_are_kept_in_half_precision() -> None:
    for kind in (torch.float32, torch.bfloat16):
        kept = half(torch.tensor([1e6, -1e6, 0.5], dtype=kind))
        assert kept.dtype == torch.float16
        assert kept.tolist() == [65504, -65504, 0.5]


def test_a_ramp_is_written_as_keys() -> None:
    build("vanilla-kd", of_depth(2), of_depth(2), temperature={"start": 8, "end": 2, "shape": "cosine"})
    with pytest.raises(ConfigError, match=r"distill\.terms\.vanilla-kd\.temperature"):
        build("vanilla-kd", of_depth(2), of_depth(2), temperature={"start": 8})
