"""Real runs on a handful of rows: how the checks of apps, objectives and strategies come to one."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from et_core import api
from et_core.config import RunConfig, load_config
from et_core.data import ReadOptions, Rows, collate, open_rows
from et_core.inference import Engine, Run
from et_core.interfaces import App, Batch, Example, Model, Objective, Row, Tokenizer, provided_by
from et_core.registry import registry
from et_core.runfolder import Checkpoints, ModelBundle, RunFolder
from et_core.strategies import Single
from et_core.testing.parts import SENTENCES, difference, loaded_files, use_stand_ins
from et_core.testing.suite import CheckFailed
from et_core.training import Outcome, check_config, train_worker
from et_core.training.setup import Parts, assemble, build_objective

CPU = {"name": "et-core/single", "device": "cpu"}
"""The strategy of all runs that are not about another one: the same numbers on every machine."""

_TRAIN = {
    "batch_size": 8,
    "lr": 0.01,
    "schedule": "constant",
    "warmup": 0,
    "weight_decay": 0.0,
    "precision": "fp32",
    "log_every": 1,
    "eval_every": None,
    "keep_best": None,
}
_STAND_INS = ("stand-in-text", "stand-in-texts")
_TINY = torch.finfo(torch.float32).tiny


def labelled_rows() -> list[dict[str, Any]]:
    """The sentences, each with one of two labels that nothing but its words decide."""
    return [{"text": text, "label": ("dull", "fine")[place % 2]} for place, text in enumerate(SENTENCES)]


def stand_in_for(app: App) -> str:
    """The reference of a stand-in that provides what *app* asks for; CheckFailed where there is none."""
    for name in _STAND_INS:
        backbone = registry("backbones").get(f"stand-ins/{name}")
        if app.needs <= provided_by(backbone) and (not app.marks or "marks" in backbone.accepts):
            return f"stand-ins/{name}@init"
    asked = ", ".join(sorted(app.needs)) or "nothing"
    raise CheckFailed(f"no stand-in provides what the app needs ({asked}). Give the suite a model, such as NAME@init.")


def run_values(*, app: Any, model: Any, rows: Any, train: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    """The nested values of a run's config; *train* is laid over what small runs need."""
    use_stand_ins()
    return {
        "app": app,
        "model": model,
        "data": {"train": rows},
        "train": {**_TRAIN, **train},
        "strategy": CPU,
        "plugins": {"files": loaded_files()},
        **rest,
    }


def train(values: Mapping[str, Any], path: Path, *, resume: bool = False, **overrides: Any) -> Run:
    """Train without a bar, or distil where *values* name a teacher."""
    run = api.distill if "distill" in values else api.train
    return run(values, {"output": str(path), **overrides}, resume=resume, progress=False)


def train_and_keep(values: Mapping[str, Any], path: Path) -> ModelBundle:
    """Train into the folder *path*, and return the model as training left it, before it was saved."""
    kept: list[ModelBundle] = []

    def finish(outcome: Outcome) -> None:
        kept.append(outcome.parts.bundle)

    config = load_config(dict(values)).config
    check_config(config)
    RunFolder.create(path, resume=False)
    Single(device="cpu").launch(train_worker, config, path, False, False, finish)
    return kept[0]


def losses_of(path: Path) -> list[float]:
    """The logged losses of the run in *path*, in the order of the steps."""
    return [line["loss"] for line in RunFolder(path).read_metrics() if "loss" in line]


def weights_of(path: Path) -> dict[str, Tensor]:
    """All tensors of the model that the run in *path* saved."""
    files = sorted((path / "model").glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def furthest(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[float, str]:
    """The largest difference between two sets of tensors, as a share of the largest value of *expected*, and where.

    It is infinite where one of them holds nan. CheckFailed where names or shapes differ.
    """
    if found.keys() != expected.keys():
        raise CheckFailed(f"only one of two has the tensor {min(found.keys() ^ expected.keys())!r}.")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise CheckFailed(f"{name} has the shape {list(found[name].shape)} instead of {list(tensor.shape)}.")
    finite = [tensor[tensor.isfinite()].double().abs() for tensor in expected.values()]
    scale = max((float(values.max()) for values in finite if values.numel()), default=0.0)
    far = {name: _apart(found[name], tensor) / max(scale, _TINY) for name, tensor in expected.items() if tensor.numel()}
    worst = max(far, key=lambda name: far[name])
    return far[worst], worst


def _apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two values at one place; infinite for nan, which a comparison would let through."""
    difference = (found.double() - expected.double()).abs().masked_fill(found == expected, 0.0)  # inf - inf is nan
    return float(difference.nan_to_num(nan=math.inf, posinf=math.inf).max())


def copy_back_to(step: int, *, source: Path, target: Path) -> Path:
    """Copy the finished run in *source* to *target*, as it was when it had saved the checkpoint of *step*."""
    shutil.copytree(source, target)
    folder = RunFolder(target)
    folder.truncate_metrics(step)
    for path in (folder.model, folder.results_file, folder.report, folder.card):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for later in Checkpoints(folder.checkpoints).steps():
        if later > step:
            shutil.rmtree(folder.checkpoints / f"step-{later:06d}")
    return target


@dataclass(frozen=True)
class Bench:
    """A run that is assembled and not trained: its parts, as the loop would get them."""

    config: RunConfig
    parts: Parts

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Bench:
        """Assemble the run of *values*, seeded as a run is."""
        config = load_config(dict(values)).config
        check_config(config)
        torch.manual_seed(config.train.seed)
        return cls(config, assemble(config, Single(device="cpu")))

    @property
    def app(self) -> App:
        return self.parts.app

    def objective(self) -> Objective:
        """The run's objective over its model: a second one would be over the same model."""
        bundle = self.parts.bundle
        return build_objective(self.config, self.app, bundle.model, bundle.tokenizer, teaching=self.parts.teaching)

    def batches(self, *, size: int, rows: int | None = None) -> list[Batch]:
        """The training examples in their order, *size* a batch."""
        store, pad_id = self.parts.train, self.parts.bundle.tokenizer.pad_id
        count = len(store) if rows is None else rows
        starts = range(0, count, size)
        return [collate(store.take(range(start, min(start + size, count))), pad_id=pad_id) for start in starts]


@dataclass(frozen=True)
class Lab:
    """An app with the model and the tokenizer of a run, and its rows."""

    app: App
    model: Model
    tokenizer: Tokenizer
    encoding: Mapping[str, Any]
    rows: list[Row]

    def bare_rows(self) -> list[Row]:
        """The rows without their targets."""
        return [without_targets(row, self.app) for row in self.rows]

    def encode(self, rows: Sequence[Row], *, app: App | None = None, **changes: Any) -> list[Example]:
        """Encode as a run does, but for *changes*."""
        backbone = self.model.backbone
        given = {"accepts": backbone.accepts, "processor": backbone.processor(), **self.encoding, **changes}
        return (app or self.app).encode(rows, self.tokenizer, **given)

    def run(self, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        """The outputs of the model, by an engine of its own."""
        engine = Engine(
            self.model.eval(),
            pad_id=self.tokenizer.pad_id,
            device=torch.device("cpu"),
            outputs=self.app.outputs,
        )
        return engine(examples)


def read_rows(source: Any, app: App, *, need_targets: bool = True, on_bad_row: str = "stop") -> Rows:
    """Rows of a file or in memory, by the roles of *app*."""
    options = ReadOptions.of(load_config({"data": {"on_bad_row": on_bad_row}}).config.data)
    return open_rows(source, options, roles=app.roles, need_targets=need_targets)


def without_targets(row: Row, app: App) -> Row:
    values = {name: value for name, value in row.items() if not app.roles[name].target}
    return Row(values, where=row.where, index=row.index, columns=row.columns)


def by_row(examples: Sequence[Example]) -> list[slice]:
    """The places of each row's examples, row after row."""
    cuts, start = [], 0
    for _, group in groupby(example.row for example in examples):
        end = start + len(list(group))
        cuts.append(slice(start, end))
        start = end
    return cuts


def refuse_difference(found: Any, expected: Any, *, what: str, tolerance: float = 0.0) -> None:
    """CheckFailed where *found* is not *expected*; *what* begins the message."""
    if flaw := difference(found, expected, tolerance=tolerance):
        raise CheckFailed(f"{what}: {flaw}.")
