from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from et_core.config import Ramp, value_at
from et_core.interfaces import Batch, Distiller, Loss, Model, Observed, Step, Term
from et_core.training.supervised import Supervised


@dataclass(frozen=True)
class Lesson:
    """One distiller, built with *options*, with one teacher: a term of the loss by its *name*, and its *weight*."""

    name: str
    weight: float | Ramp
    distiller: Distiller
    options: Mapping[str, Any]

    def recorded(self, batch: Batch) -> dict[str, Tensor]:
        """What its distiller recorded of the teacher for the rows of *batch*."""
        prefix = f"{self.name}/"
        return {name.removeprefix(prefix): tensor for name, tensor in batch.targets.items() if name.startswith(prefix)}


def wanted(lessons: Iterable[Lesson]) -> frozenset[str]:
    """The features that the distillers of *lessons* look at."""
    return frozenset[str]().union(*(lesson.distiller.wants for lesson in lessons))


class Distillation(Supervised):
    """The model learns from the labels and, by weighted terms, from what was recorded of its teachers.

    Recordings are among a batch's targets, as ``LESSON/NAME``: no teacher runs in the loop.
    """

    def __init__(
        self,
        *,
        model: Model,
        losses: Mapping[str, Loss],
        lessons: Sequence[Lesson],
        label_weight: float | Ramp = 1.0,
        **rest: Any,
    ) -> None:
        super().__init__(model, losses)
        self.lessons = tuple(lessons)
        self.distillers = nn.ModuleList(lesson.distiller for lesson in lessons)
        self._label_weight = label_weight

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        taught = {lesson.name: lesson.distiller.count(batch) for lesson in self.lessons}
        return {**super().counts(batch, phase), **taught}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        return self.terms(self.observe(batch), batch, step)

    def observe(self, batch: Batch) -> Observed:
        """The model's features with all that the distillers want, and the outputs of its head."""
        return self.model.observe(batch, want=self.wants)

    @property
    def wants(self) -> frozenset[str]:
        """The features that distillers look at."""
        return wanted(self.lessons)

    def terms(self, student: Observed, batch: Batch, step: Step) -> dict[str, Term]:
        """The weighted terms of a *student* that was observed on *batch*: that of the labels, and each lesson's."""
        progress = step.index / step.total
        labelled = self.supervise(student.outputs, batch)
        found = {batch.task: _weighed(labelled, value_at(self._label_weight, progress))}
        for lesson in self.lessons:
            term = lesson.distiller(student, lesson.recorded(batch), batch, progress=progress)
            found[lesson.name] = _weighed(term, value_at(lesson.weight, progress))
        return found


def _weighed(term: Term, weight: float) -> Term:
    return Term(term.sum, term.count, term.weight * weight)
