"""A plugin of one file that writes text: generation in evaluations and predictions, and answers in sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from apps_plugin import Answer, Plain
from torch import Tensor, nn

from et_core.hooks import Register, hookimpl
from et_core.interfaces import (
    Artifact,
    Backbone,
    Batch,
    Example,
    Features,
    Head,
    HeadSpec,
    Inputs,
    Model,
    Role,
    Row,
    RunModel,
    Text,
    Tokenizer,
)

ET_API = 1
START, END = 0, 1


@hookimpl
def et_register_backbones(register: Register) -> None:
    register("seam-writer", "writing_plugin:Writer", summary="Reads a bag of words and writes words")


@hookimpl
def et_register_apps(register: Register) -> None:
    register("seam-rewrite", "writing_plugin:Rewrite", summary="Text to text")
    register("seam-chain", "writing_plugin:Chain", summary="Each answer goes on from the one before")


class WordScores(Head):
    """A score for each word, by the backbone's own word vectors."""

    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        self.words = words

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": features.tokens @ self.words.weight.T}


class Writer(Backbone):
    accepts: ClassVar[frozenset[str]] = frozenset({"text", "decoder"})
    provides: ClassVar[frozenset[str]] = frozenset({"tokens"})
    tokenizer: ClassVar[str] = "seam-words"

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.hidden_size = 32
        self.words = nn.Embedding(vocab_size, self.hidden_size)
        self.decoder = nn.GRU(self.hidden_size, self.hidden_size, batch_first=True)

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Writer:
        return cls(tokenizer.vocab_size)

    def read(self, text: Text) -> Tensor:
        mask = text.mask.unsqueeze(-1)
        mean: Tensor = (self.words(text.ids) * mask).sum(1) / mask.sum(1)
        return mean.unsqueeze(0)

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        states, _ = self.decoder(self.words(inputs.decoder.ids), self.read(inputs.texts[0]))
        return Features(states, inputs.decoder.mask)

    def generate(self, inputs: Inputs, options: Mapping[str, Any]) -> Tensor:
        state = self.read(inputs.texts[0])
        last = torch.full((state.shape[1], 1), START)
        written = []
        for _ in range(options["max_length"]):
            out, state = self.decoder(self.words(last), state)
            last = (out @ self.words.weight.T).argmax(-1)
            written.append(last)
        return torch.cat(written, 1)

    def token_table(self) -> nn.Embedding:
        return self.words

    def native_head(self, task: str, **spec: Any) -> Head | None:
        return WordScores(self.words) if task == "text-to-text" else None

    def blocks(self) -> list[nn.Module]:
        return []

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {"model_type": "seam-writer"}


class Rewrite(Plain):
    """The source's number, written out that many times."""

    roles: ClassVar[Mapping[str, Role]] = {
        "source": Role(str, "what is read"),
        "answer": Role(str, "what is written", target=True),
    }

    def texts(self, row: Row) -> Iterable[str]:
        return (row[name] for name in ("source", "answer") if name in row)

    def head(self) -> HeadSpec:
        return HeadSpec("text-to-text", "seam-tokens", {"num_outputs": 1})

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, *, max_length: int, **rest: Any) -> list[Example]:
        return [self._example(row, tokenizer, max_length) for row in rows]

    def _example(self, row: Row, tokenizer: Tokenizer, max_length: int) -> Example:
        inputs = {"texts.0.ids": np.asarray(tokenizer.encode([row["source"]], max_length=max_length).ids[0], np.int32)}
        if "answer" not in row:
            return Example(inputs, {}, row.index)
        target = [*tokenizer.encode([row["answer"]], max_length=max_length).ids[0], END]
        inputs["decoder.ids"] = np.asarray([START, *target[:-1]], np.int32)
        return Example(inputs, {"label": np.asarray(target, np.int64)}, row.index)

    def outputs(self, model: Model, batch: Batch) -> Mapping[str, Tensor]:
        backbone: Any = model.backbone
        return {"ids": backbone.generate(batch.inputs, {"max_length": 5})}

    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Answer]:
        ended = [row[: row.index(END)] if END in row else row for row in outputs["ids"].tolist()]
        return [Answer(text) for text in self.tokenizer.decode(ended)]

    def truths(self, examples: Sequence[Example]) -> list[str]:
        return self.tokenizer.decode([example.targets["label"].tolist()[:-1] for example in examples])


class Chain(Rewrite):
    """The answer to a row goes before the source of the next one."""

    def predict(
        self, rows: Iterable[Row], encode: Callable[[Sequence[Row]], list[Example]], run: RunModel
    ) -> Iterator[Any]:
        before = "first"
        for row in rows:
            if examples := encode([row]):
                (answer,) = self.decode(run(examples), examples)
                yield Answer(f"{answer.prediction} after {before}")
                before = row["source"]
