from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from et_core.config import ComponentConfig
from et_core.data import PretrainedTokenizer, collate
from et_core.errors import ArtifactError, EtError
from et_core.interfaces import Batch, Model, Row, build_backbone, build_component
from et_core.runfolder import ModelBundle
from et_core.sources import resolve


def make(*, marks: dict[str, int] | None = None, **app_options: Any) -> ModelBundle:
    """A bundle with random weights: nothing in it is zero or as it was initialised."""
    artifact = resolve("bert-tiny-random@zoo")
    assert artifact.tokenizer is not None
    tokenizer = PretrainedTokenizer.load(artifact.tokenizer)
    options = {"marks": marks} if marks else {}
    config = ComponentConfig(name="classification", options=app_options)
    app = build_component("apps", config, where="app")
    app.fit([Row({"text": "a", "label": "no"}), Row({"text": "b", "label": "yes"})])
    backbone = build_backbone(artifact.family, options, tokenizer=tokenizer, artifact=artifact)
    model = Model(backbone, {"main": app.head().build(backbone)})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / 5)
    return ModelBundle(
        model=model,
        tokenizer=tokenizer,
        tokenizer_name="pretrained",
        apps={"main": app},
        app_configs={"main": config},
        encoding={"max_length": 32, "truncation": "left"},
    )


def batch(bundle: ModelBundle) -> Batch:
    rows = [Row({"text": text}, index=index) for index, text in enumerate(("good", "a much longer text", ""))]
    examples = bundle.apps["main"].encode(
        rows, bundle.tokenizer, accepts=bundle.model.backbone.accepts, **bundle.encoding
    )
    return collate(examples, pad_id=bundle.tokenizer.pad_id)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model folder without a manifest, so that what it says of itself is all there is to check."""
    make().save(tmp_path / "model")
    (tmp_path / "model" / "MANIFEST.json").unlink()
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({}, set()),
        ({"head": "pooled-linear"}, {"heads.main.linear.weight", "heads.main.linear.bias"}),
        ({"marks": {"turn": 3}}, {"backbone.marks.turn.weight"}),
        (
            {"marks": {"turn": 3}, "head": "pooled-linear"},
            {"heads.main.linear.weight", "heads.main.linear.bias", "backbone.marks.turn.weight"},
        ),
    ],
    ids=["native", "another head", "marks", "both"],
)
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, options: dict[str, Any], extra: set[str]) -> None:
    bundle = make(**options)
    bundle.save(tmp_path / "model")
    again = ModelBundle.load(tmp_path / "model")
    before, after = bundle.model.state_dict(), again.model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    with torch.no_grad():
        found, expected = (b.model.eval()(batch(b))["logits"] for b in (again, bundle))
    assert torch.equal(found, expected)
    assert again.encoding == bundle.encoding
    assert (again.model.backbone.family, again.model.backbone.options) == (
        "et-bert/bert",
        bundle.model.backbone.options,
    )
    assert again.tokenizer.fingerprint() == bundle.tokenizer.fingerprint()
    assert again.apps["main"].state() == bundle.apps["main"].state()
    assert again.app_configs == bundle.app_configs

    files = {file.name for file in (tmp_path / "model").iterdir()}
    assert files - {"extra.safetensors"} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "et.json",
        "MANIFEST.json",
    }
    assert ("extra.safetensors" in files) == bool(extra)
    if extra:
        assert set(load_file(tmp_path / "model" / "extra.safetensors")) == extra
    in_weights = set(load_file(tmp_path / "model" / "model.safetensors"))
    assert not any("marks" in name or "heads" in name for name in in_weights)


def test_weights_are_stored_in_fp32(tmp_path: Path) -> None:
    bundle = make()
    bundle.model.bfloat16()
    bundle.save(tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))["dtype"] == "float32"


def test_a_folder_can_be_saved_over(saved: Path) -> None:
    bundle = make(marks={"turn": 3})
    bundle.save(saved)
    make().save(saved)
    ModelBundle.load(saved)
    assert not (saved / "extra.safetensors").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "et.json", "config.json", "tokenizer.json"])
def test_a_file_that_is_not_as_it_was_saved_is_named_wherever_the_model_is_used(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    make().save(folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    for use in (ModelBundle.load, lambda path: resolve(f"{path}@local")):
        with pytest.raises(ArtifactError) as error:
            use(folder)
        assert str(error.value) == (
            f"{folder} cannot be used: {name} was altered: its sha256 is not the one in MANIFEST.json.\n"
            f"Restore the file, or train anew. If it was changed on purpose, remove {folder / 'MANIFEST.json'}."
        )


def test_what_the_parts_are_is_described_with_who_provides_them(saved: Path) -> None:
    described = json.loads((saved / "et.json").read_text("utf-8"))
    assert described["family"] == "et-bert/bert"
    assert described["tasks"]["main"]["head"]["task"] == "sequence-classification"
    assert {"et-bert", "et-appzoo", "et-core", "torch"} <= described["versions"].keys()


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    values = json.loads(path.read_text("utf-8"))
    replaced = change(values)
    path.write_text(json.dumps(values if replaced is None else replaced), "utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format=7), "{path} has format 7; this version reads 1."),
        (lambda v: v.pop("family") and None, "{path} lacks 'family': it is incomplete or was altered."),
        (lambda v: v.pop("tasks") and None, "{path} lacks 'tasks': it is incomplete or was altered."),
        (
            lambda v: v["tokenizer"].pop("name") and None,
            "{path} lacks 'tokenizer.name': it is incomplete or was altered.",
        ),
        (
            lambda v: v["tasks"]["main"].pop("state") and None,
            "{path} lacks 'tasks.main.state': it is incomplete or was altered.",
        ),
        (lambda v: v.update(tokenizer="x"), "{path} lacks 'tokenizer.name': it is incomplete or was altered."),
        (lambda v: [1, 2], "{path} holds a list, not an object with keys."),
    ],
)
def test_an_altered_description_says_what_is_wrong(saved: Path, change: Callable[[Any], Any], message: str) -> None:
    edit(saved / "et.json", change)
    with pytest.raises(ArtifactError) as error:
        ModelBundle.load(saved)
    assert str(error.value) == message.format(path=saved / "et.json")


def test_settings_and_names_that_do_not_exist_are_refused(saved: Path) -> None:
    edit(saved / "et.json", lambda v: v["options"].update(num_layer=2))
    with pytest.raises(EtError, match="num_layer"):
        ModelBundle.load(saved)
    edit(saved / "et.json", lambda v: (v["options"].clear(), v.update(family="berd"))[0])
    with pytest.raises(EtError, match="unknown backbone 'berd'"):
        ModelBundle.load(saved)


def test_a_description_that_is_cut_off_says_so(saved: Path) -> None:
    text = (saved / "et.json").read_text("utf-8")
    (saved / "et.json").write_text(text[: len(text) // 2], "utf-8")
    with pytest.raises(ArtifactError) as error:
        ModelBundle.load(saved)
    assert str(error.value).startswith(f"{saved / 'et.json'} is not valid JSON: ")


@pytest.mark.parametrize("name", ["et.json", "config.json"])
def test_a_folder_that_et_did_not_write_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactError) as error:
        ModelBundle.load(saved)
    assert str(error.value) == f"{saved / name} is missing: {saved} is not a model folder that et wrote."


def test_weights_that_are_missing_or_cut_off_are_named(saved: Path) -> None:
    file = saved / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    with pytest.raises(ArtifactError) as error:
        ModelBundle.load(saved)
    assert str(error.value).startswith(f"{file} cannot be read: ")
    file.unlink()
    with pytest.raises(ArtifactError) as error:
        ModelBundle.load(saved)
    assert str(error.value) == f"{file} is missing."


def test_weights_of_marks_that_are_missing_are_named(tmp_path: Path) -> None:
    make(marks={"turn": 3}).save(tmp_path / "model")
    for name in ("extra.safetensors", "MANIFEST.json"):
        (tmp_path / "model" / name).unlink()
    with pytest.raises(ArtifactError) as error:
        ModelBundle.load(tmp_path / "model")
    assert str(error.value) == f"{tmp_path / 'model' / 'extra.safetensors'} is missing."


@pytest.mark.parametrize("change", ["missing", "surplus", "shape"])
def test_tensors_that_do_not_fit_are_named(saved: Path, change: str) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(file)
    name = "classifier.bias"
    if change == "missing":
        del tensors[name]
    elif change == "surplus":
        name = "classifier.scale"
        tensors[name] = torch.ones(2)
    else:
        tensors[name] = torch.zeros(3)
    save_file(tensors, file)
    with pytest.raises(ArtifactError) as error:
        ModelBundle.load(saved)
    assert str(error.value) == (
        f"{file} does not fit the model that {saved / 'et.json'} describes: 1 tensors differ, such as {name!r}."
    )


def test_a_label_that_was_taken_out_does_not_fit_the_weights(saved: Path) -> None:
    edit(saved / "et.json", lambda v: v["tasks"]["main"]["state"]["labels"]["names"].append("perhaps"))
    with pytest.raises(ArtifactError, match=r"does not fit the model .*: 2 tensors differ, such as 'classifier\."):
        ModelBundle.load(saved)


def test_a_tokenizer_that_was_altered_is_refused(saved: Path) -> None:
    def swap(values: Any) -> None:
        vocab = values["model"]["vocab"]
        pieces = list(vocab)
        vocab[pieces[700]], vocab[pieces[701]] = vocab[pieces[701]], vocab[pieces[700]]

    expected = ModelBundle.load(saved).tokenizer.fingerprint()
    edit(saved / "tokenizer.json", swap)
    found = PretrainedTokenizer.load(saved).fingerprint()
    with pytest.raises(ArtifactError) as error:
        ModelBundle.load(saved)
    assert str(error.value) == (
        f"the tokenizer in {saved} gives other tokens than the one the model was trained with "
        f"(fingerprint {found}, expected {expected}). "
        f"Restore its files, or install the versions that {saved / 'et.json'} names."
    )
