from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

from torch import Tensor, nn

from et_core.interfaces.inputs import Batch, Observed
from et_core.interfaces.objective import Term


class Distiller(nn.Module, ABC):
    """A weighted term of the distillation objective. Its own parameters (projections) are trained with the student.

    A teacher is observed once: what ``record`` keeps of it goes to a file, and ``forward`` compares the student with
    that in every epoch. Keyword arguments are options in a config. Where the constructor names *student* or *teacher*,
    it gets these Models besides, for the sizes of its projections; it keeps neither of them as a part of itself.
    """

    wants: ClassVar[frozenset[str]] = frozenset()
    """Entries of ``Features.extra`` that teacher and student must give."""

    per_token: ClassVar[frozenset[str]] = frozenset()
    """The names of what is recorded for each token [B, L, ...]; teacher and student then read the same tokens."""

    forward_options: ClassVar[frozenset[str]] = frozenset()
    """Options that only ``forward`` reads, such as a temperature: when they change, what was recorded is still good."""

    recorded_layers: tuple[int, ...] = ()
    """The teacher's layers that ``record`` keeps, where the choice depends on the student."""

    fit_rows: int = 0
    """How many training rows, drawn with the seed, ``fit`` is shown; 0 where nothing has to be learned first."""

    def fit(self, observed: Iterable[tuple[Observed, Batch]]) -> None:
        """Learn about the teacher what ``record`` needs, such as a classifier on each of its layers.

        *observed* may be gone through once. What is learned is not saved with the student.
        """
        return

    @abstractmethod
    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        """What is kept of the teacher, each row by itself: [B, ...], or [B, L, ...] for the names in ``per_token``.

        In the type that is returned: half precision halves the file of wide states.
        """

    @abstractmethod
    def count(self, batch: Batch) -> Tensor:
        """The count that ``forward`` will return."""

    @abstractmethod
    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        """How far *student* is from what was *recorded* of its teacher; zero when they are equal.

        *progress* is the share of training that is done, for options that change on the way (``Ramp``).
        """
