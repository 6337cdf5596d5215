from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import et_core as et
from et_core.config import load_config
from et_core.errors import ArtifactError, ConfigError, EtError
from et_core.inference import Run

NOUNS = ["fox", "dog", "cat", "bird", "fish", "horse", "cow", "pig", "hen", "duck"]
PAIRS = [
    {"text": f"the {a} runs away", "text_pair": f"a {b} is running away now", "label": "same" if a == b else "other"}
    for a in NOUNS
    for b in (a, NOUNS[NOUNS.index(a) - 1])
]
SMALL: dict[str, Any] = {"embedding_size": 16, "filters": 8, "hidden_size": 12}
SIZES: dict[str, dict[str, Any]] = {
    "hcnn": SMALL,
    "bicnn": SMALL,
    "dam": {"embedding_size": 16, "attention_size": 8, "hidden_size": 12},
    "damplus": {"embedding_size": 16, "attention_size": 8, "hidden_size": 12},
    "textcnn": {"embedding_size": 16, "filters": 8},
}


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Run]:
    def run(model: Any = "hcnn", *, name: str = "run", rows: Any = PAIRS, resume: bool = False, **train: Any) -> Run:
        if isinstance(model, str):
            model = {"ref": f"{model}@init", **SIZES[model]}
        config = {
            "app": "classification",
            "model": model,
            "data": {"train": rows, "dev": rows[:10]},
            "train": {"max_steps": 6, "batch_size": 8, "lr": 1e-2, "precision": "fp32", **train},
            "output": str(tmp_path / name),
        }
        return et.train(config, progress=False, resume=resume)

    return run


def predicted(run: Run, rows: list[dict[str, Any]] = PAIRS) -> list[dict[str, float]]:
    return [prediction.probabilities for prediction in run.predict([{**row, "label": None} for row in rows])]


@pytest.mark.parametrize("model", SIZES)
def test_a_run_trains_and_its_folder_predicts_the_same_again(train: Callable[..., Run], model: str) -> None:
    run = train(model)
    before = json.dumps(predicted(run))
    again = et.load(run.path)
    assert json.dumps(predicted(again)) == before
    assert json.loads((run.folder.model / "config.json").read_text("utf-8"))["model_type"] == model
    described = json.loads((run.folder.model / "et.json").read_text("utf-8"))
    assert (described["family"], described["tokenizer"]["name"]) == (f"et-hcnn/{model}", "et-hcnn/words")
    assert "et-hcnn" in described["versions"]
    assert "library_name" not in (run.path / "README.md").read_text("utf-8")


@pytest.mark.parametrize("model", SIZES)
def test_a_network_learns_which_pairs_are_the_same(train: Callable[..., Run], model: str) -> None:
    run = train(model, max_steps=250, batch_size=20)
    assert run.metrics["accuracy"] == 1.0


def test_textcnn_classifies_single_texts(train: Callable[..., Run]) -> None:
    rows = [
        {"text": f"{noun} {word}", "label": label} for noun in NOUNS for word, label in (("up", "+"), ("down", "-"))
    ]
    run = train("textcnn", rows=rows, max_steps=60)
    assert [found.prediction for found in run.predict(["fox up", "hen down"])] == ["+", "-"]


def test_one_row_at_a_time_is_predicted_as_all_together(train: Callable[..., Run]) -> None:
    run = train()
    rows = [*PAIRS, {"text": "fox", "text_pair": "", "label": "same"}, {**PAIRS[0], "text": "the dog " * 40}]
    together = predicted(run, rows)
    for row, expected in zip(rows, together, strict=True):
        (alone,) = predicted(run, [row])
        assert alone == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "adagrad"])
def test_a_run_that_was_stopped_and_continued_ends_with_the_same_bits(
    train: Callable[..., Run], optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(name="whole", optimizer=optimizer)
    from et_core.training.loop import Loop

    step = Loop._step

    def stopping(self: Any, index: int, *rest: Any) -> bool:
        if index == 3:
            signal.raise_signal(signal.SIGTERM)
        return step(self, index, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", stopping)
        with pytest.raises(EtError, match="Go on with --resume"):
            train(name="parts", optimizer=optimizer)
    parts = train(name="parts", optimizer=optimizer, resume=True)
    for file in ("model.safetensors", "extra.safetensors"):
        assert (parts.folder.model / file).read_bytes() == (whole.folder.model / file).read_bytes()


def test_training_goes_on_from_the_weights_of_a_run(train: Callable[..., Run]) -> None:
    first = train(name="first")
    ref = f"{first.folder.model}@local"
    second = train(ref, name="second", lr=1e-12) if ref in SIZES else train({"ref": ref}, name="second", lr=1e-12)
    old, new = (load_file(run.folder.model / "model.safetensors") for run in (first, second))
    assert old.keys() == new.keys()
    for name, tensor in old.items():
        torch.testing.assert_close(new[name], tensor, rtol=0, atol=1e-8)
    config = json.loads((second.folder.model / "config.json").read_text("utf-8"))
    assert config == json.loads((first.folder.model / "config.json").read_text("utf-8"))


def test_what_does_not_fit_the_weights_is_refused(train: Callable[..., Run], tmp_path: Path) -> None:
    first = train(name="first")
    ref = f"{first.folder.model}@local"
    with pytest.raises(ConfigError) as caught:
        train({"ref": ref, "filters": 9}, name="second")
    assert str(caught.value) == (
        "model.filters is 9, but the weights have 8. Leave it out, or start from fresh weights with hcnn@init."
    )
    with pytest.raises(ConfigError, match=f"but {ref} has word vectors of its own. Leave it out, or start"):
        train({"ref": ref, "vectors": "glove.txt"}, name="second")
    with pytest.raises(ConfigError) as caught:
        train({"ref": ref, "tokenizer": {"segmenter": "jieba"}}, name="second")
    assert str(caught.value) == (
        f"model.tokenizer.segmenter says how a vocabulary is learned, but {ref} brings its tokenizer. "
        "Leave it out, or start from fresh weights, such as hcnn@init."
    )


def test_weights_that_are_not_those_of_their_config_are_refused(train: Callable[..., Run]) -> None:
    first = train(name="first")
    model = first.folder.model
    for name in ("MANIFEST.json", "et.json"):
        (model / name).unlink(missing_ok=True)
    config = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "filters": 9}), "utf-8")
    with pytest.raises(ArtifactError) as caught:
        train({"ref": f"{model}@local"}, name="second")
    assert str(caught.value) == (
        f"the weights in {model} are not those of the hcnn that its config.json describes: "
        "3 tensors are missing, left over or of another shape, such as 'backbone.encoder.hidden.weight'."
    )


def vectors(folder: Path) -> Path:
    file = folder / "vectors.txt"
    rng = torch.Generator().manual_seed(0)
    lines = [" ".join([word, *(f"{x:.4f}" for x in torch.randn(16, generator=rng).tolist())]) for word in NOUNS]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def test_frozen_vectors_stay_as_they_are_and_need_no_file_later(train: Callable[..., Run], tmp_path: Path) -> None:
    file = vectors(tmp_path)
    model = {"ref": "hcnn@init", **SMALL, "vectors": str(file), "freeze_vectors": True}
    first = train(model, name="first", optimizer="adagrad")
    table = load_file(first.folder.model / "model.safetensors")["backbone.words.weight"]
    line = file.read_text("utf-8").splitlines()[0].split()
    stored = table[first.bundle.tokenizer.vocabulary[line[0]]]  # type: ignore[attr-defined]
    assert stored.tolist() == pytest.approx([float(x) for x in line[1:]])
    file.unlink()
    assert predicted(et.load(first.path)) == predicted(first)
    second = train({"ref": f"{first.folder.model}@local"}, name="second")
    assert torch.equal(load_file(second.folder.model / "model.safetensors")["backbone.words.weight"], table)
    third = train({"ref": f"{first.folder.model}@local", "freeze_vectors": False}, name="third")
    assert not torch.equal(load_file(third.folder.model / "model.safetensors")["backbone.words.weight"], table)


def test_the_tokenizer_s_settings_reach_it_and_are_saved(train: Callable[..., Run], tmp_path: Path) -> None:
    rows = [{**row, "text": f"南京市长江大桥 {row['text']}"} for row in PAIRS]
    settings = {"name": "words", "segmenter": "jieba", "lowercase": False, "vocab_size": 20}
    run = train({"ref": "hcnn@init", **SMALL, "tokenizer": settings}, rows=rows)
    saved = load_config(run.folder.config_file).config.model.tokenizer
    assert (saved.ref, saved.name, saved.options) == (
        None,
        "et-hcnn/words",
        {"segmenter": "jieba", "lowercase": False, "vocab_size": 20},
    )
    tokenizer: Any = et.load(run.path).bundle.tokenizer
    assert tokenizer.vocab_size == 20
    assert {"南京市", "长江大桥"} <= set(tokenizer.vocabulary)
    again = et.train(run.folder.config_file, {"data.train": rows, "data.dev": rows[:10], "output": str(tmp_path / "b")})
    assert again.bundle.tokenizer.fingerprint() == tokenizer.fingerprint()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"segmentor": "jieba"}, "model.tokenizer.segmentor is not an argument of words (et-hcnn 0.1.0). "
         "Did you mean 'segmenter'? Arguments: vocab_size, segmenter, lowercase, min_frequency."),
        ({"vocab_size": 2}, "model.tokenizer.vocab_size is 2: expected a whole number above 3."),
        ({"lowercase": "perhaps"}, "model.tokenizer.lowercase is 'perhaps': expected true or false."),
        ({"segmenter": "jeiba"}, "unknown segmenter 'jeiba'.\nDid you mean 'jieba'?\n"
         "Registered segmenters: characters, jieba, words."),
        ({"name": "wrods"}, "unknown tokenizer 'wrods'.\nDid you mean 'words'?\n"
         "Registered tokenizers: pretrained, words."),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_the_tokenizer_is_told_before_data_is_read(
    train: Callable[..., Run], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(EtError) as caught:
        train({"ref": "hcnn@init", "tokenizer": settings}, rows=["no-such-file.tsv"])
    assert str(caught.value) == message


def test_another_family_learns_words_and_finds_its_tokenizer_again(train: Callable[..., Run]) -> None:
    sizes = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16}
    first = train({"ref": "bert@init", **sizes, "tokenizer": {"name": "words", "segmenter": "jieba"}}, name="first")
    second = train({"ref": f"{first.folder.model}@local"}, name="second")
    assert second.bundle.tokenizer_name == "et-hcnn/words"
    assert second.bundle.tokenizer.fingerprint() == first.bundle.tokenizer.fingerprint()


def test_a_network_of_words_takes_the_pieces_of_another_model(train: Callable[..., Run]) -> None:
    run = train({"ref": "hcnn@init", **SMALL, "tokenizer": {"ref": "bert-tiny-random", "name": "pretrained"}})
    assert run.bundle.tokenizer_name == "et-core/pretrained"
    assert predicted(et.load(run.path)) == predicted(run)
