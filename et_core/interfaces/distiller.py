from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from et_core.interfaces.inputs import Batch, Features
from et_core.interfaces.objective import Term


@dataclass(frozen=True)
class Observed:
    """What was seen of one model on a batch: its features and the outputs of its head."""

    features: Features
    outputs: Mapping[str, Tensor]


class Distiller(nn.Module, ABC):
    """A weighted term of the distillation objective. Its own parameters (projections) are trained with the student.

    Its keyword arguments are its options in a config. Where its constructor names *student* or *teacher*, it gets these
    Models besides, for the sizes of its projections; it keeps neither of them as a part of itself.
    """

    wants: ClassVar[frozenset[str]] = frozenset()
    """Entries of ``Features.extra`` that teacher and student must give."""

    @abstractmethod
    def count(self, batch: Batch) -> Tensor:
        """The count that ``forward`` will return."""

    @abstractmethod
    def forward(self, student: Observed, teacher: Observed, batch: Batch) -> Term:
        """How far *student* is from *teacher*; zero when they are equal. No gradient reaches the teacher."""
