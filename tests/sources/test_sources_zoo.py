from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from et_core.errors import ArtifactError, ConfigError, PluginError, RefError, UnknownNameError
from et_core.registry import ModelRef
from et_core.sources import pin_presets, preset_files
from et_core.sources.hub import HubSource
from et_core.sources.zoo import ZooSource
from tests.hub_server import HubServer
from tests.sources.tools import FILES, WEIGHTS, WITHOUT_WEIGHTS, sha256_of, write_folder, zoo


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


def test_an_unknown_preset_is_answered_with_the_other_ways_to_name_a_model() -> None:
    with pytest.raises(UnknownNameError) as error:
        zoo("gpt2")
    assert str(error.value).startswith("unknown preset 'gpt2'.\nRegistered presets: ")
    assert str(error.value).endswith("\nA Hub repository is written 'org/repo@hf', a folder of a model './dir@local'.")


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


def test_the_files_of_presets_are_found_by_the_presets_names(tmp_path: Path) -> None:
    (file,) = preset_files("bert-base-*")
    assert "bert-base-en" in json.loads(file.read_text("utf-8"))
    assert file.parent.name == "et_bert"
    with pytest.raises(ConfigError, match=r"^no registered preset matches 'gpt\*'\. See: et list presets$"):
        preset_files("gpt*")


@pytest.mark.parametrize(
    ("text", "message"), [("a\tb\n", "is not valid JSON: "), ('{"x": []}', "holds no presets: an object")]
)
def test_a_file_that_holds_no_presets_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "presets.json").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=f"presets.json {message}"):
        pin_presets("*", file=tmp_path / "presets.json")
