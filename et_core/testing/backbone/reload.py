"""Load a saved backbone in a process of its own: ``python -m et_core.testing.backbone.reload FOLDER``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from et_core.interfaces import Artifact, Backbone, Inputs, Model, build_backbone
from et_core.registry import ModelRef, plugins, registry
from et_core.runfolder import fill_model
from et_core.testing.compare import rows_of
from et_core.testing.parts import child_environment, loaded_files
from et_core.testing.suite import CheckFailed

_PLAN, _STATE = "reload.json", "reload-state.safetensors"


def reload(folder: Path, family: str, options: dict[str, Any], batches: Sequence[Inputs]) -> list[dict[str, Tensor]]:
    """Load the backbone saved in *folder* in a new process; its state, and then its answer to each of *batches*.

    An answer's names are those of ``rows_of``, with the row's number before them.
    """
    names = []
    for number, inputs in enumerate(batches):
        names.append(f"reload-inputs-{number}.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in inputs.flatten().items()}, folder / names[-1])
    plan = {"files": loaded_files(), "family": family, "options": options, "inputs": names}
    (folder / _PLAN).write_text(json.dumps(plan), "utf-8")
    command = [sys.executable, "-m", "et_core.testing.backbone.reload", str(folder)]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        raise CheckFailed(f"loading it in a new process fails: {said[-1]}")
    return [load_file(folder / _STATE), *(load_file(folder / _answer(name)) for name in names)]


def numbered(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The rows that ``rows_of`` gives as one mapping."""
    return {f"{name} of row {index}": tensor for index, row in enumerate(rows) for name, tensor in row.items()}


def _answer(name: str) -> str:
    return name.replace("inputs", "answer")


def _load(folder: Path, family: str, options: dict[str, Any]) -> Backbone:
    tokenizer = registry("tokenizers").get(registry("backbones").get(family).tokenizer).load(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    artifact = Artifact(ModelRef(str(folder), "local"), family, config)
    backbone = build_backbone(family, options, tokenizer=tokenizer, artifact=artifact)
    fill_model(Model(backbone, {}), folder)
    return backbone.eval()


def _main(folder: Path) -> None:
    torch.set_num_threads(1)
    plan = json.loads((folder / _PLAN).read_text("utf-8"))
    for file in plan["files"]:
        plugins().add_file(Path(file))
    backbone = _load(folder, plan["family"], plan["options"])
    _save(dict(backbone.state_dict()), folder / _STATE)
    for name in plan["inputs"]:
        with torch.no_grad():
            answer = rows_of(backbone(Inputs.unflatten(load_file(folder / name))))
        _save(numbered(answer), folder / _answer(name))


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, file)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
