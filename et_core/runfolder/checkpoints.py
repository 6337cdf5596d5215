from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from et_core.errors import CheckpointError
from et_core.runfolder.atomic import current, find_damage, settle, staged_folder, verify, write_text

_TENSORS = "tensors.safetensors"
_STATE = "state.json"
_NAME = re.compile(r"step-(?P<step>\d{6,})(?P<suffix>|\.tmp|\.old|\.trash)")


@dataclass(frozen=True)
class Loaded:
    """A checkpoint that was verified. *passed_over* names the newer folders that could not be used, and says why."""

    step: int
    path: Path
    state: dict[str, Any]
    passed_over: list[tuple[str, str]] = field(default_factory=list)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Read the tensors, on the CPU, each with memory of its own."""
        return load_file(self.path / _TENSORS)


class Checkpoints:
    """The newest *keep* checkpoints of a run, each in a folder that is written whole or not at all.

    One process saves; any may read. Folders are step-000500 and so on; LATEST names the newest for people and tools.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self._damaged: set[int] = set()

    def save(
        self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any], *, needs: Collection[int] = ()
    ) -> Path:
        """Write a checkpoint, then remove the older ones beyond *keep*.

        The steps in *needs* are those that this one cannot do without: they are kept, and where one of them is damaged,
        ``newest`` passes over this one too.

        *state* holds what JSON holds, with strings for keys; floats come back exactly, also NaN and infinities, for
        which Python's own extension of JSON is used. RunFolderError on a full disk, with all that was there in place.
        """
        self._clean()
        path = self._path(step)
        text = json.dumps({"needs": sorted(needs), "state": dict(state)})
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + len(text)
        with staged_folder(path, needs=size, advice=self._advice()) as staged:
            (staged / _STATE).write_text(text, "utf-8")
            save_file(_separate(tensors), staged / _TENSORS)
        self._damaged.discard(step)
        write_text(self.folder / "LATEST", f"{path.name}\n")
        self._prune(step, needs)
        return path

    def newest(self) -> Loaded | None:
        """Return the newest checkpoint that verifies, or None where none was ever finished.

        CheckpointError where there are checkpoints and each is damaged: to begin again is for the user to decide.
        """
        passed_over = [(name, "it was not finished.") for name in self._names() if name.endswith(".tmp")]
        steps = self.steps()
        for step in reversed(steps):
            path = current(self._path(step))
            damage = _find_damage(path) or self._find_missing(path)
            if not damage:
                return _read(step, path, passed_over)
            self._damaged.add(step)
            passed_over.append((path.name, damage))
        if not steps:
            return None
        rows = "\n".join(f"  {name}: {why}" for name, why in passed_over)
        raise CheckpointError(
            f"no checkpoint in {self.folder} can be used:\n{rows}\nTo train from the beginning, remove that folder."
        )

    def load(self, step: int) -> Loaded:
        """Return the checkpoint of *step*; CheckpointError if there is none, or if it does not verify."""
        steps = self.steps()
        if step not in steps:
            known = ", ".join(map(str, steps)) or "none"
            raise CheckpointError(f"{self.folder} holds no checkpoint of step {step}. There are: {known}.")
        path = current(self._path(step))
        verify(path, requires=(_TENSORS, _STATE))
        return _read(step, path, [])

    def steps(self) -> list[int]:
        """The steps with a finished checkpoint, oldest first; whether they verify is not looked at."""
        matches = map(_NAME.fullmatch, self._names())
        return sorted({int(match["step"]) for match in matches if match and match["suffix"] in ("", ".old")})

    def _names(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"

    def _advice(self) -> str:
        steps = self.steps()
        intact = (
            f"Nothing was lost: the checkpoint of step {steps[-1]} is as it was."
            if steps
            else "There is no earlier checkpoint, so training will begin again."
        )
        return f"{intact} Free some space, then run the same command with --resume."

    def _find_missing(self, path: Path) -> str:
        """What is wrong with a step that the sound checkpoint at *path* needs; the empty string for nothing."""
        for step in json.loads((path / _STATE).read_text("utf-8"))["needs"]:
            needed = current(self._path(step))
            damage = _find_damage(needed) if needed.is_dir() else "it is missing."
            if damage:
                return f"it needs {needed.name}: {damage}"
        return ""

    def _prune(self, step: int, needed: Collection[int]) -> None:
        # Later steps are left alone: they are damaged ones that training has gone back behind, and will be replaced.
        older = [earlier for earlier in self.steps() if earlier < step]
        sound = [earlier for earlier in older if earlier not in self._damaged]
        kept = {*sound[max(0, len(sound) - self.keep + 1) :], *needed}
        for surplus in sorted(set(older) - kept):
            path = self._path(surplus)
            # Under another name first, so that a half removed checkpoint is never taken for one.
            shutil.rmtree(path.rename(path.with_name(f"{path.name}.trash")))

    def _clean(self) -> None:
        for name in self._names():
            path = self.folder / name
            if path.suffix == ".trash":
                shutil.rmtree(path)
            elif path.suffix:
                settle(path.with_suffix(""))


def _find_damage(path: Path) -> str:
    return find_damage(path, requires=(_TENSORS, _STATE))


def _read(step: int, path: Path, passed_over: list[tuple[str, str]]) -> Loaded:
    return Loaded(step, path, json.loads((path / _STATE).read_text("utf-8"))["state"], passed_over)


def _separate(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors on the CPU, copied only where two share a storage, which safetensors refuses."""
    separate: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        packed = tensor.detach().cpu().contiguous()
        if packed.untyped_storage().data_ptr() in seen:
            packed = packed.clone()
        seen.add(packed.untyped_storage().data_ptr())
        separate[name] = packed
    return separate
