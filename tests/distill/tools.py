"""A teacher of two layers and students that learn from it in a second, which the tests of distillation share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from et_core import api
from et_core.data.cache import cache_folder
from et_core.errors import ConfigError
from et_core.inference import Run
from et_core.registry import refresh, registry
from et_core.training.loop import Loop

ROOT = Path(__file__).resolve().parents[2]
TRAIN = {"epochs": 2, "batch_size": 8, "lr": 1e-3, "precision": "fp32", "log_every": 1}
STUDENT: Mapping[str, Any] = {
    "ref": "bert@init",
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 64,
    "max_positions": 64,
}
SEARCHED: Mapping[str, Any] = {"ref": "adabert@init", "embedding_size": 8, "hidden_size": 8, "max_positions": 64}
WORDS = {"neg": ("bad", "dull", "poor"), "pos": ("good", "fine", "bright")}


def write_rows(
    path: Path, count: int = 36, *, labels: tuple[str, ...] = ("neg", "pos"), seed: int = 0, pairs: bool = False
) -> str:
    """A file of texts of 4 to 8 words, of which one says the label; the path as text."""
    rng = np.random.default_rng(seed)
    lines = ["text\ttext_pair\tlabel" if pairs else "text\tlabel"]
    for row in range(count):
        words = [f"{'bcdfg'[n // 8]}{'aeiouylr'[n % 8]}" for n in rng.integers(0, 40, int(rng.integers(3, 8)))]
        words.insert(int(rng.integers(len(words))), str(rng.choice(list(WORDS.values())[row % 2])))
        fields = [" ".join(words), *(["a film of " + words[0]] if pairs else []), labels[row % len(labels)]]
        lines.append("\t".join(fields))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def settings(source: str, **sections: Any) -> dict[str, Any]:
    """The config of a run on the file *source*; a section is laid over what there is, or takes its place."""
    config: dict[str, Any] = {
        "app": "classification",
        "model": dict(STUDENT),
        "data": {"train": source, "max_length": 32},
        "train": dict(TRAIN),
    }
    for name, section in sections.items():
        laid_over = isinstance(section, dict) and name in ("data", "train")
        config[name] = {**config[name], **section} if laid_over else section
    return config


def train_teacher(path: Path, source: str, **sections: Any) -> str:
    """Train a teacher into *path*; the reference that names it."""
    model = {"model": "bert-tiny-random@zoo", "train": {"epochs": 14, "lr": 3e-3}}
    api.train(settings(source, **{**model, **sections}), {"output": str(path)}, progress=False)
    return f"{path}@local"


def distil(
    output: Path,
    source: str,
    teacher: str | list[str],
    terms: Mapping[str, Any] | None = None,
    *,
    resume: bool = False,
    search_only: bool = False,
    distill: Mapping[str, Any] | None = None,
    **sections: Any,
) -> Run:
    """Distil into *output*, by the logits of the teacher unless *terms* are given."""
    section = {"teacher": teacher, "terms": dict(terms or {"vanilla-kd": 1.0}), **(distill or {})}
    config = settings(source, distill=section, **sections)
    return api.distill(config, {"output": str(output)}, resume=resume, search_only=search_only, progress=False)


def refused(*arguments: Any, **sections: Any) -> str:
    """What ``distil`` with these arguments is refused with."""
    with pytest.raises(ConfigError) as caught:
        distil(*arguments, **sections)
    return str(caught.value)


def losses(run: Run) -> list[dict[str, float]]:
    """The logged losses of each step, the total as "loss" and each term by its name."""
    lines = [line for line in run.folder.read_metrics() if "loss" in line]
    return [
        {name.removeprefix("loss/"): value for name, value in line.items() if name.split("/")[0] == "loss"}
        for line in lines
    ]


def bits(path: Path) -> dict[str, bytes]:
    """The weights that the run in *path* saved."""
    found = {file.name: file.read_bytes() for file in sorted((path / "model").glob("*.safetensors"))}
    assert found
    return found


def cached(kind: str) -> dict[Path, int]:
    """The files of a folder of the cache, with the time of their writing."""
    return {path: path.stat().st_ino for path in sorted((cache_folder() / kind).glob("*"))}


@contextmanager
def bert_calls() -> Iterator[list[tuple[int, bool]]]:
    """The width of each BERT that was called, in order, and whether it was in training."""
    cls, seen = registry("backbones").get("bert"), []

    def note(module: nn.Module, *rest: Any) -> None:
        if type(module) is cls:
            seen.append((module.hidden_size, module.training))

    handle = nn.modules.module.register_module_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def stopped_at(step: int, *, number: int = 1) -> Iterator[None]:
    """Runs fail as they begin the step *step*, of the *number*-th loop that is started."""
    begin, loops = Loop._step, []

    def count(loop: Loop, index: int, *rest: Any) -> bool:
        if loop not in loops:
            loops.append(loop)
        if index == step and len(loops) == number:
            raise RuntimeError(f"the power went off at step {step}")
        return begin(loop, index, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_step", count)
        yield


def figures(run: Run) -> dict[str, Any]:
    """The results that do not tell of a clock."""
    read = json.loads((run.path / "results.json").read_text("utf-8"))
    return {name: read[name] for name in ("metrics", "steps", "best_step", "parameters", "train_rows", "notes")}


def plugin_file(path: Path, source: str) -> Iterator[str]:
    """A plugin of one file, which no other test sees afterwards."""
    path.write_text(source, "utf-8")
    yield str(path)
    refresh()


def distil_apart(folder: Path, config: Path, kill_at: int, *, resume: bool = False) -> None:
    """Distil by *config*, a JSON file, in a process of its own, killed at its event *kill_at* unless that is 0."""
    command = ("tests.seams.kills", str(config), str(folder), str(kill_at), "--distill")
    done = run_module(*command, *(["--resume"] if resume else []))
    assert done.returncode == (-signal.SIGKILL if kill_at else 0), done.stderr


def run_module(*command: str, timeout: int = 200) -> subprocess.CompletedProcess[str]:
    """``python -m`` with a module and its arguments, which finds this repository's packages."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
