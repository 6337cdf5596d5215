from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class Loss(nn.Module, ABC):
    """A training loss as a sum and a count, so that any split of a batch adds up to the same mean."""

    @abstractmethod
    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the summed loss and how much was summed, both scalars; the loss is their quotient."""

    @abstractmethod
    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        """The count that ``forward`` will return, which depends on the targets alone."""
