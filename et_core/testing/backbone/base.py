"""How a suite comes to a backbone, its tokenizer and inputs for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from et_core.interfaces import Artifact, Backbone, Features, Inputs, Tokenizer, build_backbone
from et_core.registry import registry
from et_core.sources import resolve
from et_core.testing.backbone.inputs import InputMaker, input_makers
from et_core.testing.suite import CheckFailed, Conformance

EXTRAS = frozenset({"layers", "attentions", "queries-keys-values"})

_CORPUS = (
    "a small river runs past the old mill",
    "the mill has not been turning for many years",
    "who reads this book will like the other one too",
    "two dogs and a cat sleep in front of the door",
    "it was cold, and still they went out to see the stars",
    "good food, slow service, and a bill that surprised us",
    "the train leaves at nine from the second platform",
    "un café s'il vous plaît, et deux verres d'eau",
    "der alte Mann ging über die Brücke nach Hause",
    "今天天气很好",
    "我们去看电影吧",
)
_VOCABULARY = 400
_SMALL = {
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 4,
    "intermediate_size": 48,
    "embedding_size": 24,
    "max_positions": 64,
}


class BackboneSuite(Conformance):
    """What a suite of a backbone may set, and how its checks come to what they check."""

    kind: ClassVar[str] = "backbones"

    config: ClassVar[Mapping[str, Any]] = {}
    """The backbone's options. Without any, the usual sizes (num_layers, hidden_size, ...) are made small."""

    tokenizer: str = ""
    """The reference whose tokenizer is used, such as "NAME@zoo"; empty: one is fitted on some sentences."""

    supports_bf16: bool = True
    """Whether it can be computed under bf16 autocast."""

    own_extras: frozenset[str] = frozenset()
    """Entries of ``Features.extra`` that it provides besides the usual, for a head of its own family."""

    loads_weights: bool = True
    """Whether ``build`` takes the weights of an artifact, so that training can start from a saved model."""

    def reference(self, backbone: Backbone) -> Callable[[Inputs], Features | Mapping[str, Tensor]]:
        """Another implementation with the weights of *backbone*: gives "tokens", "pooled" or both for the same inputs.

        ``self.saved(backbone)`` is a folder with the files that a run would write of it.
        """
        raise NotImplementedError

    def images(self, count: int) -> Sequence[Any]:
        """Pictures to give to the backbone's processor, each of another size."""
        generator = np.random.default_rng(0)
        return [generator.integers(0, 256, (40 + 8 * i, 56 + 4 * i, 3), dtype=np.uint8) for i in range(count)]

    @classmethod
    def component(cls) -> type[Backbone]:
        found: type[Backbone] = registry(cls.kind).get(cls.name)
        return found

    @classmethod
    def options(cls) -> dict[str, Any]:
        """The options that the checks build it with: the suite's, and room for a mark where it accepts them."""
        known = getattr(cls.component().Options, "__dataclass_fields__", {})
        options = dict(cls.config) or {name: size for name, size in _SMALL.items() if name in known}
        if "marks" in cls.component().accepts:
            options.setdefault("marks", {"mark": 3})
        return options

    @classmethod
    def its_tokenizer(cls) -> Tokenizer:
        """The tokenizer of the family, loaded or fitted once."""
        return cls.shared("tokenizer", cls._make_tokenizer)

    @classmethod
    def _make_tokenizer(cls) -> Tokenizer:
        found = registry("tokenizers").get(cls.component().tokenizer)
        if cls.tokenizer:
            folder = resolve(cls.tokenizer).tokenizer
            if folder is None:
                raise CheckFailed(f"tokenizer = {cls.tokenizer!r}, which brings no tokenizer.")
            loaded: Tokenizer = found.load(folder)
            return loaded
        if not found.trainable:
            raise CheckFailed(
                f"its tokenizer, {cls.component().tokenizer}, cannot be fitted on text. Set on the suite: "
                'tokenizer = "REF", a model reference that brings one.'
            )
        fitted: Tokenizer = found.fit(_CORPUS * 3, vocab_size=int(cls.options().get("vocab_size") or _VOCABULARY))
        return fitted

    def built(
        self, *, seed: int = 0, needs: frozenset[str] | None = None, artifact: Artifact | None = None
    ) -> Backbone:
        """The backbone in evaluation, with weights by *seed*, restricted to what *needs* names where that is given.

        What starts at zero or one is moved off it, as training does; otherwise half of the checks would see nothing.
        """
        tokenizer = self.its_tokenizer()
        torch.manual_seed(seed)
        backbone = build_backbone(self.name, self.options(), tokenizer=tokenizer, artifact=artifact)
        _stir(backbone)
        if needs is not None:
            pairs = {"pairs"} if "texts" in backbone.accepts else set()
            backbone.restrict(needs | pairs)
        return backbone.eval()

    def makers(self) -> list[InputMaker]:
        """A maker for each form of input that it accepts."""
        return self.shared("makers", self._make_makers)

    def _make_makers(self) -> list[InputMaker]:
        component = self.component()
        picture: Callable[[int], Tensor] | None = None
        if "image" in component.accepts:
            pictures = self.pictures()
            picture = lambda number: pictures[number % len(pictures)]  # noqa: E731
        marks = self.options().get("marks", {})
        return input_makers(component.accepts, self.its_tokenizer(), marks=marks, image=picture)

    def pictures(self) -> Tensor:
        """The suite's images as its processor gives them, [n, ...]."""
        processor = self.built().processor()
        if processor is None:
            raise CheckFailed('it accepts "image", but processor() gives None: no app can make images fit for it.')
        return torch.from_numpy(processor(self.images(6)))


def wishes(backbone: Backbone) -> frozenset[str]:
    """All entries of ``Features.extra`` that *backbone* provides."""
    return backbone.provides & EXTRAS


def needs_of(backbone: type[Backbone]) -> list[frozenset[str]]:
    """What heads may need of it: each of its outputs that a head can read alone, and all of them together."""
    alone = [frozenset[str]({name}) for name in ("tokens", "pooled", "layers") if name in backbone.provides]
    together = frozenset[str]().union(*alone)
    return alone if len(alone) == 1 else [*alone, together]


def no_text(suite: BackboneSuite) -> str | None:
    """Why padding cannot be checked, if so."""
    takes_text = suite.component().accepts & {"text", "texts", "decoder"}
    return None if takes_text else "it accepts no text, so nothing is padded"


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, those too that are not saved, as they are now."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def _stir(backbone: Backbone) -> None:
    generator = torch.Generator().manual_seed(17)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if not parameter.requires_grad or not parameter.is_floating_point():
                continue
            spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(noise, alpha=0.1 * (spread or 1.0))
        for table in backbone.modules():
            if isinstance(table, nn.Embedding) and table.padding_idx is not None and table.weight.requires_grad:
                table.weight[table.padding_idx].zero_()
