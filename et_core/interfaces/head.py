from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from et_core.interfaces.inputs import Features


class Head(nn.Module, ABC):
    """The layers between a backbone's features and an app's outputs. Never computes a loss.

    Built with the keyword *hidden_size* and the ``HeadSpec.spec`` of the app. That of classification holds
    *num_outputs*, *labels* (their names), *problem_type* (transformers' word) and *dropout* (a rate, or None for the
    head's own).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})
    """What the backbone must provide: "pooled", "tokens", or entries of ``Features.extra``.

    "towers" any backbone provides that takes one text: each of the batch's texts goes through it by itself, and what
    else is needed is found in the features of each (``Features.extra``).
    """

    @abstractmethod
    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        """Compute named outputs, such as ``{"logits": [B, C]}``, whose first axis runs over rows.

        *positions* [N] picks entries of the flattened [B * L] tokens where only those are to be scored.
        """
