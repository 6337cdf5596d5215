"""A plugin of one file: small components for the checks of parts that have no partner of their own.

``et_core.testing.parts.use_stand_ins`` loads it. Nothing else does, so no user ever sees these names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from et_core.errors import ConfigError
from et_core.hooks import Register, hookimpl
from et_core.interfaces import (
    App,
    Artifact,
    Backbone,
    Batch,
    Distiller,
    Evaluation,
    Example,
    Features,
    Figure,
    Head,
    HeadSpec,
    Inputs,
    LossSpec,
    Observed,
    Processor,
    Role,
    Row,
    Term,
    Text,
    Tokenizer,
)

ET_API = 1


@hookimpl
def et_register_backbones(register: Register) -> None:
    register("stand-in-text", "stand_ins:TextEncoder", summary="Two attention layers over one text")
    register("stand-in-texts", "stand_ins:TwoTexts", summary="Two texts, each read alone")


@hookimpl
def et_register_heads(register: Register) -> None:
    register("stand-in-pooled", "stand_ins:PooledScores", summary="A linear layer on the pooled state")


@hookimpl
def et_register_apps(register: Register) -> None:
    register("stand-in-labels", "stand_ins:Labels", summary="One label for a text")


@hookimpl
def et_register_distillers(register: Register) -> None:
    register("stand-in-logits", "stand_ins:Logits", summary="Squared distances of logits")


class _Layer(nn.Module):
    """One head of attention and a layer of two steps, each added to what comes in."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        parts = self.queries_keys_values(self.norms[0](states)).chunk(3, -1)
        scores = parts[0] @ parts[1].mT / math.sqrt(states.shape[-1])
        weights = scores.masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1)
        states = states + self.dropout(self.output(weights @ parts[2]))
        states = states + self.dropout(self.feed(self.norms[1](states)))
        return states, weights.unsqueeze(1), tuple(part.unsqueeze(1) for part in parts)


class TextEncoder(Backbone):
    """A Transformer encoder with one head and fixed positions, as small as one gets that can do all a backbone can."""

    accepts: ClassVar[frozenset[str]] = frozenset({"text", "marks"})
    provides: ClassVar[frozenset[str]] = frozenset({"tokens", "pooled", "layers", "attentions", "queries-keys-values"})

    @dataclass
    class Options:
        hidden_size: int = 16
        num_layers: int = 2
        dropout: float = 0.0
        marks: dict[str, int] = field(default_factory=dict)

    def __init__(self, vocab_size: int, options: Any) -> None:
        super().__init__()
        self.hidden_size = options.hidden_size
        self.words = nn.Embedding(vocab_size, self.hidden_size)
        self.segments = nn.Embedding(2, self.hidden_size)
        self.marks = nn.ModuleDict({name: nn.Embedding(n, self.hidden_size) for name, n in options.marks.items()})
        self.layers = nn.ModuleList(_Layer(self.hidden_size, options.dropout) for _ in range(options.num_layers))
        self.pooler: nn.Module = nn.Linear(self.hidden_size, self.hidden_size)

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> TextEncoder:
        return cls(tokenizer.vocab_size, options)

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        (text,) = inputs.texts
        tokens, extra = self._read(text, inputs.marks)
        found = {name: values for name, values in extra.items() if name in want}
        return Features(tokens, text.mask, self._pool(tokens, text.mask), found)

    def _read(self, text: Text, marks: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, object]]:
        segments = torch.zeros_like(text.ids) if text.segments is None else text.segments.long()
        states = self.words(text.ids) + self.segments(segments) + _positions(text.ids, self.hidden_size)
        for name, values in marks.items():
            states = states + self.marks[name](values)
        layers, attentions, parts = [states], [], []
        for layer in self.layers:
            states, weights, found = layer(states, text.mask)
            layers.append(states)
            attentions.append(weights)
            parts.append(found)
        return states, {
            "layers": tuple(layers),
            "attentions": tuple(attentions),
            "queries-keys-values": tuple(parts),
        }

    def _pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        real = mask.unsqueeze(-1)
        pooled: Tensor = self.pooler((tokens * real).sum(1) / real.sum(1)).tanh()
        return pooled

    def restrict(self, needs: frozenset[str]) -> None:
        if "pooled" not in needs:
            self.pooler = nn.Identity()

    def token_table(self) -> nn.Embedding:
        return self.words

    def blocks(self) -> list[nn.Module]:
        return list(self.layers)

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {"model_type": "stand-in-text", "hidden_size": self.hidden_size}


class TwoTexts(TextEncoder):
    """The same encoder over each of two texts; what they have in common and what not is their pooled state."""

    accepts: ClassVar[frozenset[str]] = frozenset({"texts"})
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})

    @dataclass
    class Options:
        hidden_size: int = 16
        num_layers: int = 2
        dropout: float = 0.0

    def __init__(self, vocab_size: int, options: Any) -> None:
        super().__init__(vocab_size, TextEncoder.Options(options.hidden_size, options.num_layers, options.dropout))
        self.join = nn.Linear(4 * self.hidden_size, self.hidden_size)

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        pooled = [self._pool(self._read(text, {})[0], text.mask) for text in inputs.texts]
        first, second = pooled[0], pooled[-1]  # one text alone stands beside itself
        joined = torch.cat([first, second, first * second, (first - second).abs()], -1)
        return Features(pooled=self.join(joined).tanh())

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {"model_type": "stand-in-texts", "hidden_size": self.hidden_size}


def _positions(ids: Tensor, width: int) -> Tensor:
    """Sines and cosines [L, width] of each place in a text; Vaswani et al. 2017, section 3.5."""
    places = torch.arange(ids.shape[1], device=ids.device).unsqueeze(1)
    rates = torch.exp(torch.arange(0, width, 2, device=ids.device) * (-math.log(10_000.0) / width))
    return torch.stack([(places * rates).sin(), (places * rates).cos()], -1).flatten(1)[:, :width]


class PooledScores(Head):
    """The pooled state, and a linear layer on it."""

    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})

    def __init__(self, *, hidden_size: int, num_outputs: int, **spec: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, num_outputs)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.linear(features.pooled)}


@dataclass(frozen=True)
class Labelled:
    """The label that is most likely."""

    prediction: str


class Labels(App):
    """One label for a text: what objectives and strategies are checked on."""

    roles: ClassVar[Mapping[str, Role]] = {
        "text": Role(str, "the text"),
        "label": Role(object, "its label", target=True),
    }
    prediction: ClassVar[type] = Labelled
    view: ClassVar[str] = "classes"
    names: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        return PooledScores.needs

    def fit(self, rows: Iterable[Row]) -> None:
        names = set()
        for row in rows:
            self.check(row)
            names.add(row["label"])
        self.names = tuple(sorted(names))

    def check(self, row: Row) -> None:
        if not isinstance(row["label"], str) or not row["label"].strip():
            raise row.error("label", f"holds {row['label']!r}, which is no label.")

    def describe(self) -> str:
        return f"{len(self.names)} labels: {', '.join(self.names)}"

    def state(self) -> dict[str, Any]:
        return {"names": list(self.names)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.names = tuple(state["names"])

    def head(self) -> HeadSpec:
        return HeadSpec("", "stand-ins/stand-in-pooled", {"num_outputs": len(self.names)})

    def loss(self) -> LossSpec:
        return LossSpec("et-core/cross-entropy")

    def encode(
        self,
        rows: Sequence[Row],
        tokenizer: Tokenizer,
        *,
        max_length: int,
        accepts: frozenset[str],
        truncation: str = "right",
        processor: Processor | None = None,
    ) -> list[Example]:
        texts = [row["text"] for row in rows]
        ids = tokenizer.encode(texts, max_length=max_length, truncation=truncation).ids
        return [
            Example({"texts.0.ids": np.asarray(found, np.int32)}, self._targets(row), row.index)
            for row, found in zip(rows, ids, strict=True)
        ]

    def _targets(self, row: Row) -> dict[str, np.ndarray]:
        if "label" not in row:
            return {}
        self.check(row)
        if row["label"] not in self.names:
            raise row.error("label", f"holds {row['label']!r}. Known labels: {', '.join(self.names)}.")
        return {"label": np.asarray(self.names.index(row["label"]), np.int64)}

    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Any]:
        return [Labelled(self.names[index]) for index in outputs["logits"].argmax(-1)]

    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        if metrics:
            raise ConfigError(f"metrics: {metrics[0]} is not one of stand-in-labels, which has its own: hits.")
        return Hits()


class Hits(Evaluation):
    """The share of rows whose label is found."""

    def __init__(self) -> None:
        self._rows = self._hits = 0

    def update(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> None:
        targets = np.asarray([example.targets["label"] for example in examples])
        self._rows += len(targets)
        self._hits += int((outputs["logits"].argmax(-1) == targets).sum())

    def metrics(self) -> dict[str, float]:
        return {"hits": self._hits / self._rows if self._rows else math.nan}

    def figures(self, read: Any) -> list[Figure]:
        return []


class Logits(Distiller):
    """The mean squared distance of the student's logits from the teacher's, row by row."""

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        return {"logits": teacher.outputs["logits"]}

    def count(self, batch: Batch) -> Tensor:
        return torch.tensor(float(len(batch)))

    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        apart = student.outputs["logits"] - recorded["logits"]
        return Term(apart.square().mean(-1).sum(), self.count(batch))
