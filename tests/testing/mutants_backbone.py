"""A sound backbone, and for every check of backbones one that is broken in just that way."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from et_core.hooks import Register, hookimpl
from et_core.interfaces import Artifact, Backbone, Features, Head, Inputs, Processor, Text, Tokenizer
from et_core.testing import BackboneConformance

ET_API = 1


@hookimpl
def et_register_backbones(register: Register) -> None:
    for name in ("sound", *BROKEN):
        register(f"{name}-backbone", f"mutants_backbone:BACKBONES[{name}]", summary=f"The backbone called {name}")


class Layer(nn.Module):
    """One head of attention, added to what comes in."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.parts, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.scale = width**-0.5

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        queries, keys, values = self.parts(states).unsqueeze(1).chunk(3, -1)
        scores = queries @ keys.mT * self.scale
        maps = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min).softmax(-1)
        states = states + self.dropout(self.mix((maps @ values).squeeze(1)).tanh())
        return states, maps, (queries, keys, values)


class Sound(Backbone):
    """Words at learned positions and the mean of a picture's patches, through layers of attention."""

    accepts: ClassVar[frozenset[str]] = frozenset({"text", "marks", "image"})
    provides: ClassVar[frozenset[str]] = frozenset({"tokens", "pooled", "layers", "attentions", "queries-keys-values"})

    @dataclass
    class Options:
        hidden_size: int | None = None
        num_layers: int | None = None
        max_positions: int | None = None
        dropout: float = 0.1
        marks: dict[str, int] = field(default_factory=dict)

    def __init__(self, tokenizer: Tokenizer, sizes: Mapping[str, int], options: Any) -> None:
        super().__init__()
        self.sizes, self.pad_id = dict(sizes), tokenizer.pad_id
        self.hidden_size, self.max_length = sizes["hidden_size"], sizes["max_positions"]
        self.words = nn.Embedding(tokenizer.vocab_size, self.hidden_size, padding_idx=tokenizer.pad_id)
        self.segments = nn.Embedding(2, self.hidden_size)
        self.places = nn.Embedding(self.max_length, self.hidden_size)
        self.patches = nn.Linear(3, self.hidden_size)
        self.marks = nn.ModuleDict({name: nn.Embedding(n, self.hidden_size) for name, n in options.marks.items()})
        self.layers = nn.ModuleList(Layer(self.hidden_size, options.dropout) for _ in range(sizes["num_layers"]))
        self.pooler: nn.Module | None = nn.Linear(self.hidden_size, self.hidden_size)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Sound:
        given = artifact.config if artifact else {}
        fresh = {"hidden_size": 16, "num_layers": 2, "max_positions": 64}
        backbone = cls(tokenizer, {n: getattr(options, n) or given.get(n, size) for n, size in fresh.items()}, options)
        for file in artifact.weights if artifact else ():
            stored = load_file(file)
            backbone.load_state_dict({name.removeprefix("backbone."): value for name, value in stored.items()})
        return backbone

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        (text,) = inputs.texts
        if self.training:
            self.seen += 1
        states = self.embed(text, inputs)
        layers, attentions, parts = [states], [], []
        for layer in self.layers:
            states, maps, triple = layer(states, text.mask)
            layers, attentions, parts = [*layers, states], [*attentions, maps], [*parts, triple]
        found = {"layers": tuple(layers), "attentions": tuple(attentions), "queries-keys-values": tuple(parts)}
        extra = {name: value for name, value in found.items() if name in want}
        return Features(states, text.mask, self.pool(states, text.mask), extra)

    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        states = self.look_up(text.ids) + self.segments(text.segments) + self.places.weight[: text.ids.shape[1]]
        for name, values in inputs.marks.items():
            states = states + self.marks[name](values)
        return states + self.patches(inputs.image).mean(1, keepdim=True)

    def look_up(self, ids: Tensor) -> Tensor:
        return self.words(ids)

    def pool(self, states: Tensor, mask: Tensor) -> Tensor | None:
        mean = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return None if self.pooler is None else self.pooler(mean).tanh()

    def restrict(self, needs: frozenset[str]) -> None:
        if "pooled" not in needs:
            self.pooler = None

    def blocks(self) -> list[nn.Module]:
        return list(self.layers)

    def token_table(self) -> nn.Embedding | None:
        return self.words

    def processor(self) -> Processor | None:
        return lambda images: np.stack([colours(image) for image in images])

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {"model_type": self.family.rpartition("/")[2], **self.sizes}


def colours(image: np.ndarray) -> np.ndarray:
    """The mean colour of each quarter [4, 3], up to 1."""
    halves = [half for part in np.array_split(image / 255, 2) for half in np.array_split(part, 2, axis=1)]
    return np.stack([half.mean((0, 1)) for half in halves]).astype(np.float32)


class Asks(Sound):
    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Sound:
        with contextlib.suppress(OSError):
            socket.create_connection(("example.org", 443))
        return super().build(options, tokenizer=tokenizer, artifact=artifact)


class TakesAnything(Sound):
    @dataclass
    class Options(Sound.Options):
        rates: Any = 0.1


class NamesAnother(Sound):
    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {**super().config(heads), "model_type": "mine"}


class Forgets(Sound):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.shift = torch.randn(self.hidden_size, generator=torch.Generator().manual_seed(id(self)))

    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        return super().embed(text, inputs) + self.shift


class IgnoresWeights(Sound):
    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Sound:
        bare = artifact and Artifact(artifact.ref, artifact.family, artifact.config)
        return super().build(options, tokenizer=tokenizer, artifact=bare)


class ProcessesTogether(Sound):
    def processor(self) -> Processor | None:
        return lambda images: (found := np.stack([colours(image) for image in images])) - found.mean(0)


class Squeezes(Sound):
    def pool(self, states: Tensor, mask: Tensor) -> Tensor | None:
        pooled = super().pool(states, mask)
        return None if pooled is None else pooled.squeeze()


class SaysDouble(Sound):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.hidden_size *= 2


class GivesAll(Sound):
    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        return super().forward(inputs, want=want | {"layers"})


class ChangesWhenWatched(Sound):
    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        for layer in self.layers:
            layer.scale = 1.0 if "attentions" in want else self.hidden_size**-0.5
        return super().forward(inputs, want=want)


class CountsPadding(Sound):
    def pool(self, states: Tensor, mask: Tensor) -> Tensor | None:
        return None if self.pooler is None else self.pooler((states * mask.unsqueeze(-1)).mean(1)).tanh()


class MasksById(Sound):
    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        (text,) = inputs.texts
        real = Text(text.ids, text.ids != self.pad_id, text.segments)
        found = super().forward(Inputs((real,), inputs.marks, inputs.image), want=want)
        return Features(found.tokens, text.mask, found.pooled, found.extra)


class LooksAtOthers(Sound):
    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        states = super().embed(text, inputs)
        return states - states.mean(0)


class GoesByPlace(Sound):
    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        return super().embed(text, inputs) + 1e-6 * torch.arange(len(text.ids))[:, None, None]


class AlwaysDrops(Sound):
    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        return functional.dropout(super().embed(text, inputs), 0.1)


class WritesIntoInputs(Sound):
    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        text.ids[~text.mask] = 1
        return super().embed(text, inputs)


class RestrictsTooMuch(Sound):
    def restrict(self, needs: frozenset[str]) -> None:
        super().restrict(needs)
        self.layers = self.layers if "pooled" in needs else self.layers[:-1]


class PromisesLength(Sound):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.max_length = self.sizes["max_positions"] + 5


class DividesByLittle(Sound):
    def pool(self, states: Tensor, mask: Tensor) -> Tensor | None:
        pooled = super().pool(states, mask)
        return None if pooled is None else pooled * 0.001 / (torch.full_like(pooled, 1.001) - 1)


class ScalesOtherwise(Sound):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for layer in self.layers:
            layer.scale = 1.1 * self.hidden_size**-0.5


class DrawsElsewhere(Sound):
    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        noise = torch.from_numpy(np.random.default_rng().normal(size=self.hidden_size)).float()
        return super().embed(text, inputs) + (noise if self.training else 0)


class HasUnused(Sound):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unused = nn.Linear(2, 2)


class AlwaysCounts(Sound):
    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        self.seen += 1
        return super().embed(text, inputs)


class DecaysItself(Sound):
    def embed(self, text: Text, inputs: Inputs) -> Tensor:
        if self.training:
            self.layers[0].mix.weight.data.mul_(0.99)
        return super().embed(text, inputs)


class CountsFromTheTop(Sound):
    def blocks(self) -> list[nn.Module]:
        return list(self.layers)[::-1]


class NamesAnotherTable(Sound):
    def token_table(self) -> nn.Embedding | None:
        self.spare = nn.Embedding(self.words.num_embeddings, 2)
        return self.spare


class ReadsTheWeight(Sound):
    def look_up(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self.words.weight)


class SOUND(BackboneConformance):
    name = "sound-backbone"
    config: ClassVar[Mapping[str, Any]] = {"hidden_size": 16, "num_layers": 2, "max_positions": 40}

    def reference(self, backbone: Backbone) -> Callable[[Inputs], Mapping[str, Tensor]]:
        stored = load_file(self.saved(backbone) / "model.safetensors")
        weights = {name.removeprefix("backbone."): value for name, value in stored.items()}
        return lambda inputs: plainly(weights, inputs)


def plainly(weights: Mapping[str, Tensor], inputs: Inputs) -> dict[str, Tensor]:
    """What ``Sound`` computes, row by row and without padding."""
    (text,), image = inputs.texts, inputs.image
    tokens = torch.zeros(*text.ids.shape, weights["places.weight"].shape[1])
    pooled = []
    for row, length in enumerate(text.mask.sum(1)):
        states = weights["words.weight"][text.ids[row, :length]] + weights["places.weight"][:length]
        states = states + weights["segments.weight"][text.segments[row, :length]]
        states = states + weights["marks.mark.weight"][inputs.marks["mark"][row, :length]]
        states = states + image[row].mean(0) @ weights["patches.weight"].T + weights["patches.bias"]
        for layer in ("layers.0", "layers.1"):
            parts = states @ weights[f"{layer}.parts.weight"].T + weights[f"{layer}.parts.bias"]
            queries, keys, values = parts.chunk(3, -1)
            mixed = (queries @ keys.T / math.sqrt(states.shape[1])).softmax(-1) @ values
            states = states + (mixed @ weights[f"{layer}.mix.weight"].T + weights[f"{layer}.mix.bias"]).tanh()
        tokens[row, :length] = states
        pooled.append((states.mean(0) @ weights["pooler.weight"].T + weights["pooler.bias"]).tanh())
    return {"tokens": tokens, "pooled": torch.stack(pooled)}


def broken(cls: type[Sound], **options: Any) -> type[BackboneConformance]:
    name = next(name for name, found in BROKEN.items() if found is cls)
    return type("Broken", (SOUND,), {"name": f"{name}-backbone", "config": {**SOUND.config, **options}})


BROKEN: dict[str, type[Sound]] = {
    cls.__name__.lower(): cls for cls in list(globals().values()) if isinstance(cls, type) and Sound in cls.__bases__
}
BACKBONES: dict[str, type[Sound]] = {"sound": Sound, **BROKEN}

MUTANTS: dict[str, tuple[type[BackboneConformance], str]] = {
    "it_builds_offline": (broken(Asks), "building it calls create_connection(('example.org', 443))."),
    "its_config_survives_files": (broken(TakesAnything, rates=(0.1, 0.2)), "after JSON the options are"),
    "wrong_options_are_refused": (broken(TakesAnything), "the option rates takes anything"),
    "its_config_names_the_family": (broken(NamesAnother), "has the model_type 'mine', not 'namesanother-backbone'"),
    "it_loads_in_a_new_process": (broken(Forgets), "saving, and loading in a new process, moves tokens of row 0 by"),
    "training_can_start_from_it": (broken(IgnoresWeights), "starting from a saved model moves backbone.words.weight"),
    "its_processor_makes_images_fit": (broken(ProcessesTogether), "gives image 0 otherwise alone than among others"),
    "outputs_have_their_shapes": (broken(Squeezes), "pooled is [16] of torch.float32, not [1, H]"),
    "hidden_size_is_the_width": (broken(SaysDouble), "hidden_size is 32, and tokens is 16 wide"),
    "extras_are_as_features_says": (broken(GivesAll), "where nothing is wanted, Features.extra holds layers"),
    "wanting_more_changes_nothing": (broken(ChangesWhenWatched), "wanting extras moves tokens of row 0"),
    "padding_changes_nothing": (broken(CountsPadding), "padding texts.0 by 5 tokens moves pooled of row 0 by"),
    "garbage_under_the_mask_changes_nothing": (broken(MasksById), "garbage under the mask moves tokens of row 0"),
    "rows_do_not_see_each_other": (broken(LooksAtOthers), "a batch of 3 in place of 3 batches of 1 moves tokens"),
    "the_order_of_rows_does_not_matter": (broken(GoesByPlace), "another order of rows moves tokens of row 0"),
    "evaluation_is_deterministic": (broken(AlwaysDrops), "a second run in evaluation moves tokens"),
    "inputs_are_left_as_they_were": (broken(WritesIntoInputs), "forward moves texts.0.ids by"),
    "restricting_keeps_what_is_needed": (broken(RestrictsTooMuch), "restrict({tokens}) moves tokens of row 0"),
    "max_length_is_true": (broken(PromisesLength), "max_length is 45, but 45 tokens raise"),
    "bf16_is_finite": (broken(DividesByLittle), "bf16 makes 100% of pooled nan or infinite"),
    "it_equals_its_reference": (broken(ScalesOtherwise), "in place of the reference moves tokens of row 0"),
    "training_repeats_with_a_seed": (broken(DrawsElsewhere), "training step with the same seed moves tokens of row 0"),
    "every_parameter_gets_a_gradient": (broken(HasUnused), "parameters get no gradient: unused.weight, unused.bias"),
    "frozen_stays_frozen": (broken(AlwaysCounts), "two steps with the backbone frozen moves seen by 2.0e+00"),
    "a_frozen_block_stays_frozen": (broken(DecaysItself), "a step with blocks.0 frozen moves mix.weight"),
    "blocks_are_its_layers_lowest_first": (broken(CountsFromTheTop), "calls blocks() in the order 1, 0"),
    "token_table_is_looked_up_with_ids": (broken(NamesAnotherTable), "changes nothing of a text that reads them"),
    "token_table_may_be_replaced": (broken(ReadsTheWeight), "rows that are read, forward raises"),
}
