"""Where a run's tokenizer comes from: the section model.tokenizer, as it is written, saved and read again."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import et_core.api as et
from et_core.config import RunConfig, flatten, load_config, to_dict
from et_core.errors import ConfigError
from et_core.interfaces import Tokenizer
from et_core.registry import registry

NOUNS = ("shoe", "lamp", "table", "phone", "cable", "radio", "watch", "knife")
ROWS = [{"text": f"a {word} {noun}", "label": word} for noun in NOUNS for word in ("good", "bad")]
TINY = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16}


def saved(model: Any, overrides: list[str] | None = None) -> Any:
    """What is written of *model*, once it was checked that it is read back to the same config."""
    config = load_config({"model": model}, overrides).config
    values = to_dict(config)
    assert load_config(values).config == config
    return values["model"]


@pytest.mark.parametrize(
    "model",
    [
        "a@zoo",
        {"ref": "a@zoo", "tokenizer": "b@zoo"},
        {"ref": "a@init", "tokenizer": {"segmenter": "jieba"}},
        {"ref": "a@init", "tokenizer": {"name": "words", "vocab_size": 100}},
        {"ref": "a@init", "num_layers": 2, "tokenizer": {"ref": "b@zoo", "name": "words"}},
    ],
)
def test_a_saved_config_says_what_was_written(model: Any) -> None:
    assert saved(model) == model


def test_no_tokenizer_is_none_however_it_is_written() -> None:
    assert saved({"ref": "a@zoo", "tokenizer": None}) == saved({"ref": "a@zoo", "tokenizer": {}}) == "a@zoo"
    assert not [key for key in flatten(to_dict(RunConfig())) if key.startswith("model.tokenizer")]


def test_a_reference_is_short_for_its_key() -> None:
    assert saved("a@zoo", ["model.tokenizer=b@zoo"]) == {"ref": "a@zoo", "tokenizer": "b@zoo"}
    assert saved({"ref": "a@zoo", "tokenizer": {"ref": "b@zoo"}}) == {"ref": "a@zoo", "tokenizer": "b@zoo"}
    values = to_dict(load_config({"model": {"ref": "a@zoo", "tokenizer": "b@zoo"}}).config)
    assert flatten(values)["model.tokenizer.ref"] == "b@zoo"


def test_overrides_add_to_the_section_or_take_its_place() -> None:
    model = {"ref": "a@init", "tokenizer": {"segmenter": "jieba"}}
    assert saved(model, ["model.tokenizer.vocab_size=9"])["tokenizer"] == {"segmenter": "jieba", "vocab_size": 9}
    assert saved(model, ["model.tokenizer=b@zoo"])["tokenizer"] == "b@zoo"
    assert saved(model, ["model=c@init"]) == "c@init"


def test_a_wrong_type_is_told_with_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"model": {"ref": "a@zoo", "tokenizer": ["b@zoo"]}})
    assert str(caught.value) == "model.tokenizer.ref is ['b@zoo']: expected text or null."


def train(tmp_path: Path, model: dict[str, Any]) -> Any:
    config = {"app": "classification", "model": model, "data": {"train": ROWS}, "output": str(tmp_path / "run")}
    return et.train(config, {"train.max_steps": 1}, progress=False)


def test_settings_reach_the_tokenizer_that_is_fitted(tmp_path: Path) -> None:
    run = train(tmp_path, {"ref": "bert@init", **TINY, "tokenizer": {"vocab_size": 30}})
    assert run.bundle.tokenizer.vocab_size == 30
    assert run.config.model.tokenizer.options == {"vocab_size": 30}


def test_the_model_s_own_number_of_pieces_serves_where_the_tokenizer_s_is_not_said(tmp_path: Path) -> None:
    run = train(tmp_path, {"ref": "bert@init", **TINY, "vocab_size": 25})
    assert run.bundle.tokenizer.vocab_size == 25


def test_the_usual_number_of_pieces_is_the_class_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry("tokenizers").get("pretrained"), "default_vocab_size", 28)
    assert train(tmp_path, {"ref": "bert@init", **TINY}).bundle.tokenizer.vocab_size == 28


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (
            {"vocabsize": 9},
            "model.tokenizer.vocabsize is not an argument of pretrained (et-core 0.1.0). "
            "Did you mean 'vocab_size'? Arguments: vocab_size.",
        ),
        (
            {"ref": "bert-tiny-random", "vocab_size": 9},
            "model.tokenizer.vocab_size says how a vocabulary is learned, but bert-tiny-random@zoo brings its "
            "tokenizer. Leave it out, or start from fresh weights, such as bert@init.",
        ),
        ({"ref": "bert@init", "name": "fixed"}, "bert@init brings no tokenizer. Set model.tokenizer to a reference"),
    ],
)
def test_what_has_no_effect_is_refused_before_data_is_read(
    tmp_path: Path, tokenizer: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tokenizer.get("name") == "fixed":
        tokenizer["name"] = "pretrained"
        monkeypatch.setattr(registry("tokenizers").get("pretrained"), "trainable", False)
    model = {"ref": "bert@init", **TINY, "tokenizer": tokenizer}
    config = {
        "app": "classification",
        "model": model,
        "data": {"train": "no-such.tsv"},
        "output": str(tmp_path / "run"),
    }
    with pytest.raises(ConfigError) as caught:
        et.train(config, progress=False)
    assert str(caught.value).startswith(message)


def test_tokenizers_name_what_fit_takes() -> None:
    for name in registry("tokenizers").names():
        cls: type[Tokenizer] = registry("tokenizers").get(name)
        parameters = list(inspect.signature(cls.fit).parameters.values())
        assert [parameter.name for parameter in parameters[:2]] == ["texts", "vocab_size"]
        assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters[2:])


def test_a_run_goes_on_with_the_tokenizer_it_was_saved_with(tmp_path: Path) -> None:
    run = train(tmp_path / "first", {"ref": "bert@init", **TINY, "tokenizer": {"vocab_size": 30}})
    again = train(tmp_path / "second", {"ref": f"{run.folder.model}@local"})
    assert again.bundle.tokenizer.fingerprint() == run.bundle.tokenizer.fingerprint()
