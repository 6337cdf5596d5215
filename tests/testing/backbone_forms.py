"""Sound backbones of other forms of input: a decoder's side, two texts or one, pictures alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from et_core.hooks import Register, hookimpl
from et_core.interfaces import Artifact, Backbone, Features, Head, Inputs, Processor, Text, Tokenizer

ET_API = 1
WIDTH = 12


@hookimpl
def et_register_backbones(register: Register) -> None:
    register("form-decoder", "backbone_forms:Translator", summary="A decoder that reads the mean of a text")
    register("form-either", "backbone_forms:Either", summary="One text or two, each as the mean of its words")
    register("form-leaks", "backbone_forms:Leaks", summary="A decoder whose padding is read")
    register("form-second", "backbone_forms:SecondUnmasked", summary="Two texts, the second with its padding")
    register("form-picture", "backbone_forms:Picture", summary="Pictures by their mean colour")


class Form(Backbone):
    @dataclass
    class Options:
        pass

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.hidden_size = WIDTH
        self.words = nn.Embedding(vocab_size, WIDTH)
        self.pooler: nn.Module = nn.Linear(WIDTH, WIDTH)

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Form:
        return cls(tokenizer.vocab_size)

    def blocks(self) -> list[nn.Module]:
        return []

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {"model_type": self.family.rpartition("/")[2]}

    def mean(self, text: Text) -> Tensor:
        mask = text.mask.unsqueeze(-1)
        return (self.words(text.ids) * mask).sum(1) / mask.sum(1)


class Translator(Form):
    """Tokens are those of the decoder, each of which sees itself and the text."""

    accepts: ClassVar[frozenset[str]] = frozenset({"text", "decoder"})
    provides: ClassVar[frozenset[str]] = frozenset({"tokens"})

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        read = self.pooler(self.mean(inputs.texts[0]))
        return Features((self.words(inputs.decoder.ids) + read[:, None]).tanh(), inputs.decoder.mask)

    def token_table(self) -> nn.Embedding:
        return self.words


class Either(Form):
    accepts: ClassVar[frozenset[str]] = frozenset({"text", "texts"})
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        first, last = self.mean(inputs.texts[0]), self.mean(inputs.texts[-1])
        return Features(pooled=self.pooler(first * last + first))


class Picture(Form):
    accepts: ClassVar[frozenset[str]] = frozenset({"image"})
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.words = nn.Linear(3, WIDTH)

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        return Features(pooled=self.pooler(self.words(inputs.image).tanh()))

    def processor(self) -> Processor | None:
        return lambda images: np.stack([image.mean((0, 1)) / 255 for image in images]).astype(np.float32)


class Leaks(Translator):
    """Its text is masked, and its decoder is not."""

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        features = super().forward(inputs, want=want)
        return Features(features.tokens + torch.flip(features.tokens, (1,)), features.mask)


class SecondUnmasked(Either):
    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        text = inputs.texts[-1]
        whole = Text(text.ids, torch.ones_like(text.mask))
        return super().forward(Inputs((inputs.texts[0], whole) if len(inputs.texts) > 1 else inputs.texts))
