from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from et_core.interfaces.head import Head
from et_core.interfaces.inputs import Features, Inputs

if TYPE_CHECKING:
    from et_core.interfaces.artifact import Artifact
    from et_core.interfaces.figures import Figure
    from et_core.interfaces.model import Model
    from et_core.interfaces.tokenizer import Tokenizer


Processor = Callable[[Sequence[Any]], np.ndarray]
"""Turns images (paths, PIL images or arrays) into ``Inputs.image`` [n, ...], in the size and range of a backbone."""


@dataclass(frozen=True)
class Search:
    """How options that a user left open are found: a run of the registered *objective* over the registered *family*.

    Its result is a model of the family that asked, whose options have the values found.
    """

    family: str
    objective: str


class Backbone(nn.Module, ABC):
    """An encoder family. One class serves every size of it; the registry knows it by its family name."""

    accepts: ClassVar[frozenset[str]]
    """Of "text" (one text, pairs joined), "texts" (two separate ones), "image", "decoder" and "marks".

    One that accepts "marks" has an option ``marks: dict[str, int]``: how many values each takes, by name.
    """

    provides: ClassVar[frozenset[str]]
    """Of "tokens", "pooled", "layers", "attentions", "queries-keys-values"."""

    tokenizer: ClassVar[str] = "et-core/pretrained"
    """The registered tokenizer that the family is used with."""

    @dataclass
    class Options:
        """The keys a user may write beside the reference. Each has a default; None keeps the checkpoint's value."""

    family: str = ""
    """The registered name it was built under, with its distribution, and"""

    options: Mapping[str, Any] = MappingProxyType({})
    """the user's options it was built with: set by ``build_backbone``, saved, and enough to build it again."""

    hidden_size: int
    """Width of ``tokens`` and ``pooled``."""

    max_length: int | None = None
    """The most tokens that the model has positions for; None where there is no limit."""

    @classmethod
    def search(cls, options: Any) -> Search | None:
        """The search that has to find what *options* leave open, with ``et distill``; None where nothing is open."""
        return None

    @classmethod
    @abstractmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Backbone:
        """Build from *options* (an instance of ``Options``) and, where given, an artifact's config and weights."""

    @abstractmethod
    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        """Encode; *want* names entries of ``Features.extra`` ("layers", "attentions", "queries-keys-values")."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The repeated layers, lowest first: what sharding and checkpointing wrap, and layer-wise lr decay counts."""

    @abstractmethod
    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        """The content of config.json for this backbone with these heads by task; holds ``model_type``."""

    def processor(self) -> Processor | None:
        """What makes images fit for ``forward``, handed to ``App.encode``; None for a backbone of text alone."""
        return None

    def figures(self) -> list[Figure]:
        """What a report shows of the network itself, such as a picture of it where no two are alike."""
        return []

    def token_table(self) -> nn.Embedding | None:
        """The table that is looked up with token ids and nothing else, of which training may leave out unused rows."""
        return None

    def restrict(self, needs: frozenset[str]) -> None:
        """Drop what only serves what nobody *needs*: parameters without a gradient stop parallel engines.

        *needs* are those of the heads, and "pairs" where rows have two texts.
        """

    def inherit(self, teacher: Model, tokenizer: Tokenizer) -> None:
        """Start from what a *teacher* of the same *tokenizer* knows, such as its token embeddings.

        Called before distillation where the weights are fresh; does nothing unless overridden.
        """
        return

    def native_head(self, task: str, **spec: Any) -> Head | None:
        """The head that the family's own library has for *task*, with that library's parameter names, or None."""
        return None

    def layout(self, heads: Mapping[str, Head]) -> dict[str, Tensor]:
        """The live tensors under the names of model.safetensors; saving writes them, loading copies into them.

        A family of another library uses that library's names, native heads included. Tensors that have no place in it
        (marks, other heads) are left out: they go to extra.safetensors.
        """
        return {f"backbone.{name}": tensor for name, tensor in self.state_dict(keep_vars=True).items()}


@runtime_checkable
class Generates(Protocol):
    """What a backbone offers besides when it can write text."""

    def generate(self, inputs: Inputs, options: Mapping[str, Any]) -> Tensor:
        """Token ids [B, T] by greedy search, beam search or sampling, as *options* say."""
