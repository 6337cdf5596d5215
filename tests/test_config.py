"""The settings of a run: files, overrides, where each value comes from, and what is said of a wrong one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from et_core.config import RunConfig, check_arguments, flatten, load_config, to_dict
from et_core.errors import ConfigError

SAMPLE = """\
app:
  name: classification
  mode: multi-label
model: bert@init
data:
  train: [a.tsv, b.tsv]
  dev: 0.1
  columns: {text: sentence}
train:
  lr: 1e-4
  batch_size: 8   # rows per step
"""


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.yaml"
    path.write_text(SAMPLE, "utf-8")
    return path


def refused(source: Any = None, overrides: Any = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    return str(caught.value)


def test_defaults_alone_make_a_config() -> None:
    assert load_config().config == RunConfig()


def test_file_is_read_with_its_types(sample: Path) -> None:
    config = load_config(sample).config
    assert (config.app.name, config.app.options) == ("classification", {"mode": "multi-label"})
    assert config.model.ref == "bert@init"
    assert (config.data.train, config.data.dev) == (["a.tsv", "b.tsv"], 0.1)
    assert config.data.columns == {"text": "sentence"}
    assert config.train.lr == 1e-4
    assert config.train.batch_size == 8


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=2", "train.epochs", 2.0),
        ("train.lr=3e-5", "train.lr", 3e-5),
        ("train.keep_best=null", "train.keep_best", None),
        ("train.eval_every=50", "train.eval_every", 50),
        ("train.freeze=[embeddings, blocks.0]", "train.freeze", ["embeddings", "blocks.0"]),
        ("data.header=false", "data.header", False),
        ("data.columns={text: sentence}", "data.columns", {"text": "sentence"}),
        ("data.columns.text=sentence", "data.columns", {"text": "sentence"}),
        ("data.train=a=b.tsv", "data.train", "a=b.tsv"),
        ("data.separator=|", "data.separator", "|"),
        ("data.separator=,", "data.separator", ","),
        ("data.separator=;", "data.separator", ";"),
        ("data.separator= ", "data.separator", " "),
        ("data.separator=~", "data.separator", None),
        ("metrics=[accuracy, mcc]", "metrics", ["accuracy", "mcc"]),
        ("train.optimizer=lion", "train.optimizer.name", "lion"),
        ("train.optimizer={name: lion, betas: [0.9, 0.99]}", "train.optimizer.options", {"betas": [0.9, 0.99]}),
        ("train.optimizer.betas=[0.9, 0.98]", "train.optimizer.options", {"betas": [0.9, 0.98]}),
        ("train.optimizer.betas=[0.9, 0.98]", "train.optimizer.name", "adamw"),
    ],
)
def test_override_values_are_yaml(override: str, path: str, value: object) -> None:
    found: Any = load_config(None, [override]).config
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_overrides_may_be_nested_or_dotted_keys_and_the_later_wins(sample: Path) -> None:
    nested = load_config(sample, {"train": {"lr": 1.0, "epochs": 5}, "train.lr": 2.0}).config.train
    assert (nested.lr, nested.epochs, nested.batch_size) == (2.0, 5.0, 8)
    assert load_config(sample, ["train.lr=1", "train.lr=2"]).config.train.lr == 2.0


@pytest.mark.parametrize("section", ["app", "model", "strategy"])
def test_short_form_is_the_name_or_reference(section: str, tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(f"{section}: some\n", "utf-8")
    key = "ref" if section == "model" else "name"
    for loaded in (load_config(path), load_config(None, [f"{section}=some"]), load_config({section: "some"})):
        assert getattr(getattr(loaded.config, section), key) == "some"
        assert loaded.origins[f"{section}.{key}"] != "default"
    options = load_config(None, [f"{section}=some", f"{section}.size=2"]).config
    assert getattr(options, section).options == {"size": 2}


@pytest.mark.parametrize(
    "overrides",
    [
        ["strategy={name: ddp, processes: 2}"],
        ["strategy=ddp", "strategy.processes=2"],
        ["strategy.processes=2", "strategy=ddp"],
        {"strategy": {"name": "ddp", "processes": 2}},
        {"strategy.processes": 2, "strategy": "ddp"},
    ],
)
def test_name_and_options_may_be_written_together_or_in_any_order(overrides: Any) -> None:
    loaded = load_config({"strategy": {"name": "single", "device": "cpu"}}, overrides)
    assert (loaded.config.strategy.name, loaded.config.strategy.options) == ("ddp", {"processes": 2})
    assert loaded.origins["strategy.name"] == loaded.origins["strategy.processes"] == "override"


def test_options_of_a_file_stay_with_the_component_they_are_for() -> None:
    given = {"model": {"ref": "bert@init", "num_layers": 2}}
    assert load_config(given, ["model=bert-base-en"]).config.model.options == {}
    assert load_config(given, ["model={ref: bert@init, hidden_size: 8}"]).config.model.options == {
        "num_layers": 2,
        "hidden_size": 8,
    }
    for kept in ("model=bert@init", "model.ref=bert-base-en", "model={hidden_size: 8}"):
        assert load_config(given, [kept]).config.model.options["num_layers"] == 2


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("output", "2026-11-22"),
        ("data.dev", "1e-1"),
        ("data.columns.text", "0"),
        ("app.labels", "[0, 1]"),
        ("data.header", "off"),
        ("data.train", "[a.tsv, '${oc.env:PATH}']"),
        ("data.train", "'1e5'"),
    ],
)
def test_setting_is_read_as_the_same_text_in_a_file(key: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    section, _, inner = key.partition(".")
    first, _, second = inner.partition(".")
    lines = [section, first, second] if second else [section, first] if first else [section]
    path.write_text("".join(f"{' ' * depth}{name}:\n" for depth, name in enumerate(lines))[:-1] + f" {text}\n", "utf-8")
    assert load_config(None, [f"{key}={text}"]).config == load_config(path).config


def test_date_is_text_and_a_number_with_an_exponent_a_number() -> None:
    config = load_config(None, ["output=2026-11-22", "data.dev=1e-1"]).config
    assert (config.output, config.data.dev) == ("2026-11-22", 0.1)


def test_numbers_are_text_where_text_is_wanted() -> None:
    config = load_config(None, ["data.columns={text: 0, label: 1}", "data.column_names=[1, 2.5]"]).config
    assert config.data.columns == {"text": "0", "label": "1"}
    assert config.data.column_names == ["1", "2.5"]
    assert check_arguments(Component, {"names": [0, 1]}, where="app", owner="demo") == {"names": ["0", "1"]}


def test_settings_are_flattened_with_their_short_forms_spelled_out() -> None:
    values = {"model": "bert@zoo", "data": {"train": "a.tsv", "columns": {}}, "train": {"lr": 1.0}}
    assert flatten(values) == {"model.ref": "bert@zoo", "data.train": "a.tsv", "data.columns": {}, "train.lr": 1.0}


def test_option_joins_the_short_form_of_a_file(sample: Path) -> None:
    model = load_config(sample, ["model.num_layers=2"]).config.model
    assert (model.ref, model.options) == ("bert@init", {"num_layers": 2})


def test_reference_that_looks_like_another_type_stays_text() -> None:
    assert load_config(None, ["model=1e5@zoo"]).config.model.ref == "1e5@zoo"
    assert load_config(None, ["model=123"]).config.model.ref == "123"


def test_environment_and_other_settings_can_be_referred_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", "/data")
    path = tmp_path / "refers.yaml"
    path.write_text(
        "data:\n  train: ${oc.env:DATA_ROOT}/a.tsv\n  max_length: 64\ntrain:\n  max_steps: ${data.max_length}\n"
    )
    config = load_config(path, ["data.dev=${data.train}"]).config
    assert (config.data.train, config.data.dev, config.train.max_steps) == ("/data/a.tsv", "/data/a.tsv", 64)


def test_missing_environment_variable_is_named(tmp_path: Path) -> None:
    path = tmp_path / "refers.yaml"
    path.write_text("data: {train: '${oc.env:ET_NOT_SET}'}\n")
    assert refused(path).startswith(f"{path} line 1: data.train: ")
    assert "Environment variable 'ET_NOT_SET' not found" in refused(path)
    assert refused(path, ["data.train=${oc.env:ET_NOT_SET}"]).startswith("data.train: ")
    assert refused({"data": {"train": "${oc.env:ET_NOT_SET}"}}).startswith("data.train: ")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate=1", "train.learning_rate is not a setting. Did you mean train.lr?"),
        ("learning_rate=1", "learning_rate is not a setting. Did you mean train.lr?"),
        ("train.epoch=1", "train.epoch is not a setting. Did you mean train.epochs?"),
        ("train.save_steps=5", "train.save_steps is not a setting. Did you mean train.checkpoint_every?"),
        ("data.max_seq_length=5", "data.max_seq_length is not a setting. Did you mean data.max_length?"),
        ("epochs=3", "epochs is not a setting. Did you mean train.epochs?"),
        ("train.max_length=5", "train.max_length is not a setting. Did you mean data.max_length?"),
        ("task=x", "task is not a setting. Did you mean app?"),
        (
            "xyzzy=1",
            "xyzzy is not a setting. Settings: app, model, data, objective, distill, search, train, metrics, strategy, "
            "plugins, output.",
        ),
        ("plugins.xyzzy=1", "plugins.xyzzy is not a setting. Settings of plugins: required, files."),
    ],
)
def test_unknown_key_is_answered_with_the_nearest_one(override: str, message: str) -> None:
    assert refused(None, [override]) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", "train.epochs is 'many': expected a number above 0."),
        ("train.epochs=0", "train.epochs is 0: expected a number above 0."),
        ("train.batch_size=1.5", "train.batch_size is 1.5: expected a whole number above 0."),
        ("train.seed=-1", "train.seed is -1: expected a whole number of at least 0."),
        ("train.seed=true", "train.seed is True: expected a whole number of at least 0."),
        ("train.layer_decay=2", "train.layer_decay is 2: expected a number above 0 and of at most 1."),
        ("train.precision=fp8", "train.precision is 'fp8': expected 'auto' or 'fp32' or 'bf16'."),
        ("train.eval_every=never", "train.eval_every is 'never': expected 'epoch' or a whole number above 0 or null."),
        ("train.freeze=backbone", "train.freeze is 'backbone': expected a list of text."),
        ("data.columns=text", "data.columns is 'text': expected keys with text."),
        ("data.header=maybe", "data.header is 'maybe': expected true or false."),
        ("train=3", "train is 3: expected keys and values."),
        ("app.name=[1]", "app.name is [1]: expected text."),
        ("train.lr", "'train.lr' is not an override. Write key=value, such as train.epochs=1."),
        ("data.train=${x", "'data.train=${x': no viable alternative at input '${x'"),
        (
            "train.freeze=[a",
            "'train.freeze=[a': the value is not valid YAML. '[' is never closed. "
            "Where spaces follow, put the whole setting in quotes: 'train.freeze=...'.",
        ),
        ("train.epochs=", "train.epochs is null: expected a number above 0."),
        ("train=null", "train is null: expected keys and values."),
    ],
)
def test_wrong_value_is_told_with_its_path(override: str, message: str) -> None:
    assert refused(None, [override]) == message


def test_each_value_knows_its_origin(sample: Path) -> None:
    origins = load_config(sample, ["train.lr=1", "model.num_layers=2", "data.columns.label=y"]).origins
    assert origins["app.name"] == f"{sample}:2"
    assert origins["app.mode"] == f"{sample}:3"
    assert origins["model.ref"] == f"{sample}:4"
    assert origins["data.train"] == f"{sample}:6"
    assert origins["data.columns.text"] == f"{sample}:8"
    assert origins["train.batch_size"] == f"{sample}:11"
    assert origins["train.lr"] == origins["model.num_layers"] == origins["data.columns.label"] == "override"
    assert origins["train.epochs"] == "default"
    assert load_config({"train": {"lr": 1.0}}).origins["train.lr"] == "given"


def test_config_survives_a_round_trip(sample: Path) -> None:
    config = load_config(sample, ["strategy=ddp", "strategy.processes=2", "model.tokenizer=x@zoo"]).config
    assert load_config(to_dict(config)).config == config
    assert load_config(to_dict(RunConfig())).config == RunConfig()


def test_paths_are_kept_as_text(tmp_path: Path) -> None:
    config = load_config(
        {"data": {"train": tmp_path / "a.tsv"}}, {"data.dev": [tmp_path / "b"], "output": tmp_path}
    ).config
    assert config.data.train == str(tmp_path / "a.tsv")
    assert config.data.dev == [str(tmp_path / "b")]
    assert config.output == str(tmp_path)


def test_rows_in_memory_are_carried_and_only_mentioned_in_the_saved_config() -> None:
    rows, more = [{"text": "a", "label": "x"}], [{"text": "b", "label": "y"}]
    given = {"data": {"train": rows, "max_length": 16}}
    loaded = load_config(given, {"data.dev": more})
    assert loaded.config.data.train is rows
    assert loaded.config.data.dev is more
    assert loaded.config.data.max_length == 16
    saved = to_dict(loaded.config)["data"]
    assert (saved["train"], saved["dev"]) == ("(in memory)", "(in memory)")
    assert given == {"data": {"train": rows, "max_length": 16}}


class Component:
    def __init__(
        self,
        *,
        mode: Literal["sum", "mean"] = "sum",
        share: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        names: list[str] | None = None,
    ) -> None: ...


@dataclass
class Options:
    size: int | None = None
    marks: dict[str, int] = field(default_factory=dict)


@dataclass
class Nested:
    inner: Options = field(default_factory=Options)
    other: Options | None = None


def test_options_are_checked_against_the_signature_they_are_for() -> None:
    checked = check_arguments(Component, {"mode": "mean", "share": "0.5"}, where="app", owner="demo")
    assert checked == {"mode": "mean", "share": 0.5}
    assert check_arguments(Options, {"size": 2}, where="model", owner="Demo") == {"size": 2}
    nested = check_arguments(Nested, {"inner": {"size": "2"}, "other": {}}, where="model", owner="Demo")
    assert nested == {"inner": Options(size=2), "other": Options()}


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (
            Component,
            {"shares": 1},
            "s.shares is not an argument of demo. Did you mean 'share'? Arguments: mode, share, names.",
        ),
        (Component, {"mode": "max"}, "s.mode is 'max': expected 'sum' or 'mean'."),
        (Component, {"share": 1}, "s.share is 1: expected a number of at least 0 and below 1."),
        (Component, {"names": "a"}, "s.names is 'a': expected a list of text or null."),
        (Component, {"names": [["a"]]}, "s.names is [['a']]: expected a list of text or null."),
        (Options, {"marks": {"a": "b"}}, "s.marks is {'a': 'b'}: expected keys with whole numbers."),
        (Options, {"size": "big"}, "s.size is 'big': expected a whole number or null."),
        (Options, {"xyzzy": 1}, "s.xyzzy is not an argument of demo. Arguments: size, marks."),
        (
            Nested,
            {"inner": {"sizes": 1}},
            "s.inner.sizes is not an argument of s.inner. Did you mean 'size'? Arguments: size, marks.",
        ),
        (
            Nested,
            {"other": {"sizes": 1}},
            "s.other.sizes is not an argument of s.other. Did you mean 'size'? Arguments: size, marks.",
        ),
    ],
)
def test_wrong_option_is_refused_before_anything_is_built(target: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_arguments(target, options, where="s", owner="demo")
    assert str(caught.value) == message


def test_parameters_that_are_not_the_users_are_no_options() -> None:
    with pytest.raises(ConfigError, match=r"^s\.names is not an argument of demo\."):
        check_arguments(Component, {"names": ["a"]}, where="s", owner="demo", given=["names"])
