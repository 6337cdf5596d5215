"""Backbones that break a promise in another way than the mutant of its check does."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from et_core.hooks import Register, hookimpl
from et_core.interfaces import Artifact, Features, Head, Inputs, Processor, Text, Tokenizer
from et_core.registry.files import import_file

ET_API = 1
Sound: Any = import_file(Path(__file__).with_name("mutants_backbone.py")).Sound


@hookimpl
def et_register_backbones(register: Register) -> None:
    for name in BRANCHES:
        register(f"branch-{name}", f"backbone_branches:BRANCHES[{name}]", summary=f"The backbone called {name}")


class Misspelt(Sound):
    provides: ClassVar[frozenset[str]] = frozenset({"token", "pooled"})


class Withholds(Sound):
    provides: ClassVar[frozenset[str]] = frozenset({"tokens", "pooled", "sums"})


class Half(Sound):
    def pool(self, states: Tensor, mask: Tensor) -> Tensor | None:
        return super().pool(states, mask).half()


class Changed(Sound):
    """Changes what ``Sound`` answers."""

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        return self.change(super().forward(inputs, want=want))

    def change(self, features: Features) -> Features:
        return features


class WholeMask(Changed):
    def change(self, features: Features) -> Features:
        return dataclasses.replace(features, mask=features.mask.long())


class FewLayers(Changed):
    def change(self, features: Features) -> Features:
        return dataclasses.replace(features, extra={name: value[1:] for name, value in features.extra.items()})


class RawMaps(Changed):
    def change(self, features: Features) -> Features:
        maps = {name: tuple(2 * x for x in value) for name, value in features.extra.items() if name == "attentions"}
        return dataclasses.replace(features, extra={**features.extra, **maps})


class FlatParts(Changed):
    def change(self, features: Features) -> Features:
        parts = features.extra.get("queries-keys-values", ())
        flat = {"queries-keys-values": tuple(tuple(x[:, 0] for x in triple) for triple in parts)} if parts else {}
        return dataclasses.replace(features, extra={**features.extra, **flat})


class Clamps(Sound):
    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        places = torch.arange(text.ids.shape[1]).clamp(max=self.max_length - 1)
        return self.words(text.ids) + self.segments(text.segments) + self.places(places)


class LeaksMarks(Sound):
    def pool(self, states: Tensor, mask: Tensor) -> Tensor | None:
        return super().pool(states, mask) + self.leak

    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        self.leak = 1e-6 * inputs.marks["mark"].sum(1, keepdim=True)
        return super().embed(text, inputs)


class NoProcessor(Sound):
    def processor(self) -> Processor | None:
        return None


class AsksForName(Sound):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        socket.getaddrinfo("example.org", 443)


class OutsideBlocks(Sound):
    def blocks(self) -> list[nn.Module]:
        return [*self.layers, nn.Linear(2, 2)]


class UncalledBlocks(Sound):
    def blocks(self) -> list[nn.Module]:
        return [layer.norm for layer in self.layers]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for layer in self.layers:
            layer.norm = nn.LayerNorm(2)


class SharedBlocks(Sound):
    def blocks(self) -> list[nn.Module]:
        return [self.layers, *self.layers]


class SmallTable(Sound):
    def token_table(self) -> nn.Embedding | None:
        return self.places


class SharedTable(Sound):
    """The row of one id is added to every token."""

    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        return super().embed(text, inputs) + self.words.weight[-1]


class ReadsUnknown(Sound):
    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        return super().embed(text, inputs) + self.words.weight[1]


class LosesConfig(Sound):
    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Any:
        if artifact is not None and "width" not in artifact.config:
            raise ValueError("config.json names no width")
        return super().build(options, tokenizer=tokenizer, artifact=artifact)


class OddConfig(Sound):
    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {**super().config(heads), "rates": {1, 2}}


class ForgetsScale(Sound):
    """Writes a scale into config.json and does not read it."""

    @dataclass
    class Options(Sound.Options):  # type: ignore[misc]
        scale: float = 1.0

    def __init__(self, tokenizer: Tokenizer, sizes: Mapping[str, int], options: Any) -> None:
        super().__init__(tokenizer, sizes, options)
        self.factor = options.scale

    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        return self.factor * super().embed(text, inputs)

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {**super().config(heads), "scale": self.factor}


BRANCHES: dict[str, Any] = {
    cls.__name__.lower(): cls for cls in list(globals().values()) if isinstance(cls, type) and issubclass(cls, Sound)
}
