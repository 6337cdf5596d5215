from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from et_core.errors import ConfigError
from et_core.interfaces import Artifact, Backbone, Features, Head, Inputs, Tokenizer, check_stored, load_weights
from torch import Tensor, nn


class ConvolutionBackbone(Backbone):
    """An encoder of residual convolutions over word embeddings; the pooled state is a layer on the mean of the tokens.

    Each layer lets a token see its neighbours, ``kernel_size // 2`` on each side.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"text"})
    provides: ClassVar[frozenset[str]] = frozenset({"tokens", "pooled"})

    @dataclass
    class Options:
        """What may stand beside the reference in a config. None keeps what the weights have; fresh ones the usual."""

        hidden_size: int | None = None
        num_layers: int | None = None
        kernel_size: int | None = None
        dropout: float | None = None

    def __init__(
        self,
        vocab_size: int,
        *,
        hidden_size: int = 128,
        num_layers: int = 2,
        kernel_size: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(f"model.kernel_size is {kernel_size}. Give an odd number, with a token in its middle.")
        self.hidden_size = hidden_size
        self._sizes = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "kernel_size": kernel_size,
            "dropout": dropout,
        }
        self.words = nn.Embedding(vocab_size, hidden_size)
        self.segments = nn.Embedding(2, hidden_size)
        self.layers = nn.ModuleList(_Layer(hidden_size, kernel_size, dropout) for _ in range(num_layers))
        self.pooler: nn.Linear | None = nn.Linear(hidden_size, hidden_size)

    @classmethod
    def build(cls, options: Options, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> ConvolutionBackbone:
        """With the sizes that *options* name, else those of the *artifact*, else the usual ones."""
        stored = dict(artifact.config) if artifact else {}
        sizes = {name: stored[name] for name in vars(options) if name in stored}
        sizes |= {name: value for name, value in vars(options).items() if value is not None}
        backbone = cls(tokenizer.vocab_size, **sizes)
        if artifact and artifact.weights:
            check_stored(options, artifact, free={"dropout"})
            load_weights(backbone, artifact)
        return backbone

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        (text,) = inputs.texts
        mask = text.mask.unsqueeze(-1)
        # Zeros where there is one text only: a table without a gradient would stop strategies of several processes.
        segments = torch.zeros_like(text.ids) if text.segments is None else text.segments
        states = self.words(text.ids) + self.segments(segments)
        for layer in self.layers:
            states = layer(states, mask)
        mean = (states * mask).sum(1) / mask.sum(1)
        pooled = None if self.pooler is None else self.pooler(mean).tanh()
        return Features(states, text.mask, pooled)

    def restrict(self, needs: frozenset[str]) -> None:
        if "pooled" not in needs:
            self.pooler = None

    def blocks(self) -> list[nn.Module]:
        return list(self.layers)

    def token_table(self) -> nn.Embedding:
        return self.words

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {"model_type": self.family, **self._sizes}


class _Layer(nn.Module):
    """A normalised convolution that is added to what comes in."""

    def __init__(self, hidden_size: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.convolution = nn.Conv1d(hidden_size, hidden_size, kernel_size, padding=kernel_size // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """*states* [B, L, H]. Padding is 0 for the convolution, as what lies beyond the ends of a text is."""
        seen = (self.norm(states) * mask).transpose(1, 2)
        heard: Tensor = self.dropout(torch.relu(self.convolution(seen)).transpose(1, 2))
        return states + heard
