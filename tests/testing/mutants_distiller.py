"""A sound distiller, and for every check of distillers one that is broken in just that way."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from et_core.hooks import Register, hookimpl
from et_core.interfaces import Batch, Distiller, Model, Observed, Term
from et_core.testing import DistillerConformance

ET_API = 1


@hookimpl
def et_register_distillers(register: Register) -> None:
    for name in ("sound", *BROKEN):
        register(f"{name}-distiller", f"mutants_distiller:DISTILLERS[{name}]", summary=f"The distiller called {name}")


class Sound(Distiller):
    """Logits by divergence at a temperature, layers by squared distance, the student's brought to another width."""

    wants: ClassVar[frozenset[str]] = frozenset({"layers"})

    def __init__(self, *, student: Model, teacher: Model, temperature: float = 2.0) -> None:
        super().__init__()
        widths = student.backbone.hidden_size, teacher.backbone.hidden_size
        self.project: nn.Module = nn.Identity() if widths[0] == widths[1] else nn.Linear(*widths, bias=False)
        self.temperature = temperature

    def count(self, batch: Batch) -> Tensor:
        return batch.inputs.texts[0].mask.sum().float()

    def forward(self, student: Observed, teacher: Observed, batch: Batch) -> Term:
        mask = batch.inputs.texts[0].mask
        return Term(self.logits(student, teacher).sum() + self.layers(student, teacher, mask).sum(), self.count(batch))

    def logits(self, student: Observed, teacher: Observed) -> Tensor:
        mine, goal = (self.log_softmax(seen.outputs["logits"].float()) for seen in (student, teacher))
        return functional.kl_div(mine, goal.detach(), reduction="none", log_target=True)

    def log_softmax(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature).log_softmax(-1)

    def layers(self, student: Observed, teacher: Observed, mask: Tensor) -> Tensor:
        return self.compare(self.project(self.top(student).float()), self.top(teacher).float().detach(), mask)

    def top(self, seen: Observed) -> Tensor:
        layers: Any = seen.features.extra["layers"]
        top: Tensor = layers[-1]
        return top

    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return (mine - goal).square().mean(-1) * mask


class ReadsUnasked(Sound):
    wants: ClassVar[frozenset[str]] = frozenset()


class CrossEntropyOfTeacher(Sound):
    def logits(self, student: Observed, teacher: Observed) -> Tensor:
        mine, goal = (self.log_softmax(seen.outputs["logits"].float()) for seen in (student, teacher))
        return -goal.detach().exp() * mine


class Turned(Sound):
    def forward(self, student: Observed, teacher: Observed, batch: Batch) -> Term:
        term = super().forward(student, teacher, batch)
        return Term(-term.sum, term.count)


class PullsTeacher(Sound):
    def layers(self, student: Observed, teacher: Observed, mask: Tensor) -> Tensor:
        return self.compare(self.project(self.top(student).float()), self.top(teacher).float(), mask)


class StudentCutOff(Sound):
    def layers(self, student: Observed, teacher: Observed, mask: Tensor) -> Tensor:
        return super().layers(student, teacher, mask).detach()


class CountsOtherwise(Sound):
    def forward(self, student: Observed, teacher: Observed, batch: Batch) -> Term:
        return Term(super().forward(student, teacher, batch).sum, torch.tensor(float(len(batch))))


class MeanOfBatch(Sound):
    def forward(self, student: Observed, teacher: Observed, batch: Batch) -> Term:
        term = super().forward(student, teacher, batch)
        return Term(term.sum / len(batch), term.count)


class WeighsPlaces(Sound):
    def logits(self, student: Observed, teacher: Observed) -> Tensor:
        found = super().logits(student, teacher)
        return found * torch.linspace(1.5, 0.5, len(found), dtype=found.dtype)[:, None]


class IgnoresMask(Sound):
    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return super().compare(mine, goal, torch.ones_like(mask))


class DividesByLength(Sound):
    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return super().compare(mine, goal, mask) / mask.shape[1]


class NoProjection(Sound):
    def __init__(self, *, student: Model, teacher: Model) -> None:
        super().__init__(student=student, teacher=teacher)
        self.project = nn.Identity()


class UnusedProjection(Sound):
    def __init__(self, *, student: Model, teacher: Model) -> None:
        super().__init__(student=student, teacher=teacher)
        self.further = nn.Linear(3, 3)


class KeepsTeacher(Sound):
    def __init__(self, *, student: Model, teacher: Model) -> None:
        super().__init__(student=student, teacher=teacher)
        self.teacher = teacher.requires_grad_(False)


class WrongSlope(Sound):
    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return super().compare(mine - 0.2 * (mine - goal).detach(), goal, mask)


class LogOfSoftmax(Sound):
    def log_softmax(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature).softmax(-1).log()


class SumsInHalf(Sound):
    def forward(self, student: Observed, teacher: Observed, batch: Batch) -> Term:
        term = super().forward(student, teacher, batch)
        return Term(term.sum.to(student.outputs["logits"].dtype), term.count)


class WritesIntoLogits(Sound):
    def logits(self, student: Observed, teacher: Observed) -> Tensor:
        with torch.no_grad():
            student.outputs["logits"].mul_(1.0001)
        return super().logits(student, teacher)


class Warms(Sound):
    """Weighs more with each call."""

    calls = 0

    def logits(self, student: Observed, teacher: Observed) -> Tensor:
        self.calls += 1
        return super().logits(student, teacher) * self.calls


class HoldsTensor(Sound):
    def __init__(self, *, student: Model, teacher: Model) -> None:
        super().__init__(student=student, teacher=teacher)
        self.shares = [torch.tensor(0.5)]


class Clamped(Sound):
    """Grows with the distance where it is small, and not at all where it is not, as at the start."""

    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return (mine - goal).abs().clamp(max=0.1).mean(-1) * mask


BROKEN: dict[str, type[Distiller]] = {
    "reads-unasked": ReadsUnasked,
    "cross-entropy-of-teacher": CrossEntropyOfTeacher,
    "turned": Turned,
    "pulls-teacher": PullsTeacher,
    "student-cut-off": StudentCutOff,
    "counts-otherwise": CountsOtherwise,
    "mean-of-batch": MeanOfBatch,
    "weighs-places": WeighsPlaces,
    "ignores-mask": IgnoresMask,
    "divides-by-length": DividesByLength,
    "no-projection": NoProjection,
    "unused-projection": UnusedProjection,
    "keeps-teacher": KeepsTeacher,
    "wrong-slope": WrongSlope,
    "log-of-softmax": LogOfSoftmax,
    "sums-in-half": SumsInHalf,
    "writes-into-logits": WritesIntoLogits,
    "warms": Warms,
    "holds-tensor": HoldsTensor,
    "clamped": Clamped,
}
DISTILLERS = {"sound": Sound, **BROKEN}


class SOUND(DistillerConformance):
    name = "sound-distiller"
    other_sizes = True


def broken(name: str) -> type[DistillerConformance]:
    return type("Broken", (SOUND,), {"name": f"{name}-distiller"})


MUTANTS: dict[str, tuple[type[DistillerConformance], str]] = {
    "it_reads_what_it_wants": (broken("reads-unasked"), "it fails where the features hold no extras: KeyError"),
    "equal_models_give_zero": (broken("cross-entropy-of-teacher"), "where student and teacher are equal, the mean is"),
    "different_models_give_more": (broken("turned"), "where student and teacher are different, the sum is -"),
    "no_gradient_reaches_the_teacher": (broken("pulls-teacher"), "reaches the teacher's layers.4"),
    "the_gradient_reaches_the_student": (
        broken("student-cut-off"),
        "the sum depends on the student's layers.2, but no gradient reaches it",
    ),
    "the_count_is_known_from_the_batch": (broken("counts-otherwise"), "but forward returns 1"),
    "any_split_adds_up": (broken("mean-of-batch"), "sums of parts of [4, 4] rows add up to"),
    "the_order_of_rows_changes_nothing": (broken("weighs-places"), "with the rows in another order"),
    "what_lies_under_padding_changes_nothing": (
        broken("ignores-mask"),
        "other numbers where the mask is False change the sum",
    ),
    "more_padding_changes_nothing": (broken("divides-by-length"), "three more tokens of padding change the sum"),
    "other_sizes_are_bridged": (
        broken("no-projection"),
        "it fails with a student of 2 layers of width 8 and a teacher of 4 layers of width 12",
    ),
    "its_own_parameters_learn": (broken("unused-projection"), "no gradient reaches its parameter further.weight"),
    "it_keeps_no_model": (broken("keeps-teacher"), "it keeps the teacher, or a part of it"),
    "the_gradient_is_the_slope": (broken("wrong-slope"), "the gradient is not the slope of the sum"),
    "extremes_stay_finite": (broken("log-of-softmax"), "with values of 10000"),
    "bfloat16_is_summed_in_full": (broken("sums-in-half"), "the sum is of torch.bfloat16"),
    "what_it_reads_stays_as_it_is": (broken("writes-into-logits"), "what was seen of the student is no longer"),
    "a_call_leaves_nothing_to_the_next": (broken("warms"), "the sum for one batch is"),
    "its_state_moves_with_it": (broken("holds-tensor"), "shares holds a tensor that is neither buffer nor parameter"),
    "the_student_learns": (broken("clamped"), "not below a tenth"),
}
