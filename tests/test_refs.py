from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from et_core.errors import RefError
from et_core.registry import ModelRef

TABLE = [
    ("bert-base-en@zoo", ("bert-base-en", "zoo", None)),
    ("bert-base-en", ("bert-base-en", "zoo", None)),
    ("bert@zoo", ("bert", "zoo", None)),
    ("et-bert/bert@zoo", ("et-bert/bert", "zoo", None)),
    ("org/repo@hf:main", ("org/repo", "hf", "main")),
    ("org/repo@hf", ("org/repo", "hf", None)),
    ("org/repo@hf:refs/pr/7", ("org/repo", "hf", "refs/pr/7")),
    ("org/repo@hf:0123456789abcdef0123456789abcdef01234567", ("org/repo", "hf", "0123456789abcdef" * 2 + "01234567")),
    ("org/repo@hf:v1.0:2", ("org/repo", "hf", "v1.0:2")),
    ("./dir@local", ("./dir", "local", None)),
    ("/abs/my dir@local", ("/abs/my dir", "local", None)),
    ("~/dir@local", ("~/dir", "local", None)),
    (r"C:\models\my bert@local", (r"C:\models\my bert", "local", None)),
    ("C:/models/bert@local", ("C:/models/bert", "local", None)),
    ("./user@host/dir@local", ("./user@host/dir", "local", None)),
    ("a@b@c@zoo", ("a@b@c", "zoo", None)),
    ("bert@init", ("bert", "init", None)),
    ("resnet50.a1_in1k@timm", ("resnet50.a1_in1k", "timm", None)),
    ("1e5@zoo", ("1e5", "zoo", None)),
    ("模型@zoo", ("模型", "zoo", None)),
    ("bert@my-source:v1", ("bert", "my-source", "v1")),
]
SPELLINGS = "Write 'name@zoo', 'org/repo@hf' or './dir@local'."
REFUSED: list[tuple[Any, str]] = [
    (None, "a model reference is text such as 'bert-base-en@zoo', not None of type NoneType."),
    (3, "a model reference is text such as 'bert-base-en@zoo', not 3 of type int."),
    (1e5, "a model reference is text such as 'bert-base-en@zoo', not 100000.0 of type float."),
    (True, "a model reference is text such as 'bert-base-en@zoo', not True of type bool."),
    (["bert"], "a model reference is text such as 'bert-base-en@zoo', not ['bert'] of type list."),
    ("", "the model reference is empty. Write one such as 'bert-base-en@zoo'."),
    (" \n", "the model reference is empty. Write one such as 'bert-base-en@zoo'."),
    ("./dir", "'./dir' looks like a path. Write './dir@local'."),
    ("../dir", "'../dir' looks like a path. Write '../dir@local'."),
    ("/my dir", "'/my dir' looks like a path. Write '/my dir@local'."),
    ("~/dir", "'~/dir' looks like a path. Write '~/dir@local'."),
    (r"C:\models", r"'C:\\models' looks like a path. Write 'C:\models@local'."),
    ("C:/models", "'C:/models' looks like a path. Write 'C:/models@local'."),
    (r"models\bert", r"'models\\bert' looks like a path. Write 'models\bert@local'."),
    ("a/b/c", "'a/b/c' looks like a path. Write './a/b/c@local'."),
    ("dir/", "'dir/' looks like a path. Write './dir/@local'."),
    ("org/repo", "'org/repo' could be a Hub repository or a folder. Write 'org/repo@hf' or './org/repo@local'."),
    (
        "https://huggingface.co/a/b",
        "'https://huggingface.co/a/b' is a web address. Write a Hub repository as 'org/repo@hf'.",
    ),
    ("bert:main", "'bert:main' has a revision but no source. Write 'bert@zoo:main'."),
    ("my bert", "'my bert' is not a model reference. Write one such as 'bert-base-en@zoo' or 'org/repo@hf:main'."),
    ("@hf", "'@hf' names no model before the '@'. Write 'name@hf'."),
    ("@hf:main", "'@hf:main' names no model before the '@'. Write 'name@hf:main'."),
    ("bert@", f"'bert@' names no source after the '@'. {SPELLINGS}"),
    ("bert@:main", f"'bert@:main' names no source after the '@'. {SPELLINGS}"),
    ("bert@ zoo", f"'bert@ zoo' names no source after the '@'. {SPELLINGS}"),
    ("bert@HF:main", f"'bert@HF:main' names no source after the '@'. {SPELLINGS}"),
    ("bert @zoo", "'bert @zoo' holds white space or an unprintable character around its model's name."),
    ("be\trt@zoo", r"'be\trt@zoo' holds white space or an unprintable character around its model's name."),
    ("org/repo@hf:", "'org/repo@hf:' has an empty revision. Leave out the ':' or name one after it."),
    ("org/repo@hf:a b", "'org/repo@hf:a b' holds white space or an '@' in its revision."),
    (
        "org/repo@v1.0",
        "'org/repo@v1.0' names the unknown source 'v1.0'.\n"
        "If 'v1.0' is a revision, the source comes first: 'org/repo@hf:v1.0'.",
    ),
    (
        "bert@refs/pr/1",
        "'bert@refs/pr/1' names the unknown source 'refs/pr/1'.\n"
        "If 'refs/pr/1' is a revision, the source comes first: 'bert@zoo:refs/pr/1'.",
    ),
]
WRITTEN = [written for written, _ in TABLE]


@pytest.mark.parametrize(("written", "parts"), TABLE)
def test_the_written_form_is_split_at_the_last_at(written: str, parts: tuple[str, str, str | None]) -> None:
    ref = ModelRef.parse(written)
    assert (ref.target, ref.source, ref.revision) == parts
    assert ModelRef.parse(str(ref)) == ref
    assert ModelRef.parse(f"  {written}\n") == ref
    assert ModelRef.parse(ref) is ref


def test_only_the_bare_name_is_written_differently_afterwards() -> None:
    changed = [written for written in WRITTEN if str(ModelRef.parse(written)) != written]
    assert changed == ["bert-base-en"]
    assert str(ModelRef.parse("bert-base-en")) == "bert-base-en@zoo"


@pytest.mark.parametrize(("written", "message"), REFUSED, ids=lambda value: repr(value)[:30])
def test_what_could_mean_two_things_or_nothing_is_refused(written: Any, message: str) -> None:
    with pytest.raises(RefError) as caught:
        ModelRef.parse(written)
    assert str(caught.value) == message


@pytest.mark.parametrize("written", WRITTEN)
def test_a_reference_survives_yaml(written: str, tmp_path: Path) -> None:
    ref = ModelRef.parse(written)
    assert ModelRef.parse(yaml.safe_load(f"model: {written}")["model"]) == ref
    assert ModelRef.parse(yaml.safe_load(yaml.safe_dump({"model": str(ref)}))["model"]) == ref
    path = tmp_path / "run.yaml"
    path.write_text(f"model: {written}\n", "utf-8")
    loaded = OmegaConf.load(path)
    assert isinstance(loaded, DictConfig)
    assert ModelRef.parse(loaded["model"]) == ref


@pytest.mark.parametrize("written", WRITTEN)
def test_a_reference_survives_overrides_and_interpolation(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = ModelRef.parse(written)
    assert ModelRef.parse(OmegaConf.from_dotlist([f"model={written}"])["model"]) == ref
    monkeypatch.setenv("ET_TEST_MODEL", written)
    assert ModelRef.parse(OmegaConf.create({"model": "${oc.env:ET_TEST_MODEL,x@zoo}"})["model"]) == ref
    monkeypatch.delenv("ET_TEST_MODEL")
    # OmegaConf takes these characters inside ${} only between quotes.
    default = f"'{written}'" if re.search(r"[~\\]|[^\x00-\x7f]", written) else written
    assert ModelRef.parse(OmegaConf.create({"model": f"${{oc.env:ET_TEST_MODEL,{default}}}"})["model"]) == ref


@pytest.mark.parametrize("text", ["model:", "model: null", "model: ~", "model: 3", "model: [bert]", "model: yes"])
def test_what_yaml_reads_as_something_else_is_named_with_its_type(text: str) -> None:
    value = yaml.safe_load(text)["model"]
    with pytest.raises(RefError, match=f"of type {type(value).__name__}"):
        ModelRef.parse(value)


@pytest.mark.parametrize(
    "parts",
    [("a", "hf", "b@c"), ("a", "hf", ""), ("a", "h f", None), ("a", "b@c", None), (" a", "hf", None), ("", "hf", None)],
)
def test_what_would_not_read_back_cannot_be_built(parts: tuple[str, str, str | None]) -> None:
    with pytest.raises(RefError):
        ModelRef(*parts)


@given(st.text(max_size=30))
def test_any_text_is_a_reference_that_reads_back_or_is_refused(text: str) -> None:
    try:
        ref = ModelRef.parse(text)
    except RefError:
        return
    assert ModelRef.parse(str(ref)) == ref


@given(
    target=st.text(st.sampled_from("ab/\\.:@ ~é-_#$"), max_size=12),
    source=st.sampled_from(["zoo", "hf", "my-source", "", "Zoo", "a:b", "a@b"]),
    revision=st.none() | st.text(st.sampled_from("ab/:@ .#"), max_size=8),
)
def test_every_reference_that_can_be_built_reads_back(target: str, source: str, revision: str | None) -> None:
    try:
        ref = ModelRef(target, source, revision)
    except RefError:
        return
    assert ModelRef.parse(str(ref)) == ref
