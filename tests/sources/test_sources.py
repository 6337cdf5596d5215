from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from et_core.errors import ArtifactError, RefError, UnknownNameError
from et_core.interfaces.artifact import Artifact
from et_core.registry import ModelRef
from et_core.sources import describe, resolve
from et_core.sources.init import InitSource
from et_core.sources.local import LocalSource
from tests.sources.tools import CONFIG, FILES, WEIGHTS, WITHOUT_WEIGHTS, local, write_folder


def test_an_unknown_source_says_that_the_source_comes_first() -> None:
    with pytest.raises(RefError) as error:
        resolve("org/repo@main")
    assert str(error.value) == (
        "'org/repo@main' names the unknown source 'main'. Sources: hf, init, local, zoo.\n"
        "If 'main' is a revision, the source comes first: 'org/repo@hf:main'."
    )


def test_a_misspelt_source_is_corrected() -> None:
    with pytest.raises(RefError, match=r"Did you mean './dir@local'\?$"):
        resolve("./dir@locl")


def test_resolve_goes_to_the_source_that_the_reference_names(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", FILES)
    assert resolve(f"{folder}@local") == local(folder)


def test_resolving_imports_no_torch(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", FILES)
    code = (
        "import sys; from et_core.sources import describe, resolve; describe(resolve(sys.argv[1])); "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, f"{folder}@local"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_description_is_json(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", FILES)
    assert json.loads(json.dumps(describe(local(folder)))) == {
        "ref": f"{folder}@local",
        "family": "bert",
        "origin": f"folder {folder}",
        "license": "mit",
        "weights": [str(folder / "model.safetensors")],
        "bytes": len(WEIGHTS),
        "tokenizer": str(folder),
        "config": CONFIG,
    }


def test_fresh_weights_have_a_family_and_nothing_else() -> None:
    assert InitSource().resolve(ModelRef.parse("bert@init")) == Artifact(
        ModelRef("bert", "init"), "bert", origin="fresh weights"
    )


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'brt'"):
        InitSource().resolve(ModelRef.parse("brt@init"))


def test_fresh_weights_refuse_a_revision() -> None:
    with pytest.raises(RefError, match=r"'bert@init:v1' has a revision, but fresh weights have none. Write 'bert@in"):
        InitSource().resolve(ModelRef.parse("bert@init:v1"))


def test_a_folder_without_tokenizer_or_card_has_neither(tmp_path: Path) -> None:
    files = {name: FILES[name] for name in ("config.json", "model.safetensors")}
    artifact = local(write_folder(tmp_path / "model", files))
    assert (artifact.tokenizer, artifact.license) == (None, None)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "model", FILES)
    monkeypatch.setenv("HOME", str(tmp_path))
    artifact = LocalSource().resolve(ModelRef.parse("~/model@local"))
    assert artifact.folder == tmp_path / "model"
    assert str(artifact.ref) == "~/model@local"


def test_all_shards_are_listed(tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": {"b": names[1], "a": names[0], "c": names[0]}}
    files = WITHOUT_WEIGHTS | dict.fromkeys(names, WEIGHTS)
    folder = write_folder(tmp_path / "model", files | {"model.safetensors.index.json": json.dumps(index).encode()})
    assert local(folder).weights == tuple(folder / name for name in names)
    (folder / names[1]).unlink()
    with pytest.raises(ArtifactError, match=rf"1 of 2 weight files are missing in {folder}: {names[1]}\."):
        local(folder)


def test_an_index_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "../other/model.safetensors"}}).encode()
    folder = write_folder(tmp_path / "model", WITHOUT_WEIGHTS | {"model.safetensors.index.json": index})
    with pytest.raises(ArtifactError, match=r"'../other/model.safetensors', which is not a safetensors file beside it"):
        local(folder)


def test_other_files_of_a_run_are_ignored(tmp_path: Path) -> None:
    extra = {"et.json": b"not json", "extra.safetensors": b"broken", "training_args.bin": b"pickle"}
    folder = write_folder(tmp_path / "model", FILES | extra)
    assert local(folder).weights == (folder / "model.safetensors",)


def test_a_folder_refuses_a_revision() -> None:
    with pytest.raises(RefError, match=r"'./dir@local:v1' has a revision, but a folder has none. Write './dir@local'."):
        LocalSource().resolve(ModelRef.parse("./dir@local:v1"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=rf"there is no folder {tmp_path / 'none'} "):
        local(tmp_path / "none")


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", FILES)
    with pytest.raises(ArtifactError, match=rf"is a file. Name the folder that holds it: '{folder}@local'."):
        local(folder / "model.safetensors")


def test_a_run_folder_names_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "runs" / "x" / "model", FILES)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=r"is a run folder. .* write './runs/x/model@local'."):
        LocalSource().resolve(ModelRef.parse("./runs/x/@local"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "there is no config.json in FOLDER.\nA model folder holds config.json,"),
        (
            "config.json",
            b"{'a': 1}",
            "config.json is not valid JSON: Expecting property name enclosed in double quotes",
        ),
        ("config.json", b"\xff\xfe", "config.json is not valid JSON: it is not UTF-8 text."),
        ("config.json", b"[]", "config.json holds list, not a JSON object."),
        ("config.json", b'{"hidden_size": 8}', "has no 'model_type', so the family is unknown."),
        ("model.safetensors", None, "there are no weights in FOLDER: neither model.safetensors nor model.safe"),
        ("model.safetensors", b"", "(0 bytes) is truncated or not a safetensors file"),
        ("model.safetensors", WEIGHTS[:-1], f"({len(WEIGHTS) - 1} bytes) is truncated or not a safetensors file"),
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer, not the weights.",
        ),
    ],
)
def test_each_fault_of_a_folder_has_its_own_message(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    folder = write_folder(tmp_path / "model", FILES)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError) as error:
        local(folder)
    assert message.replace("FOLDER", str(folder)) in str(error.value)
    assert str(error.value).startswith(f"'{folder}@local': ")


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", WITHOUT_WEIGHTS | {"adapter_model.safetensors": WEIGHTS})
    with pytest.raises(ArtifactError, match=r"It holds adapter_model.safetensors; whole models are saved as model"):
        local(folder)


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "old", WITHOUT_WEIGHTS | {"pytorch_model.bin": b"pickle", "optimizer.pt": b""})
    with pytest.raises(ArtifactError) as error:
        local(folder)
    assert str(error.value) == (
        f"'{folder}@local' has no safetensors weights, only pytorch_model.bin.\n"
        "Such a file can run code when it is loaded, so weights are safetensors only. "
        "If you trust it, convert it once with transformers:\n"
        '  python -c "from transformers import BertForMaskedLM, AutoTokenizer; '
        f"BertForMaskedLM.from_pretrained('{folder}', use_safetensors=False).save_pretrained('old-safetensors'); "
        f"AutoTokenizer.from_pretrained('{folder}').save_pretrained('old-safetensors')\"\n"
        "Then write './old-safetensors@local'."
    )
