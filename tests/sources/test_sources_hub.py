from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from et_core.errors import ArtifactError, RefError
from et_core.registry import ModelRef
from et_core.sources.hub import HubSource
from tests.hub_server import HubServer
from tests.sources.tools import CONFIG, FILES, WEIGHTS, WITHOUT_WEIGHTS


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
