from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from et_core.errors import ArtifactError, ConfigError, PluginError, RefError, UnknownNameError
from et_core.interfaces.artifact import Artifact
from et_core.registry import ModelRef, plugins, refresh
from et_core.sources import describe, pin_presets, resolve
from et_core.sources.hub import HubSource
from et_core.sources.init import InitSource
from et_core.sources.local import LocalSource
from et_core.sources.zoo import ZooSource
from tests.hub_server import HubServer

CONFIG = {"model_type": "bert", "hidden_size": 8, "architectures": ["BertForMaskedLM"]}
WEIGHTS = save({"embeddings.weight": np.zeros((5, 8), np.float32)})
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "README.md": b"---\nlanguage: en\nlicense: mit\n---\n# Card\n",
}
WITHOUT_WEIGHTS = {name: content for name, content in FILES.items() if name != "model.safetensors"}

PLUGIN = """
from et_core.hooks import hookimpl
from et_core.interfaces.preset import Preset, Provider

ET_API = 1


def preset(name, *providers):
    return Preset(name, "bert", "Nothing.", "MIT", 1, ("en",), providers, {"model_type": "bert", "hidden_size": 4})


PACKAGE = Provider("package", module="weights_package", folder="model", install="pip install 'acme[weights]'")
TABLE = {
    "packaged": preset("packaged", PACKAGE, Provider("hub", repo="org/repo")),
    "unpinned": preset("unpinned", Provider("hub", repo="org/repo")),
    "pinned": preset("pinned", Provider("hub", repo="org/repo", commit="COMMIT", sha256={"model.safetensors": "SHA"})),
    "fresh": preset("fresh", Provider("fresh", module="weights_package", folder="tiny")),
    "odd": preset("odd", Provider("torrent")),
}


@hookimpl
def et_register_presets(register):
    for name in TABLE:
        register(name, f"STEM:TABLE[{name}]", summary="Nothing.", aliases=(f"{name}-alias",))
"""


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def local(folder: Path) -> Artifact:
    return LocalSource().resolve(ModelRef(str(folder), "local"))


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def source(hub: HubServer, tmp_path: Path) -> HubSource:
    return HubSource(endpoint=hub.url, cache=tmp_path / "cache")


@pytest.fixture
def add_presets(tmp_path: Path) -> Iterator[Any]:
    """Call it to install the presets of PLUGIN as a plugin file, the pinned one at *commit* with *sha256*."""
    stem = f"presets_{os.getpid()}_{abs(hash(tmp_path))}"

    def add(*, commit: str = "", sha256: str = "") -> None:
        path = tmp_path / f"{stem}.py"
        path.write_text(PLUGIN.replace("STEM", stem).replace("COMMIT", commit).replace("SHA", sha256))
        plugins().add_file(path)

    yield add
    sys.modules.pop(stem, None)
    refresh()


@pytest.fixture
def weights_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of weights that cannot be imported: it must be enough to find it."""
    folder = write_folder(tmp_path / "site" / "weights_package", {"__init__.py": b"raise RuntimeError('imported')"})
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zoo(name: str, source: HubSource | None = None) -> Artifact:
    return ZooSource(hub=source).resolve(ModelRef.parse(f"{name}@zoo"))


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


def test_a_repository_is_fetched_and_its_commit_pinned(hub: HubServer, source: HubSource) -> None:
    commit = hub.push("org/repo", FILES)
    artifact = source.resolve(ModelRef.parse("org/repo@hf"))
    assert str(artifact.ref) == f"org/repo@hf:{commit}"
    assert artifact == source.resolve(artifact.ref)
    assert (artifact.family, artifact.config, artifact.license) == ("bert", CONFIG, "mit")
    assert [path.name for path in artifact.weights] == ["model.safetensors"]
    assert artifact.weights[0].read_bytes() == WEIGHTS
    assert artifact.tokenizer == artifact.folder


def test_a_revision_is_not_the_newest(hub: HubServer, source: HubSource) -> None:
    old = hub.push("org/repo", FILES, revision="v1")
    hub.push("org/repo", FILES | {"tokenizer.json": b"[]"})
    assert source.resolve(ModelRef.parse("org/repo@hf:v1")).ref.revision == old


def test_only_what_a_model_needs_is_fetched(hub: HubServer, source: HubSource) -> None:
    unwanted = [
        "pytorch_model.bin",
        "modeling.py",
        "model-16/onnx.safetensors",
        "tf_model.h5",
        "consolidated.safetensors",
    ]
    hub.push("org/repo", FILES | dict.fromkeys(unwanted, b"x"))
    folder = source.resolve(ModelRef.parse("org/repo@hf")).folder
    assert folder is not None
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert not [request for request in hub.requests if any(request.endswith(name) for name in unwanted)]


def test_a_pinned_commit_in_the_cache_needs_no_hub(hub: HubServer, source: HubSource) -> None:
    commit = hub.push("org/repo", FILES)
    first = source.resolve(ModelRef.parse("org/repo@hf"))
    hub.requests.clear()
    assert source.resolve(ModelRef("org/repo", "hf", commit)) == first
    assert hub.requests == []


def test_shards_of_a_repository_are_fetched(hub: HubServer, source: HubSource) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = json.dumps({"weight_map": dict(zip("ab", names, strict=True))}).encode()
    hub.push("org/big", WITHOUT_WEIGHTS | dict.fromkeys(names, WEIGHTS) | {"model.safetensors.index.json": index})
    assert [path.name for path in source.resolve(ModelRef.parse("org/big@hf")).weights] == names


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        (
            "org/none@hf",
            "'org/none@hf': URL has no repository 'org/none', or it is private.\n"
            "Check the spelling; for a private one run 'hf auth login' or set HF_TOKEN.",
        ),
        (
            "org/repo@hf:v9",
            "'org/repo@hf:v9': the repository has no revision 'v9'.\n"
            "Leave it out for the newest, or see URL/org/repo/commits for what exists.",
        ),
        (
            "org/gated@hf",
            "'org/gated@hf': the repository is gated: its owner grants access by request.\n"
            "Ask for it at URL/org/gated, then run 'hf auth login' or set HF_TOKEN.",
        ),
        (
            "org/forbidden@hf",
            "'org/forbidden@hf': URL refused the request with status 403.\n"
            "The token in HF_TOKEN or of 'hf auth login' is not valid for it: log in again, or unset it.",
        ),
        (
            "org/expired@hf",
            "'org/expired@hf': URL refused the request with status 401.\n"
            "The token in HF_TOKEN or of 'hf auth login' is not valid for it: log in again, or unset it.",
        ),
        ("a/b/c@hf", "'a/b/c@hf' names no Hub repository. Write 'org/repo@hf'; a folder is './dir@local'."),
    ],
)
def test_each_refusal_of_the_hub_has_its_own_message(hub: HubServer, source: HubSource, ref: str, message: str) -> None:
    hub.push("org/repo", FILES)
    hub.refuse("org/gated", status=403, code="GatedRepo")
    hub.refuse("org/forbidden", status=403)
    hub.refuse("org/expired", status=401)
    with pytest.raises((ArtifactError, RefError)) as error:
        source.resolve(ModelRef.parse(ref))
    assert str(error.value) == message.replace("URL", hub.url)


def test_an_unreachable_hub_is_told_from_a_missing_repository(tmp_path: Path) -> None:
    with HubServer() as hub:
        url = hub.url
    with pytest.raises(ArtifactError) as error:
        HubSource(endpoint=url, cache=tmp_path).resolve(ModelRef.parse("org/repo@hf"))
    assert f"'org/repo@hf': {url} cannot be reached (" in str(error.value)
    assert "run 'hf download org/repo --local-dir repo' where there is a network" in str(error.value)
    assert str(error.value).endswith("write './repo@local'.")


def test_a_repository_of_pickles_is_refused(hub: HubServer, source: HubSource) -> None:
    commit = hub.push("org/old", WITHOUT_WEIGHTS | {"pytorch_model.bin": b"pickle", "flax_model.msgpack": b""})
    with pytest.raises(ArtifactError) as error:
        source.resolve(ModelRef.parse("org/old@hf"))
    assert str(error.value).startswith("'org/old@hf' has no safetensors weights, only pytorch_model.bin.\n")
    assert f"BertForMaskedLM.from_pretrained('org/old', revision='{commit}', use_safetensors=False)" in str(error.value)
    assert str(error.value).endswith("Then write './old@local'.")
    assert not [request for request in hub.requests if request.endswith(".bin")]


def run_resolve(ref: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Resolve *ref* in a new process, where huggingface_hub reads its environment."""
    code = (
        "import sys\nfrom et_core.errors import EtError\nfrom et_core.registry import ModelRef\n"
        "from et_core.sources import HubSource\n"
        "try:\n    print(HubSource().resolve(ModelRef.parse(sys.argv[1])).folder)\n"
        "except EtError as error:\n    sys.exit(str(error))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code, ref], env=kept | environment, capture_output=True, text=True, check=False
    )


def test_the_hubs_own_environment_counts(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.push("org/repo", FILES)
    home = str(tmp_path / "home")
    online = run_resolve("org/repo@hf", HF_ENDPOINT=hub.url, HF_HOME=home)
    assert online.stdout.strip() == f"{home}/hub/models--org--repo/snapshots/{commit}"
    asked = len(hub.requests)
    offline = run_resolve("org/repo@hf", HF_ENDPOINT=hub.url, HF_HOME=home, HF_HUB_OFFLINE="1")
    assert offline.stdout == online.stdout
    missing = run_resolve("org/other@hf", HF_ENDPOINT=hub.url, HF_HOME=home, HF_HUB_OFFLINE="1")
    assert (
        f"'org/other@hf': it is not in the cache {home}/hub, and HF_HUB_OFFLINE forbids asking the Hub.\n"
        "Unset it once, or run 'hf download org/other --local-dir other'"
    ) in missing.stderr
    assert len(hub.requests) == asked


def test_the_mirror_folder_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights_package: Path, add_presets: Any
) -> None:
    add_presets()
    write_folder(weights_package / "model", FILES)
    mirrored = write_folder(tmp_path / "zoo" / "packaged", FILES)
    monkeypatch.setenv("ET_ZOO_DIR", str(tmp_path / "zoo"))
    artifact = zoo("packaged-alias")
    assert artifact.folder == mirrored
    assert (str(artifact.ref), artifact.license) == ("packaged@zoo", "MIT")
    assert artifact.origin == f"mirror folder {mirrored}"


def test_a_package_of_weights_is_found_without_importing_it(weights_package: Path, add_presets: Any) -> None:
    add_presets()
    folder = write_folder(weights_package / "model", FILES)
    assert zoo("packaged").folder == folder


def test_the_hub_is_asked_when_no_folder_has_the_files(
    hub: HubServer, source: HubSource, add_presets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    add_presets()
    commit = hub.push("org/repo", FILES)
    with caplog.at_level(logging.WARNING, logger="et"):
        artifact = zoo("packaged", source)
    assert str(artifact.ref) == f"org/repo@hf:{commit}"
    assert artifact.license == "MIT"
    assert caplog.messages == [
        f"packaged@zoo is not pinned to a commit yet; this run uses org/repo@hf:{commit}.",
    ]


def test_every_place_that_was_tried_says_how_to_fill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: HubServer, source: HubSource, add_presets: Any
) -> None:
    add_presets()
    monkeypatch.setenv("ET_ZOO_DIR", str(tmp_path / "zoo"))
    with pytest.raises(ArtifactError) as error:
        zoo("packaged", source)
    assert str(error.value) == (
        "'packaged@zoo' was found in none of 3 places:\n"
        f"  mirror folder: there is no folder {tmp_path}/zoo/packaged.\n"
        f"    -> Fill it: {tmp_path}/zoo/packaged/{{config.json,model.safetensors,tokenizer.json}}\n"
        "  package weights_package: it is not installed.\n"
        "    -> pip install 'acme[weights]'\n"
        f"  Hub repository org/repo: {hub.url} has no repository 'org/repo', or it is private.\n"
        "    -> Check the spelling; for a private one run 'hf auth login' or set HF_TOKEN."
    )


def test_without_a_mirror_the_message_shows_how_to_make_one(source: HubSource, add_presets: Any) -> None:
    add_presets()
    with pytest.raises(ArtifactError) as error:
        zoo("unpinned", source)
    assert (
        "  mirror folder: ET_ZOO_DIR is not set.\n"
        "    -> export ET_ZOO_DIR=/models   # with /models/unpinned/{config.json,model.safetensors,tokenizer.json}\n"
    ) in str(error.value)


def test_broken_files_in_the_mirror_are_not_replaced_by_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: HubServer, source: HubSource, add_presets: Any
) -> None:
    add_presets()
    hub.push("org/repo", FILES)
    write_folder(tmp_path / "zoo" / "unpinned", FILES | {"model.safetensors": WEIGHTS[:-1]})
    monkeypatch.setenv("ET_ZOO_DIR", str(tmp_path / "zoo"))
    with pytest.raises(ArtifactError, match=r"'unpinned@zoo': .*model.safetensors .* is truncated"):
        zoo("unpinned", source)
    assert hub.requests == []


def test_a_pinned_preset_keeps_its_name_and_is_fetched_at_its_commit(
    hub: HubServer, source: HubSource, add_presets: Any, caplog: pytest.LogCaptureFixture
) -> None:
    commit = hub.push("org/repo", FILES)
    hub.push("org/repo", FILES | {"tokenizer.json": b"[]"})
    add_presets(commit=commit, sha256=sha256_of(WEIGHTS))
    artifact = zoo("pinned", source)
    assert str(artifact.ref) == "pinned@zoo"
    assert artifact.folder is not None
    assert artifact.folder.name == commit
    assert caplog.messages == []


def test_files_that_differ_from_the_pin_are_refused(hub: HubServer, source: HubSource, add_presets: Any) -> None:
    commit = hub.push("org/repo", FILES)
    add_presets(commit=commit, sha256="0" * 64)
    with pytest.raises(ArtifactError) as error:
        zoo("pinned", source)
    assert "model.safetensors is not the file that the preset pins.\n  pinned sha256: 0000" in str(error.value)
    assert f"  found sha256:  {sha256_of(WEIGHTS)}\nDelete " in str(error.value)


def test_files_are_checked_once_and_again_when_they_changed(
    hub: HubServer, source: HubSource, add_presets: Any, tmp_path: Path
) -> None:
    commit = hub.push("org/repo", FILES)
    add_presets(commit=commit, sha256=sha256_of(WEIGHTS))
    weights = zoo("pinned", source).weights[0].resolve()
    changed = WEIGHTS[:-1] + b"\x01"
    stat = weights.stat()
    weights.write_bytes(changed)
    # With the old time of change nothing tells that the file is another: it is not read again.
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    zoo("pinned", source)
    os.utime(weights)
    with pytest.raises(ArtifactError, match=r"is not the file that the preset pins"):
        zoo("pinned", source)


def test_fresh_weights_come_with_the_presets_config_and_tokenizer(weights_package: Path, add_presets: Any) -> None:
    add_presets()
    tokenizer = write_folder(weights_package / "tiny", {"tokenizer.json": b"{}"})
    artifact = zoo("fresh")
    assert (artifact.weights, artifact.tokenizer) == ((), tokenizer)
    assert artifact.config == {"model_type": "bert", "hidden_size": 4}
    assert str(artifact.ref) == "fresh@zoo"


def test_a_preset_refuses_a_revision(add_presets: Any) -> None:
    add_presets()
    with pytest.raises(RefError, match=r"'fresh@zoo:v1' has a revision, .* Write 'fresh@zoo', or .* 'org/repo@hf:v1'"):
        ZooSource().resolve(ModelRef.parse("fresh@zoo:v1"))


def test_an_unknown_kind_of_provider_is_the_plugins_fault(add_presets: Any) -> None:
    add_presets()
    with pytest.raises(PluginError, match=r"preset 'odd' has a provider of the unknown kind 'torrent'"):
        zoo("odd")


def test_a_qualified_name_stays_qualified() -> None:
    assert str(zoo("et-bert/bert-tiny-random").ref) == "et-bert/bert-tiny-random@zoo"


def write_presets(path: Path, **repos: str) -> Path:
    rows = {
        name: {"summary": "Ünïcode", "providers": [{"kind": "fresh"}, {"kind": "hub", "repo": repo, "commit": None}]}
        for name, repo in repos.items()
    }
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path


def test_pinning_writes_commits_and_sums_and_changes_nothing_else(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.push("org/repo", FILES | {"pytorch_model.bin": b"x", "model-16/onnx.safetensors": b"y"})
    file = write_presets(tmp_path / "presets.json", zebra="org/repo", ant="org/repo", cow="org/repo")
    before = json.loads(file.read_text("utf-8"))
    pins = pin_presets("*[bt]*", file=file, endpoint=hub.url)
    sha256 = {"model.safetensors": sha256_of(WEIGHTS)}
    assert [(pin.preset, pin.commit, pin.sha256) for pin in pins] == [
        ("zebra", commit, sha256),
        ("ant", commit, sha256),
    ]
    for name in ("zebra", "ant"):
        before[name]["providers"][1] |= {"commit": commit, "sha256": sha256}
    assert file.read_text("utf-8") == json.dumps(before, indent=2, ensure_ascii=False) + "\n"


def test_one_repository_that_cannot_be_pinned_does_not_stop_the_others(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.push("org/repo", FILES)
    hub.push("org/old", WITHOUT_WEIGHTS | {"pytorch_model.bin": b"x"})
    file = write_presets(tmp_path / "presets.json", a="org/none", b="org/old", c="org/repo")
    pins = pin_presets("*", file=file, endpoint=hub.url)
    assert [pin.commit for pin in pins] == [None, None, commit]
    assert f"{hub.url} has no repository 'org/none'" in pins[0].problem
    assert pins[1].problem == "org/old has no safetensors weights. Others: pytorch_model.bin."


def test_what_is_pinned_stays(hub: HubServer, tmp_path: Path) -> None:
    hub.push("org/repo", FILES)
    file = write_presets(tmp_path / "presets.json", a="org/repo")
    pin_presets("*", file=file, endpoint=hub.url)
    text = file.read_text("utf-8")
    hub.push("org/repo", FILES | {"tokenizer.json": b"[]"})
    assert pin_presets("*", file=file, endpoint=hub.url) == []
    assert file.read_text("utf-8") == text


def test_a_pattern_without_a_match_lists_the_presets(tmp_path: Path) -> None:
    file = write_presets(tmp_path / "presets.json", a="org/repo", b="org/repo")
    with pytest.raises(ConfigError, match=r"matches 'c\*'. It holds: a, b.$"):
        pin_presets("c*", file=file)
