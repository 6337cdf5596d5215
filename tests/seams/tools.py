"""Small stores, models and loops that the tests of training share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from et_core.config import TrainConfig, load_config
from et_core.data import ExampleStore
from et_core.data.store import write_store
from et_core.interfaces import Backbone, Example, Features, Head, Model, Objective
from et_core.registry import plugins, refresh
from et_core.registry.files import import_file
from et_core.runfolder import RunFolder
from et_core.strategies import Single
from et_core.training import Loop, Plan, Position, Split, StoreSplit, Supervised
from et_core.training.groups import freeze, make_optimizer
from et_core.training.losses import CrossEntropy
from et_core.training.progress import Silent
from et_core.training.recorder import Recorder

PLUGIN = Path(__file__).resolve().with_name("seam_plugin.py")
seam: Any = import_file(PLUGIN)
"""The module of the plugin file, under the name it has as a plugin."""

VOCABULARY = 20


@contextlib.contextmanager
def seam_plugins() -> Iterator[None]:
    """The plugin file is loaded; afterwards no other test sees its names."""
    plugins().add_file(PLUGIN)
    try:
        yield
    finally:
        refresh()


class PooledHead(Head):
    def __init__(self, hidden_size: int, outputs: int = 2) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(hidden_size, outputs)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.linear(features.pooled)}


class TokenHead(PooledHead):
    needs = frozenset({"tokens"})

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.linear(features.tokens)}


def store_of(path: Path, examples: Sequence[Example]) -> ExampleStore:
    write_store(path, iter([list(examples)]))
    return ExampleStore(path)


def word_examples(count: int = 48, *, seed: int = 0, longest: int = 12) -> list[Example]:
    """Rows of 2 to *longest* words; the label says whether word 2 or word 3 is among them."""
    rng = np.random.default_rng(seed)
    examples = []
    for row in range(count):
        label = row % 2
        words = rng.integers(4, VOCABULARY, int(rng.integers(2, longest + 1)))
        words[rng.integers(len(words))] = 2 + label
        examples.append(Example({"texts.0.ids": words.astype(np.int32)}, {"label": np.asarray(label)}, row))
    return examples


def token_examples(count: int = 48, *, seed: int = 0) -> list[Example]:
    """A label for each word, even or odd, most of them left out, some rows wholly."""
    rng = np.random.default_rng(seed)
    examples = []
    for row in range(count):
        words = rng.integers(4, VOCABULARY, int(rng.integers(2, 13)))
        labels = np.where(rng.random(len(words)) < (0 if row % 5 == 0 else 0.4), words % 2, -100)
        examples.append(Example({"texts.0.ids": words.astype(np.int32)}, {"label": labels.astype(np.int64)}, row))
    return examples


def bag(**sizes: Any) -> Backbone:
    torch.manual_seed(0)
    backbone: Backbone = seam.Bag(VOCABULARY, **sizes)
    return backbone


def bag_objective(*, head: type[PooledHead] = PooledHead, loss: Any = None, **sizes: Any) -> Supervised:
    backbone = bag(**sizes)
    return Supervised(Model(backbone, {"main": head(backbone.hidden_size)}), {"main": loss or CrossEntropy()})


def split_of(store: ExampleStore, *, batch_size: int = 12, token_budget: int = 10_000, **options: Any) -> StoreSplit:
    return StoreSplit(store, batch_size=batch_size, seed=3, pad_id=0, token_budget=token_budget, **options)


def settings(**values: Any) -> TrainConfig:
    defaults = {"schedule": "constant", "warmup": 0, "log_every": 1, "precision": "fp32", "lr": 0.05, "seed": 3}
    return load_config({"train": {**defaults, **values}}).config.train


class Trained:
    """What a loop left: where it stands, the logged lines, and the metrics of each evaluation."""

    def __init__(self, position: Position, lines: list[dict[str, Any]], state: dict[str, Tensor]) -> None:
        self.position = position
        self.state = state
        self.lines = lines
        self.losses = [line["loss"] for line in lines if "loss" in line]


def fit(
    objective: Objective,
    splits: Mapping[str, Split],
    folder: Path,
    *,
    train: TrainConfig,
    evaluate: Callable[[], dict[str, float]] | None = None,
    save: Callable[[Position], None] | None = None,
    better: Callable[[float, float], bool] | None = lambda new, old: new > old,
    start: int = 0,
    state: Mapping[str, Tensor] | None = None,
) -> Trained:
    """Run the loop over *splits* in this process, logging into *folder*; the watched metric is "score".

    Goes on from the step *start* with the *state* of a strategy, where one is given.
    """
    strategy = Single(device="cpu")
    freeze(objective, train.freeze)
    prepared = strategy.prepare(objective, lambda whole: _optimizers(whole, train))
    if state is not None:
        strategy.load_state(prepared, state)
    plan = Plan.make(train, steps_per_epoch=splits["train"].steps_per_epoch, precision="fp32")
    folder.mkdir(exist_ok=True)
    recorder = Recorder(RunFolder(folder), trackers=[], progress=Silent())
    loop = Loop(
        prepared,
        splits,
        train=train,
        plan=plan,
        strategy=strategy,
        evaluate=evaluate,
        better=better,
        watched="score",
        save=save,
        recorder=recorder,
    )
    with contextlib.closing(recorder):
        position = loop.run(Position(start))
    left = {name: tensor.clone() for name, tensor in strategy.state(prepared).items()}
    return Trained(position, RunFolder(folder).read_metrics(), left)


def _optimizers(objective: Objective, train: TrainConfig) -> dict[str, torch.optim.Optimizer]:
    return {phase.name: make_optimizer(objective, phase, train) for phase in objective.phases()}


def weights(objective: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in objective.state_dict().items()}


def distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """The largest difference between two sets of weights of the same names."""
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def write_words(path: Path, count: int, *, seed: int = 0) -> Path:
    """A file of texts of 2 to 12 words and the label that one of them decides."""
    rng = np.random.default_rng(seed)
    rows = ["text\tlabel"]
    for row in range(count):
        words = [f"w{number}" for number in rng.integers(0, 12, int(rng.integers(2, 12)))]
        words.insert(int(rng.integers(len(words))), "good" if row % 2 else "bad")
        rows.append(f"{' '.join(words)}\t{'pos' if row % 2 else 'neg'}")
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path
