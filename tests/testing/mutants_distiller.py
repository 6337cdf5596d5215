"""A sound distiller, and for every check of distillers one that is broken in just that way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from et_core.hooks import Register, hookimpl
from et_core.interfaces import Batch, Distiller, Model, Observed, Term
from et_core.testing import DistillerConformance
from tests.testing.sound_distiller import Sound

ET_API = 1


@hookimpl
def et_register_distillers(register: Register) -> None:
    for name in ("sound", *BROKEN):
        register(f"{name}-distiller", f"mutants_distiller:DISTILLERS[{name}]", summary=f"The distiller called {name}")


class RecordsUnnamed(Sound):
    per_token: ClassVar[frozenset[str]] = frozenset()


class NamesUnrecorded(Sound):
    per_token: ClassVar[frozenset[str]] = frozenset({"states", "scores"})


class RecordsMaps(Sound):
    per_token: ClassVar[frozenset[str]] = frozenset({"states", "maps"})

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        states = self.top(teacher)
        return {**super().record(teacher, batch), "maps": states @ states.mT}


class RecordsLabels(Sound):
    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        return {**super().record(teacher, batch), "labels": teacher.outputs["logits"].argmax(-1)}


class RecordsTooMuch(Sound):
    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        found = super().record(teacher, batch)
        return {**found, "logits": (found["logits"] * 1e6).half()}


class RecordsMeans(Sound):
    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        found = super().record(teacher, batch)
        return {**found, "logits": found["logits"].mean(0)}


class CentresBatch(Sound):
    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        found = super().record(teacher, batch)
        return {**found, "logits": found["logits"] - found["logits"].mean(0)}


class PoolsPadding(Sound):
    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        return {**super().record(teacher, batch), "pooled": self.top(teacher).sum(1)}


class PoolsLength(Sound):
    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        mask = batch.inputs.texts[0].mask.unsqueeze(-1)
        return {**super().record(teacher, batch), "pooled": (self.top(teacher) * mask).mean(1)}


class FitsByChance(Sound):
    def fit(self, observed: Iterable[tuple[Observed, Batch]]) -> None:
        super().fit(observed)
        self.centre = self.centre + 0.1 * torch.randn_like(self.centre)


class SavesWhatItLearns(Sound):
    def fit(self, observed: Iterable[tuple[Observed, Batch]]) -> None:
        super().fit(observed)
        self.register_buffer("spread", self.centre.abs())


class FitsProjection(Sound):
    def fit(self, observed: Iterable[tuple[Observed, Batch]]) -> None:
        super().fit(observed)
        for parameter in self.parameters():
            nn.init.ones_(parameter)


class ReadsUnasked(Sound):
    wants: ClassVar[frozenset[str]] = frozenset()

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        return {**super().record(teacher, batch), "states": teacher.features.tokens.half()}  # type: ignore[union-attr]


class RecordsUnasked(Sound):
    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        maps: Any = teacher.features.extra["attentions"]
        return {**super().record(teacher, batch), "first": maps[-1][:, :, 0, 0]}


class FitsUnasked(Sound):
    def fit(self, observed: Iterable[tuple[Observed, Batch]]) -> None:
        super().fit((seen, batch) for seen, batch in observed if seen.features.extra["attentions"])


class WantsTooMuch(Sound):
    wants: ClassVar[frozenset[str]] = frozenset({"layers", "attentions"})


class CrossEntropyOfTeacher(Sound):
    def logits(self, student: Observed, recorded: Mapping[str, Tensor]) -> Tensor:
        mine, goal = (self.log_softmax(seen["logits"].float()) for seen in (student.outputs, recorded))
        return -goal.exp() * mine


class RoundsMore(Sound):
    """To whole numbers, which is more than half precision does."""

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        found = super().record(teacher, batch)
        return {**found, "states": found["states"].round()}


class Leans(Sound):
    """Is 0 where models are equal, and smaller still to one side of it."""

    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return super().compare(mine, goal, mask) + 0.1 * (mine - goal).sum(-1) * mask


class Turned(Sound):
    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        term = super().forward(student, recorded, batch, progress=progress)
        return Term(-term.sum, term.count)


class StudentCutOff(Sound):
    def layers(self, student: Observed, recorded: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        return super().layers(student, recorded, mask).detach()


class CountsOtherwise(Sound):
    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        return Term(super().forward(student, recorded, batch).sum, torch.tensor(float(len(batch))))


class EndsAtZero(Sound):
    """Sharpens in the course of training, to a temperature of 0."""

    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        term = super().forward(student, recorded, batch)
        return Term(term.sum / (1 - torch.tensor(progress)), term.count)


class CountsLater(Sound):
    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        term = super().forward(student, recorded, batch)
        return Term(term.sum, term.count * (1 + progress))


class MeanOfBatch(Sound):
    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        term = super().forward(student, recorded, batch)
        return Term(term.sum / len(batch), term.count)


class WeighsPlaces(Sound):
    def logits(self, student: Observed, recorded: Mapping[str, Tensor]) -> Tensor:
        found = super().logits(student, recorded)
        return found * torch.linspace(1.5, 0.5, len(found), dtype=found.dtype)[:, None]


class IgnoresMask(Sound):
    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return super().compare(mine, goal, torch.ones_like(mask))


class TrustsPadding(Sound):
    """Records zeros for padding and expects to read them again."""

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        found = super().record(teacher, batch)
        return {**found, "states": found["states"] * batch.inputs.texts[0].mask.unsqueeze(-1)}

    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return (mine * mask.unsqueeze(-1) - goal).square().mean(-1)


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
    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        term = super().forward(student, recorded, batch)
        return Term(term.sum.to(student.outputs["logits"].dtype), term.count)


class WritesIntoLogits(Sound):
    def logits(self, student: Observed, recorded: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            student.outputs["logits"].mul_(1.0001)
        return super().logits(student, recorded)


class WritesIntoTeacher(Sound):
    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        teacher.outputs["logits"].mul_(1.0001)
        return super().record(teacher, batch)


class WritesIntoRecord(Sound):
    def logits(self, student: Observed, recorded: Mapping[str, Tensor]) -> Tensor:
        recorded["logits"].mul_(1.0001)
        return super().logits(student, recorded)


class Warms(Sound):
    """Weighs more with each call."""

    calls = 0

    def logits(self, student: Observed, recorded: Mapping[str, Tensor]) -> Tensor:
        self.calls += 1
        return super().logits(student, recorded) * self.calls


class HoldsTensor(Sound):
    def __init__(self, *, student: Model, teacher: Model) -> None:
        super().__init__(student=student, teacher=teacher)
        self.shares = [torch.tensor(0.5)]


class Clamped(Sound):
    """Grows with the distance where it is small, and not at all where it is not, as at the start."""

    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return (mine - goal).abs().clamp(max=0.1).mean(-1) * mask


BROKEN: dict[str, type[Distiller]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower(): cls for cls in Sound.__subclasses__()
}
DISTILLERS = {"sound": Sound, **BROKEN}


class SOUND(DistillerConformance):
    name = "sound-distiller"
    other_sizes = True


def broken(name: str) -> type[DistillerConformance]:
    return type("Broken", (SOUND,), {"name": f"{name}-distiller"})


Mutant = tuple[type[DistillerConformance], str]

MUTANTS: dict[str, Mutant | list[Mutant]] = {
    "what_is_recorded_belongs_to_rows": [
        (broken("records-unnamed"), "'states' is recorded as [8, 5, 12], with three more tokens as [8, 8, 12]"),
        (broken("names-unrecorded"), "per_token names 'scores', which is not recorded: logits, states, weights"),
        (broken("records-maps"), "'maps' is in per_token, and recorded as [8, 5, 5] of 5 tokens, as [8, 8, 8] of 8"),
        (broken("records-labels"), "'labels' is recorded in torch.int64"),
        (broken("records-too-much"), "'logits' is recorded in torch.float16 with values that are not finite"),
        (broken("records-means"), "'logits' is recorded as [4] for 8 rows"),
    ],
    "each_row_is_recorded_by_itself": (broken("centres-batch"), "'logits' of rows [0, 1, 2, 3] is another where"),
    "padding_changes_no_record": [
        (broken("pools-padding"), "'pooled' is another with other numbers where the mask is False"),
        (broken("pools-length"), "'pooled' is another with three more tokens of padding"),
    ],
    "the_same_rows_teach_it_the_same": (broken("fits-by-chance"), "'weights' of the same rows is another after it"),
    "what_it_learns_stays_out_of_what_is_saved": [
        (broken("saves-what-it-learns"), "fitting adds spread to what is saved"),
        (broken("fits-projection"), "fitting changes project.weight, which is trained with the student"),
    ],
    "it_reads_what_it_wants": [
        (broken("reads-unasked"), "it fails where the features hold no extras: KeyError"),
        (broken("records-unasked"), "it fails where the features hold layers: KeyError: 'attentions'"),
        (broken("fits-unasked"), "it fails where the features hold layers: KeyError: 'attentions'"),
        (broken("wants-too-much"), "it wants 'attentions', on which its sum does not depend"),
    ],
    "equal_models_give_zero": [
        (broken("cross-entropy-of-teacher"), "where student and teacher are equal, the mean is"),
        (broken("rounds-more"), "not 0 to 0.0001"),
        (broken("leans"), "where student and teacher are equal, layers.2 gets a gradient of"),
    ],
    "different_models_give_more": (broken("turned"), "where student and teacher are different, the sum is -"),
    "the_gradient_reaches_the_student": (
        broken("student-cut-off"),
        "the sum depends on the student's layers.2, but no gradient reaches it",
    ),
    "the_count_is_known_from_the_batch": (broken("counts-otherwise"), "but forward returns 1"),
    "it_holds_from_the_first_step_to_the_last": [
        (broken("ends-at-zero"), "the sum is inf when 100% of training is done"),
        (broken("counts-later"), "instead of 35 at 50%"),
    ],
    "any_split_adds_up": (broken("mean-of-batch"), "sums of parts of [4, 4] rows add up to"),
    "the_order_of_rows_changes_nothing": (broken("weighs-places"), "with the rows in another order"),
    "what_lies_under_padding_changes_nothing": [
        (broken("ignores-mask"), "other numbers where the mask is False change the sum"),
        (broken("trusts-padding"), "other numbers of what was recorded where the mask is False change the sum"),
    ],
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
    "what_it_reads_stays_as_it_is": [
        (broken("writes-into-logits"), "what was seen of the student is no longer"),
        (broken("writes-into-teacher"), "what was seen of the teacher is no longer"),
        (broken("writes-into-record"), "what was recorded is no longer"),
    ],
    "a_call_leaves_nothing_to_the_next": (broken("warms"), "the sum for one batch is"),
    "its_state_moves_with_it": (broken("holds-tensor"), "shares holds a tensor that is neither buffer nor parameter"),
    "the_student_learns": (broken("clamped"), "not below a tenth"),
}
