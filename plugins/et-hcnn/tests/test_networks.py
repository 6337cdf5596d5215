from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from et_core.errors import ComponentError, ConfigError
from et_core.interfaces import Backbone, HeadSpec, Inputs, Text, build_backbone
from et_core.registry import registry
from et_hcnn.layers import Words
from et_hcnn.tokenizer import WordTokenizer

WORDS = 40
SMALL: dict[str, dict[str, Any]] = {
    "hcnn": {"embedding_size": 12, "filters": 5, "hidden_size": 7},
    "bicnn": {"embedding_size": 12, "filters": 5, "hidden_size": 7},
    "dam": {"embedding_size": 12, "attention_size": 6, "hidden_size": 7},
    "damplus": {"embedding_size": 12, "attention_size": 6, "hidden_size": 7},
    "textcnn": {"embedding_size": 12, "filters": 5},
    "hcnn-drss": {"embedding_size": 12, "filters": 5, "hidden_size": 7, "marks": {"domain": 2}},
}
ALL = sorted(SMALL)
MATCHERS = ["bicnn", "dam", "damplus", "hcnn"]


@pytest.fixture(scope="module")
def tokenizer() -> WordTokenizer:
    return WordTokenizer.fit([" ".join(f"w{number}" for number in range(WORDS))], vocab_size=WORDS + 3)


@pytest.fixture
def build(tokenizer: WordTokenizer) -> Callable[..., Any]:
    def build(name: str, **options: Any) -> Backbone:
        torch.manual_seed(3)
        return build_backbone(name, {**SMALL[name], **options}, tokenizer=tokenizer).eval()

    return build


def texts(lengths: list[int], *, width: int | None = None, padding: int = 0, seed: int = 0) -> Text:
    rng = np.random.default_rng(seed)
    width = width or max(lengths)
    ids = np.full((len(lengths), width), padding, np.int64)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = rng.integers(3, WORDS + 3, length)
    mask = np.arange(width) < np.asarray(lengths)[:, None]
    return Text(torch.from_numpy(ids), torch.from_numpy(mask))


LENGTHS = ([1, 2, 5, 9, 1], [3, 1, 8, 4, 1])


def inputs(name: str, *, widths: tuple[int, int] | None = None, padding: int = 0) -> Inputs:
    first, second = (
        texts(lengths, width=widths and widths[side], padding=padding, seed=side)
        for side, lengths in enumerate(LENGTHS)
    )
    if name == "textcnn":
        return Inputs((first,))
    domain = torch.tensor([0, 1, 1, 0, 1]).unsqueeze(1).expand(-1, first.ids.shape[1])
    return Inputs((first, second), {"domain": domain} if name == "hcnn-drss" else {})


def one_row(whole: Inputs, row: int) -> Inputs:
    """The row alone, without any padding."""
    cut = []
    for text in whole.texts:
        length = int(text.mask[row].sum())
        cut.append(Text(text.ids[row : row + 1, :length], text.mask[row : row + 1, :length]))
    return Inputs(tuple(cut), {name: mark[row : row + 1] for name, mark in whole.marks.items()})


@pytest.mark.parametrize("name", ALL)
def test_a_row_has_the_same_features_alone_and_in_a_batch_of_any_width(build: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    alone = torch.cat([backbone(one_row(inputs(name), row)).pooled for row in range(5)])
    assert alone.std(0).max() > 0.01
    for widths in (None, (10, 9), (40, 13), (13, 90), (100, 100)):
        together = backbone(inputs(name, widths=widths)).pooled
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_what_stands_under_the_mask_changes_nothing_at_all(build: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    clean = backbone(inputs(name, widths=(20, 17)))
    garbage = backbone(inputs(name, widths=(20, 17), padding=7))
    assert torch.equal(clean.pooled, garbage.pooled)
    if clean.tokens is not None:
        assert torch.equal(clean.tokens, garbage.tokens)


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_that_trains_gets_a_gradient(build: Callable[..., Any], name: str) -> None:
    backbone = build(name, dropout=0.0).train()
    features = backbone(inputs(name))
    parts = [features.pooled] if features.tokens is None else [features.pooled, features.tokens]
    sum(part.square().sum() for part in parts).backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in backbone.parameters())


@pytest.mark.parametrize("name", ALL)
def test_features_in_bf16_are_finite_and_near(build: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    exact = backbone(inputs(name)).pooled
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = backbone(inputs(name)).pooled
    assert torch.isfinite(rough).all()
    torch.testing.assert_close(rough.float(), exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", ALL)
def test_the_config_names_the_family_and_is_enough_to_build_the_same_network(
    build: Callable[..., Any], tokenizer: WordTokenizer, name: str
) -> None:
    backbone = build(name)
    config = backbone.config({})
    assert config["model_type"] == name == registry("backbones").find(name).name
    assert config["vocab_size"] == WORDS + 3
    assert {key: config[key] for key in SMALL[name]} == SMALL[name]
    assert backbone.hidden_size == backbone(inputs(name)).pooled.shape[1]


@pytest.mark.parametrize("name", [*MATCHERS, "hcnn-drss"])
def test_blocks_are_parts_of_the_backbone_and_leave_out_the_table(build: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    blocks = {id(parameter) for block in backbone.blocks() for parameter in block.parameters()}
    assert blocks
    assert id(backbone.token_table().weight) not in blocks
    assert blocks < {id(parameter) for parameter in backbone.parameters()}


@pytest.mark.parametrize("name", MATCHERS)
def test_a_matcher_tells_the_order_of_the_texts_apart_from_the_texts(build: Callable[..., Any], name: str) -> None:
    backbone, given = build(name), inputs(name)
    turned = Inputs((given.texts[1], given.texts[0]))
    assert not torch.allclose(backbone(given).pooled, backbone(turned).pooled, atol=1e-3)


@pytest.mark.parametrize("name", [*MATCHERS, "hcnn-drss"])
def test_a_matcher_refuses_single_texts_with_what_to_do(build: Callable[..., Any], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name)(Inputs(inputs(name).texts[:1]))
    assert str(caught.value) == (
        f"{name} compares two texts, and these rows have 1. Name the column of the second one "
        "(data.columns.text_pair), or take a model for single texts, such as textcnn@init."
    )


def test_textcnn_refuses_two_texts_at_once(build: Callable[..., Any]) -> None:
    with pytest.raises(ComponentError, match=r"^textcnn reads one text at a time, and was given 2\.$"):
        build("textcnn")(inputs("hcnn"))


def test_textcnn_computes_only_what_heads_need(build: Callable[..., Any]) -> None:
    backbone = build("textcnn")
    both = backbone(inputs("textcnn"))
    for needs in ({"pooled"}, {"tokens"}):
        backbone.restrict(frozenset(needs))
        found = backbone(inputs("textcnn"))
        assert [part is not None for part in (found.pooled, found.tokens)] == ["pooled" in needs, "tokens" in needs]
        for name in needs:
            assert torch.equal(getattr(found, name), getattr(both, name))
    assert both.tokens.shape == (5, 9, 15)


def test_the_tokens_of_textcnn_are_those_of_the_row_alone_and_zero_at_padding(build: Callable[..., Any]) -> None:
    backbone, given = build("textcnn"), inputs("textcnn")
    torch.nn.init.constant_(backbone.sentence.bias, 0.5)
    tokens = backbone(given).tokens
    mask = given.texts[0].mask
    assert not tokens[~mask].any()
    alone = torch.cat([backbone(one_row(given, row)).tokens[0] for row in range(5)])
    torch.testing.assert_close(tokens[mask], alone, rtol=0, atol=1e-5)


def test_defaults_are_those_of_the_papers(tokenizer: WordTokenizer) -> None:
    configs = {name: build_backbone(name, {}, tokenizer=tokenizer).config({}) for name in [*MATCHERS, "textcnn"]}
    assert all(config["embedding_size"] == 300 for config in configs.values())
    wanted: Mapping[str, Mapping[str, Any]] = {
        "hcnn": {"filters": 150, "filter_width": 4, "interaction_size": 64, "dropout": 0.2},
        "dam": {"attention_size": 200, "hidden_size": 200, "dropout": 0.2},
        "textcnn": {"filters": 100, "filter_widths": [3, 4, 5], "dropout": 0.5},
    }
    for name, values in wanted.items():
        assert {key: configs[name][key] for key in values} == values


def classifier(backbone: Backbone, **spec: Any) -> Any:
    """The head that the apps classification and matching get."""
    task = {"labels": ["no", "yes"], "problem_type": "single_label_classification", "dropout": None, **spec}
    return HeadSpec("sequence-classification", "et-appzoo/pooled-linear", {"num_outputs": 2, **task}).build(backbone)


@pytest.mark.parametrize("name", ALL)
def test_without_its_dropout_a_network_trains_without_any(build: Callable[..., Any], name: str) -> None:
    backbone = build(name, dropout=0.0).train()
    head = classifier(backbone).train()
    features = [backbone(inputs(name), want=head.needs & {"domain"}) for _ in range(2)]
    assert torch.equal(head(features[0])["logits"], head(features[1])["logits"])


@pytest.mark.parametrize("name", ALL)
def test_the_dropout_of_the_app_stands_before_the_last_layer(build: Callable[..., Any], name: str) -> None:
    backbone = build(name, dropout=0.0).train()
    head = classifier(backbone, dropout=0.6).train()
    features = backbone(inputs(name), want=head.needs & {"domain"})
    assert not torch.equal(head(features)["logits"], head(features)["logits"])
    assert [part.p for part in head.modules() if isinstance(part, torch.nn.Dropout)] == [0.6]


@pytest.mark.parametrize("name", ALL)
def test_logits_are_those_of_fp32_also_over_features_in_bf16(build: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    head = classifier(backbone).eval()
    with torch.autocast("cpu", torch.bfloat16):
        features = backbone(inputs(name), want=head.needs & {"domain"})
        logits = head(features)["logits"]
    assert logits.dtype == torch.float32
    assert torch.equal(logits, head(features)["logits"])


@pytest.mark.parametrize("name", ALL)
def test_a_network_has_a_head_of_its_own_for_classification_alone(build: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    assert type(classifier(backbone)).__module__.startswith("et_hcnn.")
    assert backbone.native_head("token-classification", num_outputs=2) is None


def vectors_of(backbone: Any, text: Text, row: int) -> Tensor:
    table: Tensor = backbone.words.weight
    return table[text.ids[row, : int(text.mask[row].sum())]]


def test_dam_is_the_formula_of_easytransfer_row_by_row(build: Callable[..., Any]) -> None:
    backbone, given = build("dam"), inputs("dam")
    network, hidden = backbone.encoder.network, backbone.encoder.hidden
    rows = []
    for row in range(5):
        a, b = (dense(network.project, vectors_of(backbone, text, row)) for text in given.texts)
        scores = torch.stack([torch.stack([dense(network.attend, x) @ dense(network.attend, y) for y in b]) for x in a])
        beta = [sum(w * y for w, y in zip(torch.softmax(line, 0), b, strict=True)) for line in scores]
        alpha = [sum(w * x for w, x in zip(torch.softmax(line, 0), a, strict=True)) for line in scores.T]
        v1 = torch.stack([dense(network.compare, torch.cat((x, y))) for x, y in zip(a, beta, strict=True)])
        v2 = torch.stack([dense(network.compare, torch.cat((y, x))) for y, x in zip(b, alpha, strict=True)])
        found = torch.cat((v1.sum(0), v1.max(0).values, v2.sum(0), v2.max(0).values))
        rows.append(torch.relu(hidden(found)))
    torch.testing.assert_close(backbone(given).pooled, torch.stack(rows), rtol=0, atol=1e-5)


def dense(layer: Any, x: Tensor) -> Tensor:
    """One layer with a relu: what EasyTransfer projects, attends and compares with."""
    (linear,) = (part for part in layer.modules() if isinstance(part, torch.nn.Linear))
    return torch.relu(x @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("name", ["dam", "damplus"])
def test_a_text_without_a_word_gives_finite_features_and_gradients(build: Callable[..., Any], name: str) -> None:
    backbone = build(name)
    for parameter in (parameter for name, parameter in backbone.named_parameters() if name.endswith("bias")):
        torch.nn.init.constant_(parameter, 0.5)
    empty, full = texts([0, 0, 3], width=4), texts([5, 0, 2], seed=1)
    narrow = Text(empty.ids[:, :3], empty.mask[:, :3])
    found = backbone(Inputs((empty, full))).pooled
    found.square().sum().backward()
    assert torch.isfinite(found).all()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in backbone.parameters())
    torch.testing.assert_close(backbone(Inputs((narrow, full))).pooled, found, rtol=0, atol=1e-6)


def test_bicnn_compares_strongest_answers_and_means_over_the_words(build: Callable[..., Any]) -> None:
    backbone, given = build("bicnn"), inputs("bicnn")
    features = backbone.encoder.network(*backbone.look_up(*given.texts)).detach()
    sides = []
    for text in given.texts:
        rows = []
        for row in range(5):
            words = vectors_of(backbone, text, row)
            table = torch.cat((words, torch.zeros(1, words.shape[1])))
            places = torch.arange(len(words))[None]
            alone = Words(table, places, torch.ones_like(places).bool(), len(words))
            found = backbone.encoder.network.sentence(alone)[0]
            rows.append(torch.cat((torch.relu(found), words.mean(0))))
        sides.append(torch.stack(rows))
    left, right = sides
    expected = torch.cat((left, right, left - right, left * right), 1).detach()
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)


def test_damplus_is_dam_beside_a_bicnn_of_half_its_size(build: Callable[..., Any]) -> None:
    backbone, given = build("damplus", hidden_size=8), inputs("damplus")
    dam, bicnn = backbone.encoder.encoders
    assert (dam.hidden.out_features, bicnn.hidden.out_features, bicnn.network.sentence.filters) == (8, 4, 4)
    pair = backbone.look_up(*given.texts)
    assert torch.equal(backbone(given).pooled, torch.cat((dam(*pair), bicnn(*pair)), 1))
