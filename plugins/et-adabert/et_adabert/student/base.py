from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from et_adabert.student.inheritance import inherited_embeddings
from et_adabert.student.network import Embeddings, LayerPooling, PairAlignment
from et_core.errors import ConfigError
from et_core.interfaces import (
    Artifact,
    Backbone,
    Features,
    Head,
    Inputs,
    Model,
    Text,
    Tokenizer,
    check_stored,
    load_weights,
)

Size = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]

_FREE_WITH_WEIGHTS = frozenset({"dropout"})


@dataclass(frozen=True)
class Bottom:
    """The inputs of the first cell and the embeddings' own *states*, all [B, H, L].

    *mask* [B, 1, L] is 1 on real tokens; *padding* is the mask where there is padding, and None where there is none.
    """

    first: Tensor
    second: Tensor
    states: Tensor
    mask: Tensor
    padding: Tensor | None


@dataclass(frozen=True)
class Layers:
    """The states [B, H, L] after each cell, the embeddings first, and which tokens are real [B, 1, L]."""

    states: list[Tensor]
    mask: Tensor


class CellBackbone(Backbone):
    """Stacked cells over word embeddings; what a derived network and the network over all choices have in common.

    A pair's texts are the two inputs of the first cell; a single text is both.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"texts"})
    provides: ClassVar[frozenset[str]] = frozenset({"tokens", "pooled", "layers"})
    model_type: ClassVar[str]
    """The name that it is registered under."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "embedding_size": 128,
        "hidden_size": 128,
        "max_positions": 512,
        "dropout": 0.1,
        "embeddings": "teacher",
        "pairs": "aligned",
    }
    """The options of fresh weights that a user leaves out."""

    @dataclass
    class Options:
        """Sizes and the rate of dropout; None keeps the checkpoint's value, or the default of fresh weights.

        *embedding_size* is the width of a word's vector, *hidden_size* that of the cells. Fresh *embeddings* begin as
        those of the teacher, reduced to their principal components, or "random". *pairs* says how two texts meet:
        "aligned" compares each token with those of the other text, "plain" is the paper's, by place alone.
        """

        embedding_size: Size | None = None
        hidden_size: Size | None = None
        max_positions: Size | None = None
        dropout: Rate | None = None
        embeddings: Literal["teacher", "random"] | None = None
        pairs: Literal["aligned", "plain"] | None = None

    def __init__(self, sizes: Any, *, vocab_size: int, pad_id: int, depth: int) -> None:
        """*sizes* are options without a None where ``defaults`` has a value; *depth* is the most cells there are."""
        super().__init__()
        self.sizes = sizes
        self.hidden_size = sizes.hidden_size
        self.max_length = sizes.max_positions
        self._pad_id = pad_id
        self.embeddings = Embeddings(
            vocab_size=vocab_size,
            embedding_size=sizes.embedding_size,
            hidden_size=sizes.hidden_size,
            max_positions=sizes.max_positions,
            pad_id=pad_id,
            dropout=sizes.dropout,
        )
        self.alignment: PairAlignment | None = PairAlignment(sizes.hidden_size) if sizes.pairs == "aligned" else None
        self.pooling: LayerPooling | None = LayerPooling(depth + 1, sizes.hidden_size)

    @abstractmethod
    def cells(self, first: Tensor, second: Tensor, mask: Tensor | None) -> list[Tensor]:
        """The outputs [B, H, L] of the cells, for the two inputs of the first one; *mask* is None without padding."""

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Self:
        stored = dict(artifact.config) if artifact else {}
        if artifact and artifact.weights:
            check_stored(options, artifact, free=_FREE_WITH_WEIGHTS)
        known = {**cls.defaults, **stored}
        given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        sizes = type(options)(**{name: known.get(name) if value is None else value for name, value in given.items()})
        vocab_size = stored.get("vocab_size", tokenizer.vocab_size)
        if tokenizer.vocab_size > vocab_size:
            raise ConfigError(
                f"the tokenizer has {tokenizer.vocab_size} pieces, the model {vocab_size} embeddings: they do not "
                "belong together. Leave out model.tokenizer."
            )
        backbone = cls.of(sizes, vocab_size=vocab_size, pad_id=tokenizer.pad_id)
        if artifact and artifact.weights:
            load_weights(backbone, artifact)
        return backbone

    @classmethod
    @abstractmethod
    def of(cls, sizes: Any, *, vocab_size: int, pad_id: int) -> Self:
        """The network of complete options."""

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        layers = self.layers(inputs)
        return self.features(layers, want=want)

    def layers(self, inputs: Inputs) -> Layers:
        """The states after each cell of *inputs*, one text or two."""
        bottom = self.bottom(inputs)
        return Layers([bottom.states, *self.cells(bottom.first, bottom.second, bottom.padding)], bottom.mask)

    def bottom(self, inputs: Inputs) -> Bottom:
        """What the first cell begins with."""
        texts = [self._embed(text) for text in inputs.texts]
        if len(texts) == 1:
            ((first, mask),) = texts
            second = states = first
        else:
            (first, one), (second, other) = texts
            if self.alignment is not None:
                first, second = self.alignment(first, second, (one, other))
            length = max(first.shape[-1], second.shape[-1])
            first, one, second, other = (_lengthened(part, length) for part in (first, one, second, other))
            mask = torch.maximum(one, other)
            states = first + second
        # On a GPU the question whether there is padding would have to be waited for.
        padded = mask.device.type != "cpu" or not bool(mask.all())
        return Bottom(first, second, states, mask, mask if padded else None)

    def features(self, layers: Layers, *, want: frozenset[str]) -> Features:
        """What a head sees of *layers*."""
        extra = {"layers": tuple(states.transpose(1, 2) for states in layers.states)} if "layers" in want else {}
        pooled = None if self.pooling is None else self.pooling(layers.states, layers.mask)
        mask = layers.mask[:, 0] > 0
        return Features(layers.states[-1].transpose(1, 2), mask, pooled, extra)

    def token_table(self) -> nn.Embedding:
        return self.embeddings.words

    def inherit(self, teacher: Model, tokenizer: Tokenizer) -> None:
        if self.sizes.embeddings == "teacher":
            found = inherited_embeddings(teacher, tokenizer, size=self.sizes.embedding_size)
            with torch.no_grad():
                self.embeddings.words.weight[: len(found)].copy_(found)
                self.embeddings.words.weight[self._pad_id].zero_()

    def restrict(self, needs: frozenset[str]) -> None:
        if "pairs" not in needs:
            self.alignment = None
        if "pooled" not in needs:
            self.pooling = None

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {
            "model_type": self.model_type,
            "vocab_size": self.embeddings.words.num_embeddings,
            "pad_token_id": self._pad_id,
            **dataclasses.asdict(self.sizes),
            "pairs": "plain" if self.alignment is None else "aligned",
        }

    def _embed(self, text: Text) -> tuple[Tensor, Tensor]:
        """The states [B, H, L] of *text*, 0 at padding, and its mask [B, 1, L] of zeros and ones."""
        states = self.embeddings(text.ids.masked_fill(~text.mask, self._pad_id)).transpose(1, 2)
        mask = text.mask.unsqueeze(1).to(states.dtype)
        return states * mask, mask


def _lengthened(part: Tensor, length: int) -> Tensor:
    return functional.pad(part, (0, length - part.shape[-1]))
