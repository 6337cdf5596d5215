"""Inputs other than one text, from rows to outputs: decoders, marks, images, bytes, outputs per token."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from et_core.config import ComponentConfig
from et_core.data import collate, write_store
from et_core.errors import DataError
from et_core.inference import Engine
from et_core.interfaces import (
    Artifact,
    Backbone,
    Example,
    Features,
    Generates,
    Head,
    Inputs,
    Model,
    Row,
    Tokenizer,
    build_backbone,
    build_component,
)
from et_core.registry.files import import_file
from et_core.runfolder import ModelBundle
from et_core.training import Supervised
from et_core.training.losses import BinaryCrossEntropy, CrossEntropy
from tests.seams.tools import (
    PLUGIN,
    VOCABULARY,
    PooledHead,
    TokenHead,
    bag,
    fit,
    seam,
    seam_plugins,
    settings,
    split_of,
    store_of,
    token_examples,
    weights,
)

CPU = torch.device("cpu")
for _name in ("apps_plugin", "writing_plugin"):
    import_file(PLUGIN.with_name(f"{_name}.py"))
writing: Any = sys.modules["writing_plugin"]
START, END = writing.START, writing.END


class Plain(Backbone):
    """What the throw-away backbones here share: they are built in the test and have no repeated layers."""

    hidden_size = 16

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Plain:
        return cls()

    def blocks(self) -> list[nn.Module]:
        return []

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {"model_type": "plain"}


def sequence_examples(count: int = 40) -> list[Example]:
    """Word 4 + n is answered by word 10 + n, n + 1 times, and the end."""
    rng = np.random.default_rng(0)
    examples = []
    for row in range(count):
        number = row % 4
        source = np.full(int(rng.integers(1, 5)), 4 + number, np.int32)
        target = np.array([10 + number] * (number + 1) + [END], np.int64)
        inputs = {"texts.0.ids": source, "decoder.ids": np.array([START, *target[:-1]], np.int32)}
        examples.append(Example(inputs, {"label": target}, row))
    return examples


def test_an_encoder_decoder_learns_and_generates(tmp_path: Path) -> None:
    store = store_of(tmp_path / "rows.arrow", sequence_examples())
    (part,) = next(split_of(store).turns(0)).parts
    assert part.inputs.decoder is not None
    assert part.inputs.decoder.ids.shape == part.targets["label"].shape
    assert torch.equal(part.targets["label"] == -100, ~part.inputs.decoder.mask)
    assert (
        float(CrossEntropy().count(part.targets))
        == float(part.inputs.decoder.mask.sum())
        < part.targets["label"].numel()
    )

    torch.manual_seed(0)
    backbone = writing.Writer(VOCABULARY)
    head = backbone.native_head("text-to-text")
    assert head is not None
    objective = Supervised(Model(backbone, {"main": head}), {"main": CrossEntropy()})
    split = split_of(store, token_budget=30)
    done = fit(objective, {"train": split}, tmp_path / "run", train=settings(max_steps=120))
    assert done.losses[-1] < 0.1 * done.losses[0]
    assert head.words.weight is backbone.words.weight  # type: ignore[union-attr]

    assert isinstance(backbone, Generates)
    examples = [Example({"texts.0.ids": np.full(3, 4 + number)}) for number in range(4)]
    with torch.inference_mode():
        written = backbone.generate(collate(examples, pad_id=0).inputs, {"max_length": 6}).tolist()
    answers = [row[: row.index(END)] if END in row else row for row in written]
    assert answers == [[10 + number] * (number + 1) for number in range(4)]


def marked_examples(count: int = 32, *, history: bool = True) -> list[Example]:
    """The words say nothing: the label is the mark of the first one, 1 or 2."""
    rng = np.random.default_rng(0)
    examples = []
    for row in range(count):
        ids = rng.integers(2, VOCABULARY, int(rng.integers(2, 9))).astype(np.int32)
        marks = np.zeros(len(ids), np.int64)
        marks[0] = 1 + row % 2
        inputs: dict[str, np.ndarray] = {"texts.0.ids": ids, **({"marks.history": marks} if history else {})}
        examples.append(Example(inputs, {"label": np.asarray(row % 2)}, row))
    return examples


def marked_bundle() -> ModelBundle:
    sizes = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32, "max_positions": 16}
    options = {**sizes, "dropout": 0.0, "attention_dropout": 0.0, "marks": {"history": 3}}
    tokenizer = seam.Words([f"w{number}" for number in range(VOCABULARY)])
    config = ComponentConfig(name="classification", options={"dropout": 0.0})
    app = build_component("apps", config, where="app")
    app.fit([Row({"text": "w2", "label": "no"}), Row({"text": "w3", "label": "yes"})])
    torch.manual_seed(0)
    backbone = build_backbone("bert", options, tokenizer=tokenizer)
    return ModelBundle(
        model=Model(backbone, {"main": app.head().build(backbone)}),
        tokenizer=tokenizer,
        tokenizer_name="seam-words",
        apps={"main": app},
        app_configs={"main": config},
        encoding={"max_length": 16, "truncation": "right"},
    )


def test_marks_change_nothing_at_first_then_learn_and_are_saved(tmp_path: Path) -> None:
    marked, plain = (collate(marked_examples(history=history), pad_id=0) for history in (True, False))
    with seam_plugins():
        bundle = marked_bundle()
        model = bundle.model
        with torch.inference_mode():
            torch.testing.assert_close(model.eval()(marked), model(plain), rtol=0, atol=1e-6)
        objective = Supervised(model, {"main": bundle.apps["main"].loss().build()})
        store = store_of(tmp_path / "rows.arrow", marked_examples())
        train = settings(max_steps=30, lr=0.01)
        done = fit(objective, {"train": split_of(store, token_budget=60)}, tmp_path / "run", train=train)
        bundle.save(tmp_path / "model")
        again = ModelBundle.load(tmp_path / "model")
    assert done.losses[-1] < 0.2 * done.losses[0]
    table = weights(model)["backbone.marks.history.weight"]
    assert float(table[1:].abs().max()) > 0.01
    extra = load_file(tmp_path / "model" / "extra.safetensors")
    assert list(extra) == ["backbone.marks.history.weight"]
    assert torch.equal(extra["backbone.marks.history.weight"], table)
    with torch.inference_mode():
        expected, found = model.eval()(marked)["logits"], again.model.eval()(marked)["logits"]
        assert torch.equal(found, expected)
        assert found.argmax(-1).tolist() == [row % 2 for row in range(32)]
        assert not torch.allclose(again.model(plain)["logits"], expected, atol=0.1)


class Pictured(Plain):
    """A picture as the first of the text's tokens, then one layer of attention over all of them."""

    accepts: ClassVar[frozenset[str]] = frozenset({"text", "image"})
    provides: ClassVar[frozenset[str]] = frozenset({"tokens", "pooled"})

    @dataclass
    class Options:
        pixels: int = 27

    def __init__(self, pixels: int = 27) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, self.hidden_size)
        self.project = nn.Linear(pixels, self.hidden_size)
        self.layer = nn.TransformerEncoderLayer(self.hidden_size, 2, 32, dropout=0.0, batch_first=True)

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        (text,) = inputs.texts
        assert inputs.image is not None
        # Bytes as they were stored: the scale is the backbone's affair.
        scaled = inputs.image.float() / 255 if inputs.image.dtype == torch.uint8 else inputs.image
        picture = self.project(scaled.flatten(1)).unsqueeze(1)
        mask = torch.cat([torch.ones_like(text.mask[:, :1]), text.mask], 1)
        states = self.layer(torch.cat([picture, self.words(text.ids)], 1), src_key_padding_mask=~mask)
        return Features(states, mask, (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))


def pictured_examples(count: int = 48, *, as_bytes: bool = False) -> list[Example]:
    """The label says which of words 2 and 3 is there, and whether the picture is bright: neither alone decides it."""
    rng = np.random.default_rng(0)
    examples = []
    for row in range(count):
        word, bright = row % 2, row // 2 % 2
        ids = rng.integers(4, VOCABULARY, int(rng.integers(1, 8))).astype(np.int32)
        ids[0] = 2 + word
        image = rng.integers(0, 100, (3, 3, 3)) + 150 * bright
        pixels = image.astype(np.uint8) if as_bytes else (image / 255).astype(np.float32)
        targets = {"label": np.asarray(2 * bright + word)}
        examples.append(Example({"texts.0.ids": ids, "image": pixels}, targets, row))
    return examples


def pictured_objective(outputs: int = 4, loss: Any = None) -> Supervised:
    torch.manual_seed(0)
    backbone = Pictured()
    head = PooledHead(backbone.hidden_size, outputs)
    return Supervised(Model(backbone, {"main": head}), {"main": loss or CrossEntropy()})


def test_a_picture_is_joined_with_text(tmp_path: Path) -> None:
    store = store_of(tmp_path / "rows.arrow", pictured_examples())
    objective = pictured_objective()
    before = weights(objective)
    (part,) = next(split_of(store).turns(0)).parts
    assert part.inputs.image is not None
    assert part.inputs.image.shape == (12, 3, 3, 3)
    sum(CrossEntropy()(objective.model(part), part.targets)).backward()
    gradient = objective.get_parameter("model.backbone.project.weight").grad
    assert gradient is not None
    assert float(gradient.abs().min(1).values.max()) > 0
    objective.zero_grad()

    done = fit(
        objective, {"train": split_of(store, token_budget=30)}, tmp_path / "run", train=settings(max_steps=40, lr=0.02)
    )
    assert done.losses[-1] < 0.2 * done.losses[0]
    assert not torch.equal(before["model.backbone.project.weight"], weights(objective)["model.backbone.project.weight"])
    logits = Engine(objective.result().eval(), pad_id=0, device=CPU, token_budget=20)(pictured_examples())["logits"]
    assert logits.argmax(-1).tolist() == [2 * (row // 2 % 2) + row % 2 for row in range(48)]


def flagged_examples() -> list[Example]:
    """Bytes in, truth values out: is word 3 there, is the picture bright; and a truth value for each word."""
    examples = []
    for example in pictured_examples(as_bytes=True):
        label = int(example.targets["label"])
        targets = {"label": np.array([label % 2 == 1, label >= 2]), "high": example.inputs["texts.0.ids"] > 9}
        examples.append(Example(example.inputs, targets, example.row))
    return examples


def test_bytes_and_truth_values_keep_their_kind(tmp_path: Path) -> None:
    examples = flagged_examples()
    store = store_of(tmp_path / "rows.arrow", examples)
    for example, stored in zip(examples, store.take(range(len(store))), strict=True):
        for name in ("image", "texts.0.ids"):
            assert stored.inputs[name].dtype == example.inputs[name].dtype
            np.testing.assert_array_equal(stored.inputs[name], example.inputs[name], strict=True)
        for name, target in example.targets.items():
            np.testing.assert_array_equal(stored.targets[name], target, strict=True)
    batch = collate(store.take([5, 9, 2]), pad_id=0)
    assert batch.inputs.image is not None
    assert batch.inputs.image.dtype == torch.uint8
    assert batch.targets["label"].dtype == batch.targets["high"].dtype == torch.bool
    assert torch.equal(batch.targets["high"], batch.inputs.texts[0].ids > 9)

    objective = pictured_objective(2, BinaryCrossEntropy())
    train = settings(max_steps=40, lr=0.02)
    done = fit(objective, {"train": split_of(store, token_budget=30)}, tmp_path / "run", train=train)
    assert done.losses[-1] < 0.2 * done.losses[0]
    engine = Engine(objective.result().eval(), pad_id=0, device=CPU, token_budget=20)
    logits = engine(store.take(range(len(store))))["logits"]
    np.testing.assert_array_equal(logits > 0, [example.targets["label"] for example in examples])


@pytest.mark.parametrize("at_once", [True, False])
def test_pictures_of_several_sizes_are_refused(tmp_path: Path, at_once: bool) -> None:
    first, later = (Example({"image": np.zeros(size, np.uint8)}) for size in ((3, 4, 4), (3, 2, 8)))
    chunks = [[first, later]] if at_once else [[first], [later]]
    text = (
        r"\[3, 2, 8\] where the first is \[3, 4, 4\]" if at_once else r"uint8.*\[4, 4\]\) in the.*\[2, 8\]\) in later"
    )
    with pytest.raises(DataError, match=rf"inputs\.image .*{text}"):
        write_store(tmp_path / "rows.arrow", iter(chunks))


def test_outputs_per_token_stand_in_their_rows(tmp_path: Path) -> None:
    store = store_of(tmp_path / "rows.arrow", token_examples())
    backbone = bag()
    objective = Supervised(Model(backbone, {"main": TokenHead(16, 3)}), {"main": CrossEntropy()})
    done = fit(objective, {"train": split_of(store)}, tmp_path / "run", train=settings(max_steps=40))
    assert done.losses[-1] < 0.2 * done.losses[0]
    model = objective.result().eval()
    order = np.random.default_rng(1).permutation(len(store))
    examples = store.take(order)
    longest = max(example.length for example in examples)
    for budget in (1, 30, 10_000):
        logits = Engine(model, pad_id=0, device=CPU, token_budget=budget)(examples)["logits"]
        assert logits.shape == (len(store), longest, 3)
        for row, example in zip(logits, examples, strict=True):
            with torch.inference_mode():
                alone = model(collate([example], pad_id=0))["logits"][0].numpy()
            np.testing.assert_allclose(row[: example.length], alone, rtol=0, atol=1e-5)
            assert row[: example.length].argmax(-1).tolist() == (example.inputs["texts.0.ids"] % 2).tolist()
