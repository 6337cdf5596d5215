"""What is said of config files and of nested values that cannot be used."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from et_core.config import load_config
from et_core.errors import ConfigError


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.yaml"
    path.write_text("app: classification\ndata:\n  columns: {text: sentence}\ntrain:\n  lr: 1e-4\n", "utf-8")
    return path


def refused(source: Any = None, overrides: Any = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    return str(caught.value)


def test_a_file_of_data_is_not_taken_for_a_config(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("text\tlabel\n", "utf-8")
    assert refused(path, []).startswith(f"{path} is a file of data, not a config. Name it as data.train={path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train:\n  epochs: 1\n  epochs: 2\n", "line 3, column 3: found duplicate key epochs"),
        (b"train: [\n", "line 2, column 1: expected the node content, but found '<stream end>'"),
        (b"- a\n", "holds a list: expected keys and values, such as 'app: classification'."),
        (b"app: \xff\n", "is not UTF-8 text (byte 5)."),
        (b"app: \x00\n", "is no YAML file: unacceptable character #x0000: special characters are not allowed."),
        (b"data:\n  train: ${x\n", "line 2: data.train: no viable alternative at input '${x'"),
        (b"", "is empty. Write some settings into it, such as 'app: classification'."),
        (b"# train.yaml\n", "holds no settings. Write some into it, such as 'app: classification'."),
        (b"---\n", "holds no settings. Write some into it, such as 'app: classification'."),
    ],
)
def test_file_that_cannot_be_read_is_told_with_its_place(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    assert refused(path) == f"{path} {message}"


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("app: a\n# so\ntrian:\n  lr: 1\n", 3, "trian is not a setting. Did you mean train?"),
        ("train:\n  learning_rate: 1\n", 2, "train.learning_rate is not a setting. Did you mean train.lr?"),
        ("train:\n  freeze:\n\n    a: b\n", 2, "train.freeze is {'a': 'b'}: expected a list of text."),
        ("train:\n  epochs: many\n", 2, "train.epochs is 'many': expected a number above 0."),
        ("app: a\ntrain:\n", 2, "train is null: expected keys and values."),
        ("train: {schedule: [1]}\n", 1, "train.schedule.name is [1]: expected text."),
    ],
)
def test_error_about_a_setting_of_a_file_begins_with_file_and_line(
    content: str, line: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content, "utf-8")
    assert refused(path, ["data.dev=0.1"]) == f"{path} line {line}: {message}"


def test_error_about_an_override_is_not_laid_on_the_file(sample: Path) -> None:
    assert refused(sample, ["train.lr=x"]) == "train.lr is 'x': expected a number above 0."
    assert refused(sample, ["data.columns.text=[x]"]).startswith("data.columns is {'text': ['x']}: expected")
    assert refused(sample, {"train": {"lr": "x"}}) == "train.lr is 'x': expected a number above 0."


@pytest.mark.parametrize(
    ("given", "overrides", "message"),
    [
        (
            {"data.dev": 0.1},
            None,
            'data.dev is written with a dot. Nest it: {"data": {"dev": ...}}, '
            "or pass it as the second argument, the overrides.",
        ),
        (
            {"data.train": object()},
            None,
            'data.train is written with a dot. Nest it: {"data": {"train": ...}}, '
            "or pass it as the second argument, the overrides.",
        ),
        (
            {"train": {"optimizer.name": "sgd"}},
            None,
            'train.optimizer.name is written with a dot. Nest it: {"train": {"optimizer": {"name": ...}}}, '
            "or pass it as the second argument, the overrides.",
        ),
        ({"train": {"lr": object()}}, None, "train.lr: Value 'object' is not a supported primitive type"),
    ],
)
def test_nested_values_that_cannot_be_used_are_told_with_what_to_write(
    given: Any, overrides: Any, message: str
) -> None:
    assert refused(given, overrides) == message


def test_dotted_key_of_a_file_is_told_how_to_nest(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("app: a\ndata.dev: 0.1\n", "utf-8")
    assert refused(path) == (
        f'{path} line 2: data.dev is written with a dot. Nest it: {{"data": {{"dev": ...}}}}, '
        "or write it on the command line: data.dev=VALUE."
    )


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (
            ["train.freeze=[*]"],
            "Put text with special characters in quotes of its own, such as \"train.freeze=['*']\".",
        ),
        (
            ["train.freeze=[*.bias, blocks.0]"],
            "Put text with special characters in quotes of its own, such as \"train.freeze=['*.bias', 'blocks.0']\".",
        ),
        (
            ["app.class_weights={postive:", "2}", "train.lr=1"],
            "The shell splits at spaces: put the whole setting in quotes: 'app.class_weights={postive: 2}'.",
        ),
        (
            ["app.class_weights={a:", "2,", "b:", "3}"],
            "The shell splits at spaces: put the whole setting in quotes: 'app.class_weights={a: 2, b: 3}'.",
        ),
        (["data.train=*.tsv"], "Put it in quotes of its own: \"data.train='*.tsv'\"."),
        (["data.train=@it's"], "Put it in quotes of its own: \"data.train='@it''s'\"."),
    ],
)
def test_value_that_is_no_yaml_is_told_with_quotes_that_work(arguments: list[str], advice: str) -> None:
    message = refused(None, arguments)
    assert message == f"{arguments[0]!r}: the value is not valid YAML. {advice}"
    (shown,) = shlex.split(re.findall(r"(\"[^\"]+\"|'[^']+')\.\Z", message)[0])
    load_config(None, [shown])


def test_keys_without_a_space_after_the_colon_are_told() -> None:
    assert refused(None, ["data.columns={text:sentence}"]) == (
        "data.columns is {'text:sentence': None}: expected keys with text. "
        "Write a space after the colon: {text: sentence}."
    )


def test_a_folder_is_no_config(sample: Path) -> None:
    folder = sample.parent
    assert refused(folder) == (
        f"{folder} is a folder, not a config. Name a YAML file; data is named as data.train={folder}.\n"
        f"Configs there: {sample}."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text\tlabel\n", "is no YAML file: line 1, column 5: found character '\\t' that cannot start any token."),
        (b"text,label\n", "holds text: expected keys and values, such as 'app: classification'."),
        (b"PAR1\xff", "is not UTF-8 text (byte 4)."),
        (b"a\x00", "is no YAML file: unacceptable character #x0000: special characters are not allowed."),
    ],
)
def test_file_that_is_not_called_yaml_may_be_meant_as_data(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(content)
    assert refused(path) == (
        f"{path} {message}\nIf it is a file of data, name it as data.train={path}, beside app=... and model=..., "
        "or in a config file."
    )


def test_missing_file_names_the_configs_beside_it(sample: Path) -> None:
    missing = sample.with_name("smaple.yaml")
    assert refused(missing) == f"there is no config file {str(missing)!r}.\nConfigs there: {sample}."


def test_one_setting_alone_is_read_as_a_list_of_one() -> None:
    assert load_config(None, "train.epochs=1").config.train.epochs == 1
