from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, BertModel

from et_bert.encoder import BertBackbone
from et_core.config import check_arguments
from et_core.data import PretrainedTokenizer
from et_core.errors import ArtifactError, ComponentError, ConfigError
from et_core.interfaces import Artifact, Inputs, Text
from et_core.registry import ModelRef
from et_core.sources import resolve
from et_core.sources.local import LocalSource

SIZES = {
    "vocab_size": 2000,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}


@pytest.fixture(scope="module")
def tokenizer() -> PretrainedTokenizer:
    folder = resolve("bert-tiny-random@zoo").tokenizer
    assert folder is not None
    return PretrainedTokenizer.load(folder)


@pytest.fixture(scope="module")
def peer() -> BertModel:
    torch.manual_seed(0)
    return BertModel(BertConfig(**SIZES, initializer_range=0.2, attn_implementation="eager")).eval()


@pytest.fixture
def saved(tmp_path: Path, peer: BertModel, tokenizer: PretrainedTokenizer) -> Path:
    peer.save_pretrained(tmp_path / "bert")
    tokenizer.save(tmp_path / "bert")
    return tmp_path / "bert"


def artifact(folder: Path) -> Artifact:
    return LocalSource().resolve(ModelRef(str(folder), "local"))


def build(tokenizer: PretrainedTokenizer, folder: Path | None = None, **options: Any) -> BertBackbone:
    source = artifact(folder) if folder else Artifact(ModelRef("bert", "init"), "bert", SIZES)
    return BertBackbone.build(BertBackbone.Options(**options), tokenizer=tokenizer, artifact=source).eval()


def text(*lengths: int, segments: bool = False) -> Text:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 2000, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    parts = (torch.arange(max(lengths)) > 3).long().expand(ids.shape) if segments else None
    return Text(ids.masked_fill(~mask, 0), mask, parts)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("segments", [False, True], ids=["one text", "pair"])
@pytest.mark.parametrize("lengths", [(9, 9), (12, 4, 7)], ids=["even", "padded"])
@torch.no_grad()
def test_features_are_those_of_transformers(
    saved: Path, peer: BertModel, tokenizer: PretrainedTokenizer, lengths: Sequence[int], segments: bool
) -> None:
    batch = text(*lengths, segments=segments)
    features = build(tokenizer, saved)(Inputs((batch,)))
    expected = peer(input_ids=batch.ids, attention_mask=batch.mask.long(), token_type_ids=batch.segments)
    assert features.tokens is not None
    assert features.pooled is not None
    close(features.tokens[batch.mask], expected.last_hidden_state[batch.mask])
    close(features.pooled, expected.pooler_output)
    assert features.mask is batch.mask
    assert features.extra == {}


@pytest.mark.parametrize("lengths", [(9, 9), (12, 4, 7)], ids=["even", "padded"])
@torch.no_grad()
def test_what_is_wanted_is_that_of_transformers(
    saved: Path, peer: BertModel, tokenizer: PretrainedTokenizer, lengths: Sequence[int]
) -> None:
    batch = text(*lengths)
    backbone = build(tokenizer, saved)
    extra: Any = backbone(Inputs((batch,)), want=frozenset({"layers", "attentions", "queries-keys-values"})).extra
    expected = peer(batch.ids, attention_mask=batch.mask.long(), output_hidden_states=True, output_attentions=True)
    assert set(extra) == {"layers", "attentions", "queries-keys-values"}
    assert len(extra["layers"]) == 4
    assert len(extra["attentions"]) == len(extra["queries-keys-values"]) == 3
    for found, other in zip(extra["layers"], expected.hidden_states, strict=True):
        close(found[batch.mask], other[batch.mask])
    for found, other in zip(extra["attentions"], expected.attentions, strict=True):
        assert found.shape == (len(lengths), 4, max(lengths), max(lengths))
        real = batch.mask[:, None, :, None].expand_as(found)
        close(found[real], other[real])
    for (query, key, value), attention, layer in zip(
        extra["queries-keys-values"], extra["attentions"], peer.encoder.layer, strict=True
    ):
        assert query.shape == key.shape == value.shape == (len(lengths), 4, max(lengths), 8)
        scores = (query @ key.transpose(-1, -2) / math.sqrt(8)).masked_fill(~batch.mask[:, None, None, :], -torch.inf)
        close(scores.softmax(-1), attention)
        assert layer.attention.self.num_attention_heads == 4
    first = expected.hidden_states[0]
    projected = peer.encoder.layer[0].attention.self.value(first).unflatten(-1, (4, 8)).transpose(1, 2)
    close(extra["queries-keys-values"][0][2][0], projected[0])


@torch.no_grad()
def test_only_what_is_wanted_is_given_and_no_hook_stays(saved: Path, tokenizer: PretrainedTokenizer) -> None:
    backbone = build(tokenizer, saved)
    inputs = Inputs((text(5, 3),))
    for want in ("layers", "attentions", "queries-keys-values"):
        assert set(backbone(inputs, want=frozenset({want})).extra) == {want}
    attention = backbone.model.encoder.layer[0].attention.self
    assert not any(part._forward_hooks for part in (attention.query, attention.key, attention.value))


@torch.no_grad()
def test_what_stands_under_the_mask_changes_nothing(saved: Path, tokenizer: PretrainedTokenizer) -> None:
    backbone = build(tokenizer, saved)
    batch = text(12, 4, 7, segments=True)
    assert batch.segments is not None
    other = Text(batch.ids.masked_fill(~batch.mask, 1234), batch.mask, batch.segments.masked_fill(~batch.mask, 1))
    assert not torch.equal(batch.ids, other.ids)
    one, two = backbone(Inputs((batch,))), backbone(Inputs((other,)))
    assert torch.equal(one.pooled, two.pooled)
    assert torch.equal(one.tokens[batch.mask], two.tokens[batch.mask])


@torch.no_grad()
def test_marks_change_nothing_until_they_are_trained(saved: Path, tokenizer: PretrainedTokenizer) -> None:
    plain, marked = build(tokenizer, saved), build(tokenizer, saved, marks={"turn": 4})
    batch = text(9, 6)
    turn = torch.arange(9).expand(2, 9) % 4
    expected = plain(Inputs((batch,)))
    assert torch.equal(marked(Inputs((batch,), {"turn": turn})).pooled, expected.pooled)
    table = marked.marks["turn"]
    assert isinstance(table, nn.Embedding)
    table.weight[2] = torch.randn(32)
    assert torch.equal(marked(Inputs((batch,), {"turn": torch.ones_like(turn)})).pooled, expected.pooled)
    assert not torch.allclose(marked(Inputs((batch,), {"turn": turn})).pooled, expected.pooled, atol=1e-3)
    by_hand = plain.model(
        inputs_embeds=plain.model.embeddings.word_embeddings(batch.ids) + table.weight[turn],
        attention_mask=batch.mask,
    )
    close(marked(Inputs((batch,), {"turn": turn})).pooled, by_hand.pooler_output)


def test_marks_learn(tokenizer: PretrainedTokenizer) -> None:
    backbone = build(tokenizer, marks={"turn": 4})
    features = backbone(Inputs((text(9, 6),), {"turn": torch.ones(2, 9, dtype=torch.int64)}))
    features.pooled.sum().backward()
    gradient = backbone.marks["turn"].weight.grad
    assert gradient is not None
    assert gradient[1].abs().sum() > 0
    assert gradient[0].abs().sum() == 0


def test_the_pooler_goes_where_nobody_needs_it(saved: Path, tokenizer: PretrainedTokenizer) -> None:
    backbone = build(tokenizer, saved)
    backbone.restrict(frozenset({"pooled"}))
    assert any(name.startswith("model.pooler") for name, _ in backbone.named_parameters())
    backbone.restrict(frozenset({"tokens"}))
    assert not any("pooler" in name for name, _ in backbone.named_parameters())
    assert not any("pooler" in name for name in backbone.layout({}))
    assert backbone(Inputs((text(5),))).pooled is None


def test_blocks_are_the_layers_from_below(saved: Path, tokenizer: PretrainedTokenizer) -> None:
    backbone = build(tokenizer, saved)
    assert backbone.blocks() == list(backbone.model.encoder.layer)
    assert len(backbone.blocks()) == 3
    assert (backbone.hidden_size, backbone.max_length) == (32, 40)


def test_options_reach_the_config_of_fresh_weights(tokenizer: PretrainedTokenizer) -> None:
    options = {
        "num_layers": 1,
        "hidden_size": 24,
        "num_heads": 3,
        "intermediate_size": 20,
        "vocab_size": 2100,
        "max_positions": 17,
        "activation": "relu",
        "dropout": 0.25,
        "attention_dropout": 0.5,
    }
    checked = check_arguments(BertBackbone.Options, options, where="model", owner="bert")
    config = build(tokenizer, **checked).model.config
    assert [
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        config.vocab_size,
        config.max_position_embeddings,
        config.hidden_act,
        config.hidden_dropout_prob,
        config.attention_probs_dropout_prob,
    ] == list(options.values())


def test_fresh_weights_take_the_vocabulary_of_the_tokenizer(tokenizer: PretrainedTokenizer) -> None:
    options = BertBackbone.Options(num_layers=1, hidden_size=8, num_heads=1, intermediate_size=8)
    backbone = BertBackbone.build(options, tokenizer=tokenizer)
    assert backbone.model.config.vocab_size == tokenizer.vocab_size
    assert backbone.model.config.pad_token_id == tokenizer.pad_id
    assert backbone.max_length == 512


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 64}, "model.hidden_size is 64, but the weights have 32. "),
        ({"num_layers": 4}, "model.num_layers is 4, but the weights have 3. "),
        ({"vocab_size": 2500}, "model.vocab_size is 2500, but the weights have 2000. "),
        ({"activation": "relu"}, "model.activation is relu, but the weights have gelu. "),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused(
    saved: Path, tokenizer: PretrainedTokenizer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        build(tokenizer, saved, **options)
    assert str(error.value) == f"{message}Leave it out, or start from fresh weights with bert@init."


def test_sizes_that_a_config_leaves_to_the_defaults_are_known(saved: Path, tokenizer: PretrainedTokenizer) -> None:
    config = json.loads((saved / "config.json").read_text("utf-8"))
    for key in ("hidden_act", "hidden_dropout_prob"):
        del config[key]
    (saved / "config.json").write_text(json.dumps(config), "utf-8")
    build(tokenizer, saved, activation="gelu")
    with pytest.raises(ConfigError, match=r"model.activation is relu, but the weights have gelu\."):
        build(tokenizer, saved, activation="relu")


@torch.no_grad()
def test_fewer_layers_are_the_lowest_ones(saved: Path, peer: BertModel, tokenizer: PretrainedTokenizer) -> None:
    backbone = build(tokenizer, saved, num_layers=2, dropout=0.3)
    batch = text(8, 5)
    expected = peer(batch.ids, attention_mask=batch.mask.long(), output_hidden_states=True).hidden_states[2]
    close(backbone(Inputs((batch,))).tokens[batch.mask], expected[batch.mask])
    assert len(backbone.blocks()) == backbone.config({})["num_hidden_layers"] == 2
    assert backbone.model.config.hidden_dropout_prob == 0.3


def test_a_tokenizer_with_more_pieces_than_embeddings_is_refused(tokenizer: PretrainedTokenizer) -> None:
    with pytest.raises(ConfigError) as error:
        build(tokenizer, vocab_size=1500)
    assert str(error.value) == (
        f"the tokenizer has {tokenizer.vocab_size} pieces, the model 1500 embeddings: they do not belong together. "
        "Leave out model.vocab_size and model.tokenizer, or set both."
    )


@pytest.mark.parametrize(("needs", "warned"), [({"pooled"}, True), ({"tokens"}, False)])
def test_a_pooler_that_the_checkpoint_lacks_is_told_where_it_is_needed(
    needs: set[str], warned: bool, saved: Path, tokenizer: PretrainedTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    build(tokenizer, saved).restrict(frozenset(needs))
    assert not caplog.records
    tensors = load_file(saved / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    save_file(kept, saved / "model.safetensors", metadata={"format": "pt"})
    build(tokenizer, saved).restrict(frozenset(needs))
    assert ("the checkpoint has no pooler" in caplog.text) is warned


def test_weights_are_fp32_also_from_a_bf16_checkpoint(
    tmp_path: Path, saved: Path, peer: BertModel, tokenizer: PretrainedTokenizer
) -> None:
    half = {name: tensor.bfloat16() for name, tensor in load_file(saved / "model.safetensors").items()}
    save_file(half, saved / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((saved / "config.json").read_text("utf-8")) | {"dtype": "bfloat16"}
    (saved / "config.json").write_text(json.dumps(config), "utf-8")
    backbone = build(tokenizer, saved)
    assert {tensor.dtype for tensor in backbone.parameters()} == {torch.float32}
    found, expected = backbone.model.pooler.dense.weight, peer.pooler.dense.weight
    assert torch.equal(found, expected.bfloat16().float())


def test_weights_of_another_family_are_refused(saved: Path, tokenizer: PretrainedTokenizer) -> None:
    save_file(
        {"transformer.h.0.attn.weight": torch.zeros(4, 4)}, saved / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(ArtifactError) as error:
        build(tokenizer, saved)
    assert str(error.value).startswith(f"the weights in {saved} are not those of a BERT of this config: ")
    assert "tensors are missing, 0 have another shape (such as embeddings." in str(error.value)


def test_weights_of_another_size_are_refused(saved: Path, tokenizer: PretrainedTokenizer) -> None:
    config = json.loads((saved / "config.json").read_text("utf-8")) | {"intermediate_size": 64}
    (saved / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ArtifactError) as error:
        build(tokenizer, saved)
    assert "0 tensors are missing, 9 have another shape (such as " in str(error.value)
    assert str(error.value).endswith("Check that config.json and the weights belong together.")


def legacy(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize("form", ["sharded", "prefixed", "legacy", "with a head"])
def test_checkpoints_of_all_forms_load_in_full(
    form: str, saved: Path, peer: BertModel, tokenizer: PretrainedTokenizer
) -> None:
    weights = saved / "model.safetensors"
    tensors = load_file(weights)
    if form == "sharded":
        weights.unlink()
        peer.save_pretrained(saved, max_shard_size="50KB")
        assert len(list(saved.glob("model-*.safetensors"))) > 2
    elif form == "with a head":
        weights.unlink()
        model = BertForSequenceClassification(peer.config)
        model.bert.load_state_dict(peer.state_dict())
        model.save_pretrained(saved)
    else:
        rename = legacy if form == "legacy" else (lambda name: name)
        stored = {f"bert.{rename(name)}": tensor for name, tensor in tensors.items()}
        stored["cls.predictions.bias"] = torch.zeros(2000)
        save_file(stored, weights, metadata={"format": "pt"})
    found = build(tokenizer, saved).model.state_dict()
    assert set(found) == set(peer.state_dict())
    for name, tensor in peer.state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_what_is_saved_names_the_class_of_its_head(saved: Path, tokenizer: PretrainedTokenizer) -> None:
    backbone = build(tokenizer, saved)
    assert backbone.config({})["architectures"] == ["BertModel"]
    assert backbone.native_head("token-regression") is None
    head = backbone.native_head(
        "sequence-classification", num_outputs=2, labels=["no", "yes"], problem_type="single_label_classification"
    )
    assert head is not None
    config = backbone.config({"main": head})
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "no", "1": "yes"}
    layout = backbone.layout({"main": head})
    assert set(layout) == set(BertForSequenceClassification(backbone.model.config).state_dict())
    live = {id(tensor) for tensor in (*backbone.parameters(), *head.parameters())}
    assert live <= {id(tensor) for tensor in layout.values()}


def test_numbers_near_each_other_stay_apart_in_bf16(tokenizer: PretrainedTokenizer) -> None:
    backbone = build(tokenizer).eval()
    head = backbone.native_head("sequence-classification", num_outputs=1)
    assert head is not None
    with torch.no_grad():
        head.classifier.bias.fill_(3.0)
    inputs = Inputs((text(*range(2, 12)),))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = head.eval()(backbone(inputs, want=frozenset({"pooled"})))["logits"]
    assert logits.dtype == torch.float32
    assert len(logits.unique()) == 10 > len(logits.bfloat16().unique())


def test_a_width_that_the_heads_cannot_share_is_refused(tokenizer: PretrainedTokenizer) -> None:
    options = BertBackbone.Options(hidden_size=65, num_layers=1)
    with pytest.raises(ConfigError) as error:
        BertBackbone.build(options, tokenizer=tokenizer)
    assert str(error.value) == (
        "model.hidden_size is 65, which 12 heads cannot share evenly. Set model.num_heads to a number that divides it."
    )


def test_a_mark_without_a_table_is_named(tokenizer: PretrainedTokenizer) -> None:
    one = text(*range(2, 6))
    with pytest.raises(ComponentError, match=r"^the app gives each token the mark 'turn', for which there is no table"):
        build(tokenizer)(Inputs((one,), {"turn": torch.zeros_like(one.ids)}))
