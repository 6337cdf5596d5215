"""A plugin of one file, as small as each seam allows: what the seam tests train by name or use directly."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from et_core.hooks import Register, hookimpl
from et_core.interfaces import (
    App,
    Artifact,
    Backbone,
    Batch,
    Encoded,
    Features,
    Head,
    Inputs,
    Loss,
    Metric,
    Model,
    Objective,
    OptimizerFactory,
    Phase,
    Schedule,
    Step,
    Term,
    Text,
    Tokenizer,
    Tracker,
    build_backbone,
    build_model,
)

ET_API = 1


@hookimpl
def et_register_backbones(register: Register) -> None:
    register("seam-bag", "seam_plugin:Bag", summary="Mean of words, then a few layers")
    register("seam-towers", "seam_plugin:Towers", summary="Two texts, each read alone")


@hookimpl
def et_register_heads(register: Register) -> None:
    register("seam-deep", "seam_plugin:Deep", summary="Scores from all layers")


@hookimpl
def et_register_objectives(register: Register) -> None:
    register("seam-pupil", "seam_plugin:Pupil", summary="A small model of its own learns beside the run's")


@hookimpl
def et_register_tokenizers(register: Register) -> None:
    register("seam-words", "seam_plugin:Words", summary="Words between blanks, learned from the data")


@hookimpl
def et_register_metrics(register: Register) -> None:
    register("seam-wrong", "seam_plugin:Wrong", summary="Share of rows predicted wrong")


@hookimpl
def et_register_optimizers(register: Register) -> None:
    register("seam-adam", "seam_plugin:PlainAdam", summary="Adam")


@hookimpl
def et_register_schedules(register: Register) -> None:
    register("seam-half", "seam_plugin:Half", summary="Half of the peak")


@hookimpl
def et_register_trackers(register: Register) -> None:
    register("seam-file", "seam_plugin:FileTracker", summary="Lines in tracked.jsonl")
    register("seam-bomb", "seam_plugin:Bomb", summary="Fails at the step that SEAM_BOMB names")


class Words(Tokenizer):
    trainable: ClassVar[bool] = True

    def __init__(self, words: Sequence[str]) -> None:
        self._ids = {word: index for index, word in enumerate(words)}

    @property
    def vocab_size(self) -> int:
        return len(self._ids)

    @property
    def pad_id(self) -> int:
        return 0

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int,
        stride: int = 0,
        truncation: str = "right",
        offsets: bool = False,
    ) -> Encoded:
        joined = list(texts) if pairs is None else [f"{a} {b}" for a, b in zip(texts, pairs, strict=True)]
        ids = [[self._ids.get(word, 1) for word in text.split()][:max_length] or [1] for text in joined]
        return Encoded(ids, [[0] * len(row) for row in ids], list(range(len(ids))))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        words = list(self._ids)
        return [" ".join(words[index] for index in row) for row in ids]

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self._ids).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        (path / "words.json").write_text(json.dumps(list(self._ids)), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Words:
        return cls(json.loads((path / "words.json").read_text("utf-8")))

    @classmethod
    def fit(cls, texts: Iterable[str], *, vocab_size: int) -> Words:
        counts = Counter(word for text in texts for word in text.split())
        return cls(["[pad]", "[unknown]", *sorted(counts, key=lambda word: (-counts[word], word))][:vocab_size])


class Bag(Backbone):
    """Words through a few residual layers, then their mean: the smallest encoder with all the usual kinds of parts."""

    accepts: ClassVar[frozenset[str]] = frozenset({"text"})
    provides: ClassVar[frozenset[str]] = frozenset({"tokens", "pooled"})
    tokenizer: ClassVar[str] = "seam-words"

    @dataclass
    class Options:
        hidden_size: int = 16
        num_layers: int = 2
        dropout: float = 0.0

    def __init__(self, vocab_size: int, *, hidden_size: int = 16, num_layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.embeddings = nn.ModuleDict(
            {"words": nn.Embedding(vocab_size, hidden_size), "norm": nn.LayerNorm(hidden_size)}
        )
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.Tanh(), nn.Dropout(dropout))
            for _ in range(num_layers)
        )
        self.pooler = nn.Linear(hidden_size, hidden_size)

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Bag:
        return cls(
            tokenizer.vocab_size,
            hidden_size=options.hidden_size,
            num_layers=options.num_layers,
            dropout=options.dropout,
        )

    def read(self, text: Text) -> tuple[Tensor, Tensor]:
        states = self.embeddings["norm"](self.embeddings["words"](text.ids))
        for layer in self.layers:
            states = states + layer(states)
        mask = text.mask.unsqueeze(-1)
        return states, self.pooler((states * mask).sum(1) / mask.sum(1)).tanh()

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        (text,) = inputs.texts
        tokens, pooled = self.read(text)
        return Features(tokens, text.mask, pooled, dict.fromkeys(want, (tokens,)))

    def blocks(self) -> list[nn.Module]:
        return list(self.layers)

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {"model_type": "seam-bag", "hidden_size": self.hidden_size}


class Towers(Bag):
    accepts: ClassVar[frozenset[str]] = frozenset({"texts"})
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})

    def __init__(self, vocab_size: int, *, hidden_size: int = 16, num_layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__(vocab_size, hidden_size=hidden_size, num_layers=num_layers, dropout=dropout)
        self.join = nn.Linear(4 * hidden_size, hidden_size)

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        first, second = (self.read(text)[1] for text in inputs.texts)
        return Features(pooled=self.join(torch.cat([first, second, first * second, (first - second).abs()], -1)).tanh())


class Deep(Head):
    """The mean of the first token over all layers."""

    needs: ClassVar[frozenset[str]] = frozenset({"layers"})

    def __init__(self, *, hidden_size: int, num_outputs: int, **spec: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, num_outputs)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        layers: Any = features.extra["layers"]
        return {"logits": self.linear(torch.stack(layers).mean(0)[:, 0])}


class Pupil(Objective):
    """The run's model learns from one part of the rows, a smaller one from the others: the smaller one is kept."""

    def __init__(
        self,
        *,
        model: Model,
        losses: Mapping[str, Loss],
        apps: Mapping[str, App],
        tokenizer: Tokenizer,
        hidden_size: int = 8,
        share: float = 0.5,
    ) -> None:
        super().__init__()
        self.model = model
        backbone = build_backbone("seam-bag", {"hidden_size": hidden_size, "num_layers": 1}, tokenizer=tokenizer)
        self.pupil = build_model(backbone, apps)
        self.losses = nn.ModuleDict(losses)
        self._share = share
        self.rows: dict[str, set[int]] = {"teach": set(), "learn": set()}

    def phases(self) -> list[Phase]:
        return [Phase("teach", ("model.*",), split="teach"), Phase("learn", ("pupil.*",))]

    def splits(self) -> dict[str, float]:
        return {"teach": 1 - self._share, "train": self._share}

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        loss: Any = self.losses[batch.task]
        return {phase: loss.count(batch.targets)}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        self.rows[step.phase] |= set(batch.rows.tolist())
        model = self.model if step.phase == "teach" else self.pupil
        return {step.phase: Term(*self.losses[batch.task](model(batch), batch.targets))}

    def result(self) -> Model:
        return self.pupil


class Wrong(Metric):
    higher_is_better: ClassVar[bool] = False

    def __init__(self, *, labels: Sequence[str] = ()) -> None:
        super().__init__(labels=labels)
        self._wrong = self._rows = 0

    def update(self, *, predictions: np.ndarray, targets: np.ndarray, scores: np.ndarray) -> None:
        self._wrong += int((predictions != targets).sum())
        self._rows += len(targets)

    def compute(self) -> float:
        return self._wrong / self._rows if self._rows else math.nan


class PlainAdam(OptimizerFactory):
    def build(self, groups: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=lr)


class Half(Schedule):
    def decay(self, progress: float) -> float:
        return 0.5


class FileTracker(Tracker):
    def __init__(self, *, folder: Path, config: Mapping[str, object]) -> None:
        self._file = (folder / "tracked.jsonl").open("a", encoding="utf-8")
        self._app = config["app"]

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"app": self._app, "step": step, **values}) + "\n")

    def close(self) -> None:
        self._file.close()


class Bomb(Tracker):
    def __init__(self, *, folder: Path, config: Mapping[str, object]) -> None:
        self._step = int(os.environ.get("SEAM_BOMB", "0"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == self._step:
            raise RuntimeError(f"the bomb went off at step {step}")

    def close(self) -> None:
        return
