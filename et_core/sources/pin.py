from __future__ import annotations

import json
from dataclasses import dataclass, field
from fnmatch import fnmatch, fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelInfo

from et_core.errors import ConfigError, EtError
from et_core.registry import ModelRef, registry
from et_core.runfolder import write_json
from et_core.sources.files import INDEX, PATTERNS, WEIGHTS, unsafe_files
from et_core.sources.hub import explain


@dataclass(frozen=True)
class Pin:
    """What became of one unpinned repository: its *commit* now, or the *problem* that left it unpinned."""

    preset: str
    repo: str
    commit: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def preset_files(pattern: str) -> list[Path]:
    """The data files of the registered presets whose names match the shell *pattern*."""
    presets = registry("presets")
    names = presets.names(pattern)
    if not names:
        raise ConfigError(f"no registered preset matches {pattern!r}. See: et list presets")
    found: dict[str, None] = {}
    for name in names:
        preset: Any = presets.get(name)
        found[preset.defined_in] = None
    places = [place.partition("/") for place in found if place]
    if not places:
        raise ConfigError(
            f"the presets that match {pattern!r} are written in Python, not in a file that can be filled in: "
            f"{', '.join(names)}."
        )
    return [Path(str(resources.files(package).joinpath(name))) for package, _, name in places]


def pin_presets(pattern: str, *, file: Path, endpoint: str | None = None) -> list[Pin]:
    """Pin the unpinned repositories of the presets in *file* whose names match the shell *pattern*.

    Asks the Hub for the newest commit and the sha256 of the large files, and writes both into *file*, whole or not at
    all. A repository that cannot be pinned is reported and does not stop the others. Returns one row per repository.
    """
    rows = _read(file)
    names = [name for name in rows if fnmatchcase(name, pattern)]
    if not names:
        raise ConfigError(f"no preset in {file} matches {pattern!r}. It holds: {', '.join(rows)}.")
    api = HfApi(endpoint=endpoint)
    pins: list[Pin] = []
    for name in names:
        for provider in rows[name]["providers"]:
            if provider["kind"] != "hub" or provider.get("commit"):
                continue
            pin = _ask(api, name, provider["repo"])
            pins.append(pin)
            if pin.commit:
                provider.update(commit=pin.commit, sha256=pin.sha256)
    if any(pin.commit for pin in pins):
        write_json(file, rows)
    return pins


def _read(file: Path) -> dict[str, Any]:
    try:
        rows = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is not valid JSON: {error}.") from error
    if not isinstance(rows, dict) or not all(isinstance(row, dict) and "providers" in row for row in rows.values()):
        raise ConfigError(f"{file} holds no presets: an object of presets by name, each with its 'providers'.")
    return rows


def _ask(api: HfApi, preset: str, repo: str) -> Pin:
    try:
        info = _model_info(api, repo)
    except EtError as error:
        return Pin(preset, repo, problem=str(error))
    siblings = info.siblings or []
    names = [sibling.rfilename for sibling in siblings]
    if WEIGHTS not in names and INDEX not in names:
        held = ", ".join(unsafe_files(names)) or "none that we know"
        return Pin(preset, repo, problem=f"{repo} has no safetensors weights. Others: {held}.")
    sha256 = {
        sibling.rfilename: sibling.lfs.sha256
        for sibling in siblings
        if sibling.lfs is not None and "/" not in sibling.rfilename and _is_fetched(sibling.rfilename)
    }
    return Pin(preset, repo, info.sha, sha256)


def _model_info(api: HfApi, repo: str) -> ModelInfo:
    try:
        return api.model_info(repo, files_metadata=True)
    except Exception as error:
        raise explain(error, ModelRef(repo, "hf"), endpoint=api.endpoint) from error


def _is_fetched(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in PATTERNS)
