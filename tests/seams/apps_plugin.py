"""A plugin of one file with apps unlike classification: windows, marks, pictures, masking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch
from seam_plugin import Bag
from torch import Tensor, nn

from et_core.hooks import Register, hookimpl
from et_core.interfaces import (
    App,
    Artifact,
    Backbone,
    Batch,
    Evaluation,
    Example,
    Features,
    Figure,
    Head,
    HeadSpec,
    Inputs,
    Loss,
    LossSpec,
    Model,
    Objective,
    Processor,
    Role,
    Row,
    Step,
    Term,
    Text,
    Tokenizer,
)

ET_API = 1
MASK = 1
WINDOW = 4


@hookimpl
def et_register_backbones(register: Register) -> None:
    register("seam-marked", "apps_plugin:Marked", summary="A bag of words with marks")
    register("seam-look", "apps_plugin:Look", summary="A picture alone")


@hookimpl
def et_register_heads(register: Register) -> None:
    register("seam-tokens", "apps_plugin:TokenLinear", summary="A linear layer on each token")


@hookimpl
def et_register_apps(register: Register) -> None:
    register("seam-tags", "apps_plugin:Tags", summary="A tag for each word")
    register("seam-shades", "apps_plugin:Shades", summary="Bright or dark")


@hookimpl
def et_register_objectives(register: Register) -> None:
    register("seam-masked", "apps_plugin:Masked", summary="Guess words that are hidden at random")


class TokenLinear(Head):
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def __init__(self, *, hidden_size: int, num_outputs: int, **spec: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, num_outputs)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.linear(features.tokens)}


class Marked(Bag):
    accepts: ClassVar[frozenset[str]] = frozenset({"text", "marks"})

    @dataclass
    class Options:
        hidden_size: int = 16
        marks: dict[str, int] = field(default_factory=dict)

    def __init__(self, vocab_size: int, *, hidden_size: int, marks: Mapping[str, int]) -> None:
        super().__init__(vocab_size, hidden_size=hidden_size)
        self.marks = nn.ModuleDict({name: nn.Embedding(size, hidden_size) for name, size in marks.items()})

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Marked:
        return cls(tokenizer.vocab_size, hidden_size=options.hidden_size, marks=options.marks)

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        (text,) = inputs.texts
        tokens, pooled = self.read(text)
        for name, values in inputs.marks.items():
            tokens = tokens + self.marks[name](values)
        return Features(tokens, text.mask, pooled)


class Look(Backbone):
    accepts: ClassVar[frozenset[str]] = frozenset({"image"})
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})
    tokenizer: ClassVar[str] = "seam-words"

    @dataclass
    class Options:
        image_size: int = 4

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.hidden_size = 8
        self.image_size = image_size
        self.look = nn.Linear(image_size * image_size, self.hidden_size)

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Look:
        return cls(options.image_size)

    def processor(self) -> Processor:
        def process(images: Sequence[Any]) -> np.ndarray:
            size = self.image_size
            return np.stack([np.resize(np.asarray(image, np.float32), (1, size, size)) for image in images])

        return process

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        return Features(pooled=self.look(inputs.image.flatten(1)).tanh())

    def blocks(self) -> list[nn.Module]:
        return []

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {"model_type": "seam-look"}


@dataclass(frozen=True)
class Answer:
    prediction: Any


class Plain(App):
    """What the apps here share: they have no settings, and learn nothing from rows but their names."""

    prediction: ClassVar[type] = Answer
    view: ClassVar[str] = "text"
    names: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"tokens"})

    def fit(self, rows: Iterable[Row]) -> None:
        return

    def describe(self) -> str:
        return "an answer"

    def state(self) -> dict[str, Any]:
        return {"names": list(self.names)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.names = tuple(state["names"])

    def loss(self) -> LossSpec:
        return LossSpec("et-core/cross-entropy")

    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        return Hits(self)


class Hits(Evaluation):
    """The share of rows that ``decode`` answers as the data does, and how many rows it was given in pieces."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._seen: list[int] = []
        self._hits = 0

    def update(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> None:
        self._seen += [row for row, _ in groupby(example.row for example in examples)]
        answers = self._app.decode(outputs, examples)
        truths = self._app.truths(examples)
        self._hits += sum(answer.prediction == truth for answer, truth in zip(answers, truths, strict=True))

    def metrics(self) -> dict[str, float]:
        share = self._hits / len(self._seen) if self._seen else float("nan")
        return {"hits": share, "cut": float(len(self._seen) - len(set(self._seen)))}

    def figures(self, read: Any) -> list[Figure]:
        return []


class Tags(Plain):
    """Even or odd, by the mark of each word; long rows are read in windows of four words."""

    roles: ClassVar[Mapping[str, Role]] = {
        "words": Role(list, "the words"),
        "tags": Role(list, "a tag for each", target=True),
    }

    def __init__(self, *, marked: bool = True) -> None:
        self._marked = marked

    @property
    def marks(self) -> Mapping[str, int]:
        return {"place": 2} if self._marked else {}

    def texts(self, row: Row) -> Iterable[str]:
        return row["words"]

    def fit(self, rows: Iterable[Row]) -> None:
        self.names = tuple(sorted({tag for row in rows for tag in row["tags"]}))

    def head(self) -> HeadSpec:
        return HeadSpec("", "seam-tokens", {"num_outputs": len(self.names)})

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, **rest: Any) -> list[Example]:
        return [self._window(row, tokenizer, start) for row in rows for start in range(0, len(row["words"]), WINDOW)]

    def _window(self, row: Row, tokenizer: Tokenizer, start: int) -> Example:
        part = slice(start, start + WINDOW)
        ids = [tokenizer.encode([word], max_length=1).ids[0][0] for word in row["words"][part]]
        inputs = {"texts.0.ids": np.asarray(ids, np.int32)}
        if self._marked:
            inputs["marks.place"] = np.asarray([int(word[1:]) % 2 for word in row["words"][part]], np.int64)
        labels = [self.names.index(tag) for tag in row.get("tags", [])[part]]
        return Example(inputs, {"label": np.asarray(labels, np.int64)} if "tags" in row else {}, row.index)

    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Answer]:
        best = outputs["logits"].argmax(-1)
        tags = [[self.names[i] for i in row[: example.length]] for row, example in zip(best, examples, strict=True)]
        return [Answer(merged) for merged in _merge(examples, tags)]

    def truths(self, examples: Sequence[Example]) -> list[list[str]]:
        return _merge(examples, [[self.names[i] for i in example.targets["label"]] for example in examples])


def _merge(examples: Sequence[Example], parts: Sequence[list[str]]) -> list[list[str]]:
    pairs = groupby(zip(examples, parts, strict=True), key=lambda pair: pair[0].row)
    return [[tag for _, part in windows for tag in part] for _, windows in pairs]


class Shades(Plain):
    """Whether the numbers of a column are high or low, as a picture of one pixel each."""

    roles: ClassVar[Mapping[str, Role]] = {
        "pixels": Role(list, "the picture"),
        "shade": Role(str, "bright or dark", target=True),
    }
    names = ("bright", "dark")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"pooled"})

    def texts(self, row: Row) -> Iterable[str]:
        return self.names

    def head(self) -> HeadSpec:
        return HeadSpec("", "et-appzoo/pooled-linear", {"num_outputs": 2})

    def encode(
        self, rows: Sequence[Row], tokenizer: Tokenizer, *, processor: Processor | None = None, **rest: Any
    ) -> list[Example]:
        assert processor is not None
        pictures = processor([row["pixels"] for row in rows])
        return [
            Example(
                {"image": picture},
                {"label": np.asarray(self.names.index(row["shade"]))} if "shade" in row else {},
                row.index,
            )
            for row, picture in zip(rows, pictures, strict=True)
        ]

    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Answer]:
        return [Answer(self.names[index]) for index in outputs["logits"].argmax(-1)]

    def truths(self, examples: Sequence[Example]) -> list[str]:
        return [self.names[int(example.targets["label"])] for example in examples]


class Masked(Objective):
    """Hides words at random, other ones in every step, and scores these alone."""

    new_tokens = True

    def __init__(self, *, model: Model, losses: Mapping[str, Loss], **rest: Any) -> None:
        super().__init__()
        self.model = model
        self.losses = nn.ModuleDict(losses)
        self.hidden: list[int] = []

    def draw(self, batch: Batch, step: Step) -> Batch:
        (text,) = batch.inputs.texts
        chosen = (torch.rand(text.ids.shape) < 0.4) & text.mask
        hidden = Text(text.ids.masked_fill(chosen, MASK), text.mask, text.segments)
        labels = batch.targets["label"].masked_fill(~chosen, -100)
        self.hidden.append(int(chosen.sum()))
        return Batch(Inputs((hidden,), batch.inputs.marks), {"label": labels}, batch.rows, batch.task)

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        loss: Any = self.losses[batch.task]
        return {"masked": loss.count(batch.targets)}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        assert step.index < step.total
        assert int((batch.targets["label"] != -100).sum()) == self.hidden.pop(0)
        return {"masked": Term(*self.losses[batch.task](self.model(batch), batch.targets))}

    def result(self) -> Model:
        return self.model
