from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from et_core.config import ComponentConfig
from et_core.errors import ArtifactError
from et_core.interfaces import App, Artifact, Model, Tokenizer, build_backbone, build_component, build_model
from et_core.registry import ModelRef, registry
from et_core.runfolder.atomic import staged_folder, verify_model

_FORMAT = 1
_ET = "et.json"
_WEIGHTS = "model.safetensors"
_EXTRA = "extra.safetensors"
_LIBRARIES = ("et-core", "torch", "transformers", "tokenizers")
_KEYS = ("family", "options", "tokenizer", "encoding", "precision", "tasks")


@dataclass
class ModelBundle:
    """A model with all that is needed to use it: what a model folder holds.

    *apps* and *app_configs* are by task; *encoding* holds ``max_length`` and ``truncation``; *precision* is "fp32" or
    "bf16", in which it was trained.
    """

    model: Model
    tokenizer: Tokenizer
    tokenizer_name: str
    apps: dict[str, App]
    app_configs: dict[str, ComponentConfig]
    encoding: dict[str, Any]
    precision: str = "fp32"

    def save(self, path: Path) -> None:
        """Write the folder *path* whole or not at all, in transformers' layout plus et.json."""
        layout, extra = _layout(self.model)
        needs = sum(tensor.numel() * tensor.element_size() for tensor in (*layout.values(), *extra.values()))
        with staged_folder(path, needs=needs) as folder:
            write_model(self.model, folder)
            self.tokenizer.save(folder)
            _write(folder / _ET, self._describe())

    def _describe(self) -> dict[str, Any]:
        tasks = {
            task: {
                "app": self.app_configs[task].name,
                "options": self.app_configs[task].options,
                "state": app.state(),
                "head": dataclasses.asdict(app.head()),
            }
            for task, app in self.apps.items()
        }
        return {
            "format": _FORMAT,
            "family": self.model.backbone.family,
            "options": dict(self.model.backbone.options),
            "tokenizer": {"name": self.tokenizer_name, "fingerprint": self.tokenizer.fingerprint()},
            "encoding": self.encoding,
            "precision": self.precision,
            "tasks": tasks,
            "versions": {**self._providers(), **{name: importlib.metadata.version(name) for name in _LIBRARIES}},
        }

    def _providers(self) -> dict[str, str]:
        """The version of each plugin that a part of the model comes from."""
        parts = [("backbones", self.model.backbone.family), ("tokenizers", self.tokenizer_name)]
        parts += [("apps", config.name) for config in self.app_configs.values()]
        entries = [registry(kind).find(name) for kind, name in parts]
        return {entry.distribution: entry.version for entry in entries}

    @classmethod
    def load(cls, path: Path) -> ModelBundle:
        """Read a folder that ``save`` wrote; ArtifactError where it is incomplete, was altered, or does not fit."""
        verify_model(path)
        described = _read_description(path / _ET)
        tokenizer = registry("tokenizers").get(described["tokenizer"]["name"]).load(path)
        verify_tokenizer(path, tokenizer)
        apps, configs = _build_apps(described["tasks"], tokenizer)
        family = described["family"]
        backbone = build_backbone(
            family,
            described["options"],
            tokenizer=tokenizer,
            artifact=Artifact(ModelRef(str(path), "local"), family, _read(path / "config.json")),
        )
        model = build_model(backbone, apps)
        fill_model(model, path)
        name, encoding, precision = described["tokenizer"]["name"], described["encoding"], described["precision"]
        return cls(model, tokenizer, name, apps, configs, encoding, precision)


def _build_apps(tasks: Mapping[str, Any], tokenizer: Tokenizer) -> tuple[dict[str, App], dict[str, ComponentConfig]]:
    configs = {task: ComponentConfig(name=row["app"], options=row["options"]) for task, row in tasks.items()}
    apps = {task: build_component("apps", config, where="app") for task, config in configs.items()}
    for task, app in apps.items():
        app.tokenizer = tokenizer
        app.load_state(tasks[task]["state"])
    return apps, configs


def write_model(model: Model, folder: Path) -> None:
    """Write config.json, model.safetensors and, where tensors have no place in it, extra.safetensors into *folder*."""
    layout, extra = _layout(model)
    _write(folder / "config.json", {**model.backbone.config(model.heads_by_task), "dtype": "float32"})
    save_file(_unique(layout), folder / _WEIGHTS, metadata={"format": "pt"})
    if extra:
        save_file(_unique(extra), folder / _EXTRA)


def _layout(model: Model) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of model.safetensors, and those that have no place in it."""
    layout = model.backbone.layout(model.heads_by_task)
    placed = {id(tensor) for tensor in layout.values()}
    extra = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) not in placed}
    return layout, extra


def _unique(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor under its first name, in fp32 on the CPU: tied ones are restored by the model that is built."""
    seen: set[int] = set()
    unique: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            value = tensor.detach().cpu().contiguous()
            unique[name] = value.float() if value.is_floating_point() else value
    return unique


def fill_model(model: Model, path: Path) -> None:
    """Copy into *model* what ``write_model`` wrote into *path*; ArtifactError where they do not fit each other."""
    layout, extra = _layout(model)
    for names, file in ((layout, path / _WEIGHTS), (extra, path / _EXTRA)):
        if not names:
            continue
        stored = _load_tensors(file)
        wanted = _unique(names)
        wrong = sorted(set(stored) ^ set(wanted)) or [n for n in wanted if wanted[n].shape != stored[n].shape]
        if wrong:
            raise ArtifactError(
                f"{file} does not fit the model that {path / _ET} describes: "
                f"{len(wrong)} tensors differ, such as {wrong[0]!r}."
            )
        with torch.no_grad():
            for name in wanted:
                names[name].copy_(stored[name])


def _load_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except FileNotFoundError as error:
        raise ArtifactError(f"{file} is missing.") from error
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{file} cannot be read: {error}") from error


def verify_tokenizer(path: Path, tokenizer: Tokenizer) -> None:
    """ArtifactError where *tokenizer*, read from the model folder *path*, gives other tokens than when it was saved.

    A folder without et.json is another tool's, and has nothing to compare with.
    """
    if not (path / _ET).is_file():
        return
    expected = _read_description(path / _ET)["tokenizer"]["fingerprint"]
    found = tokenizer.fingerprint()
    if found != expected:
        raise ArtifactError(
            f"the tokenizer in {path} gives other tokens than the one the model was trained with "
            f"(fingerprint {found}, expected {expected}). "
            f"Restore its files, or install the versions that {path / _ET} names."
        )


def saved_tokenizer(path: Path) -> str | None:
    """The registered name of the tokenizer that the model folder *path* was saved with; None for another tool's."""
    if not (path / _ET).is_file():
        return None
    name: str = _read_description(path / _ET)["tokenizer"]["name"]
    return name


def _read_description(path: Path) -> dict[str, Any]:
    described = _read(path)
    if described.get("format") != _FORMAT:
        raise ArtifactError(f"{path} has format {described.get('format')!r}; this version reads {_FORMAT}.")
    needed = {(): _KEYS, ("tokenizer",): ("name", "fingerprint")}
    tasks = described.get("tasks")
    for task in tasks if isinstance(tasks, dict) else ():
        needed["tasks", task] = ("app", "options", "state")
    for keys, names in needed.items():
        part: Any = described
        for key in keys:
            part = part[key]
        missing = [name for name in names if not isinstance(part, dict) or name not in part]
        if missing:
            raise ArtifactError(f"{path} lacks {'.'.join((*keys, missing[0]))!r}: it is incomplete or was altered.")
    return described


def _read(path: Path) -> dict[str, Any]:
    try:
        values: Any = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing: {path.parent} is not a model folder that et wrote.") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ArtifactError(f"{path} holds a {type(values).__name__}, not an object with keys.")
    return values


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False, default=_plain) + "\n", "utf-8")


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)
