"""A sound loss, and for every check of losses one that is broken in just that way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from et_core.data import IGNORED_LABEL
from et_core.hooks import Register, hookimpl
from et_core.interfaces import Loss
from et_core.testing import LossConformance

ET_API = 1
WEIGHTS = (0.5, 2.0, 1.0)


@hookimpl
def et_register_losses(register: Register) -> None:
    for name in ("sound", *BROKEN):
        register(f"{name}-loss", f"mutants_loss:LOSSES[{name}]", summary=f"The loss called {name}")


class Sound(Loss):
    """Softmax cross-entropy, weighted by label."""

    def __init__(self, *, weights: tuple[float, ...] = WEIGHTS) -> None:
        super().__init__()
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor(weights), persistent=False)

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.rows(outputs["logits"].float(), targets["label"]).sum(), self.count(targets)

    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        logits = logits.movedim(-1, 1)  # as torch has it, where there is a label for each token
        return functional.cross_entropy(logits, label, self.weights, ignore_index=IGNORED_LABEL, reduction="none")

    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        return self.weights[targets["label"][targets["label"] != IGNORED_LABEL]].sum()


class SumPerRow(Sound):
    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.rows(outputs["logits"].float(), targets["label"]), self.count(targets)


class CountsOtherwise(Sound):
    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        return super().count(targets) + 1

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return super().forward(outputs, targets)[0], super().count(targets)


class Mean(Sound):
    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        total, count = super().forward(outputs, targets)
        return total / max(len(targets["label"]), 1), count


class ComparesRows(Sound):
    """Each row against the mean of all; the same rows twice still count twice."""

    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        return super().rows(logits - logits.mean(0) / 2 * logits.sign(), label)


class LearnsIgnored(Sound):
    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        return super().rows(logits, label.clamp(min=0))


class LearnsPadding(Sound):
    """Takes the end of a row for tokens of label 0, in the sum."""

    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        return super().rows(logits, label.masked_fill(_padding(label), 0))


class CountsPadding(Sound):
    def count(self, targets: Mapping[str, Tensor]) -> Tensor:
        label = targets["label"]
        return super().count({"label": label.masked_fill(_padding(label), 0)})


class ForetellsPadding(CountsPadding):
    """Counts the end of a row before the forward pass only."""

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        return super().forward(outputs, targets)[0], Sound.count(self, targets)


class ReadsPadding(Sound):
    """Learns nothing from the end of a row, but adds up what is there."""

    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        return super().rows(logits, label) + logits.detach().mean(-1) * _padding(label)


class WeighsPlaces(Sound):
    """The first rows of a batch count more; alone in its part, each is the first."""

    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        found = super().rows(logits, label)
        return found * torch.linspace(1.5, 0.5, len(found), dtype=found.dtype)


class WrongSlope(Sound):
    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        return super().rows(logits - 0.1 * logits.detach(), label)


class LogOfSoftmax(Sound):
    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        return functional.nll_loss(logits.softmax(-1).log(), label, self.weights, reduction="none")


class SumsInHalf(Sound):
    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = outputs["logits"]
        return self.rows(logits.float(), targets["label"]).to(logits.dtype).sum(), self.count(targets)


class ReadsWithoutGradient(Sound):
    """A second output weighs the first and learns nothing."""

    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        found = self.rows(outputs["logits"].float(), targets["label"])
        return (found * outputs["gate"].detach().sigmoid()).sum(), self.count(targets)


class WritesIntoOutputs(Sound):
    def forward(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = outputs["logits"]
        with torch.no_grad():
            logits -= logits.mean(-1, keepdim=True)
        return super().forward({"logits": logits}, targets)


class Remembers(Sound):
    """Divides by a running mean of what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0

    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        found = super().rows(logits, label)
        self.scale = 0.9 * self.scale + 0.1 * float(found.detach().mean())
        return found / self.scale


class HoldsTensor(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.prior = torch.tensor([0.1, 0.2, 0.3])

    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        return super().rows(logits + self.prior, label)


class Spread(Sound):
    """Divides by the deviation over rows, which one row has not."""

    def rows(self, logits: Tensor, label: Tensor) -> Tensor:
        deviation = (logits - logits.mean(0)).square().sum(0).sqrt() / (len(logits) - 1)
        return super().rows(logits / deviation, label)


def _padding(label: Tensor) -> Tensor:
    """Where a row that has labels has none."""
    ignored = label == IGNORED_LABEL
    return ignored & ~ignored.all(-1, keepdim=True)


BROKEN: dict[str, type[Loss]] = {
    "sum-per-row": SumPerRow,
    "counts-otherwise": CountsOtherwise,
    "mean": Mean,
    "compares-rows": ComparesRows,
    "learns-ignored": LearnsIgnored,
    "learns-padding": LearnsPadding,
    "counts-padding": CountsPadding,
    "foretells-padding": ForetellsPadding,
    "reads-padding": ReadsPadding,
    "weighs-places": WeighsPlaces,
    "wrong-slope": WrongSlope,
    "log-of-softmax": LogOfSoftmax,
    "sums-in-half": SumsInHalf,
    "reads-without-gradient": ReadsWithoutGradient,
    "writes-into-outputs": WritesIntoOutputs,
    "remembers": Remembers,
    "holds-tensor": HoldsTensor,
    "spread": Spread,
}
LOSSES = {"sound": Sound, **BROKEN}


class SOUND(LossConformance):
    name = "sound-loss"
    num_outputs = 3


class OverTokens(SOUND):
    target = "tokens"


class WithGate(SOUND):
    def outputs(self, rows: int, rng: torch.Generator) -> dict[str, Tensor]:
        return {**super().outputs(rows, rng), "gate": torch.randn(rows, generator=rng)}


def broken(name: str, base: type[LossConformance] = SOUND, **attributes: Any) -> type[LossConformance]:
    return type("Broken", (base,), {"name": f"{name}-loss", **attributes})


MUTANTS: dict[str, tuple[type[LossConformance], str]] = {
    "sum_and_count_are_scalars": (broken("sum-per-row"), "the sum is a tensor [12], not a scalar tensor"),
    "the_count_is_known_from_the_targets": (broken("counts-otherwise"), "but forward returns"),
    "a_batch_twice_counts_twice": (broken("mean"), "the sum of the same batch twice is"),
    "any_split_adds_up": (broken("compares-rows"), "sums of parts of [6, 6] rows add up to"),
    "ignored_labels_add_nothing": (broken("learns-ignored"), "rows that are left out get a gradient in 'logits'"),
    "the_order_of_rows_changes_nothing": (broken("weighs-places"), "with the rows in another order"),
    "the_gradient_is_the_slope": (broken("wrong-slope"), "the gradient is not the slope of the sum"),
    "extremes_stay_finite": (broken("log-of-softmax"), "the sum is inf with outputs of 10000 and -10000"),
    "bfloat16_is_summed_in_full": (broken("sums-in-half"), "the sum is of torch.bfloat16"),
    "the_gradient_reaches_what_is_read": (
        broken("reads-without-gradient", WithGate),
        "the sum depends on 'gate', but no gradient reaches it",
    ),
    "what_it_reads_stays_as_it_is": (broken("writes-into-outputs"), "the outputs are no longer what they were"),
    "a_call_leaves_nothing_to_the_next": (broken("remembers"), "the sum of one batch is"),
    "its_state_moves_with_it": (broken("holds-tensor"), "prior holds a tensor that is neither buffer nor parameter"),
    "one_row_is_enough": (broken("spread"), "a batch of one row has the sum nan"),
}
