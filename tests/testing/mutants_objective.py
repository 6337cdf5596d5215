"""Objectives that are each broken in one way, and the check that has to say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from et_core.hooks import Register, hookimpl
from et_core.interfaces import (
    App,
    Batch,
    Inputs,
    Loss,
    Model,
    Objective,
    Phase,
    Step,
    Term,
    Text,
    Tokenizer,
    build_backbone,
    build_model,
)
from et_core.testing import Conformance, ObjectiveConformance

ET_API = 1
MASK = 4


@hookimpl
def et_register_objectives(register: Register) -> None:
    for cls in (Sound, *(cls for mutants in BROKEN.values() for cls in mutants)):
        register(cls.__name__.lower(), f"mutants_objective:{cls.__name__}", summary=f"It is called {cls.__name__}")


class Sound(Objective):
    """An app's loss on rows with hidden words; the backbone and the heads learn in turn, from rows of their own."""

    new_tokens = True

    def __init__(self, *, model: Model, losses: Mapping[str, Loss], hide: float = 0.2, **rest: Any) -> None:
        super().__init__()
        self.model = model
        self.losses = nn.ModuleDict(losses)
        self._hide = hide

    def phases(self) -> list[Phase]:
        return [Phase("body", ("model.backbone.*",)), Phase("top", ("model.heads.*",), every=2, split="rest")]

    def splits(self) -> dict[str, float]:
        return {"train": 0.5, "rest": 0.5}

    def draw(self, batch: Batch, step: Step) -> Batch:
        (text,) = batch.inputs.texts
        chosen = (torch.rand(text.ids.shape) < self._hide) & text.mask
        hidden = Text(self.hidden(text.ids, chosen), text.mask, text.segments)
        return Batch(Inputs((hidden,)), batch.targets, batch.rows, batch.task)

    def hidden(self, ids: Tensor, chosen: Tensor) -> Tensor:
        return ids.masked_fill(chosen, MASK)

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        loss: Any = self.losses[batch.task]
        return {phase: loss.count(batch.targets)}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        return {step.phase: Term(*self.losses[batch.task](self.model(batch), batch.targets))}

    def result(self) -> Model:
        return self.model


class Untyped(Sound):
    def __init__(self, *, rate=0.1, **rest: Any) -> None:  # type: ignore[no-untyped-def]
        super().__init__(**rest)


class LearnsFromNowhere(Sound):
    def phases(self) -> list[Phase]:
        return [Phase(split="nowhere")]


class SharesParameters(Sound):
    def phases(self) -> list[Phase]:
        return [Phase("body"), Phase("top", ("model.heads.*",))]


@torch.no_grad()
def shrink(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.mul_(0.99)


class Shrinks(Sound):
    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        shrink(self)
        return super().forward(batch, step)


class ShrinksHeads(Sound):
    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        if self.training:
            shrink(self.model.heads)
        return super().forward(batch, step)


class ShrinksInCounts(Sound):
    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        shrink(self)
        return super().counts(batch, phase)


class HasASpare(Sound):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.spare = nn.Linear(2, 2)

    def phases(self) -> list[Phase]:
        return [Phase()]


class WakesAll(Sound):
    def train(self, mode: bool = True) -> WakesAll:
        return nn.Module.train(self, mode)


class CountsOneMore(Sound):
    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {name: count + 1 for name, count in super().counts(batch, phase).items()}


class GivesMeans(Sound):
    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        return {name: Term(term.sum / len(batch), term.count) for name, term in super().forward(batch, step).items()}


class CountsBatches(Sound):
    """The sum over the rows, and a count of one, foretold as well."""

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {phase: torch.tensor(1.0)}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        return {name: Term(term.sum, torch.tensor(1.0)) for name, term in super().forward(batch, step).items()}


class ForetellsBatches(Sound):
    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {phase: torch.tensor(1.0)}


class DividesByZero(Sound):
    """By how many rows there are besides two, of which half a batch has none."""

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        rest = torch.tensor(len(batch) - 2.0)
        return {name: Term(term.sum * rest / rest, term.count) for name, term in super().forward(batch, step).items()}


class NamesSteps(Sound):
    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        return {f"{name}-{step.index}": term for name, term in super().forward(batch, step).items()}


class DrawsItsOwnNumbers(Sound):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._rng = np.random.default_rng()

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        factor = float(self._rng.random())
        return {name: Term(term.sum * factor, term.count) for name, term in super().forward(batch, step).items()}


class WritesIntoBatches(Sound):
    def hidden(self, ids: Tensor, chosen: Tensor) -> Tensor:
        return ids.masked_fill_(chosen, MASK)


class HidesInSecret(Sound):
    new_tokens = False


class GivesNoisyModels(Sound):
    def result(self) -> Model:
        with torch.no_grad():
            for parameter in self.model.heads.parameters():
                parameter.add_(torch.randn_like(parameter))
        return self.model


class BeginsWithZeros(GivesNoisyModels):
    """A head of zeros, and from the second time on of noise."""

    asked = False

    def result(self) -> Model:
        if self.asked:
            return super().result()
        self.asked = True
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
        return self.model


class SavesNan(Sound):
    """Where no row of the suite looks: in the second segment."""

    def result(self) -> Model:
        with torch.no_grad():
            self.model.backbone.get_parameter("segments.weight")[1] = torch.nan
        return self.model


class ForgetsItsSize(Sound):
    def __init__(self, *, apps: Mapping[str, App], tokenizer: Tokenizer, **given: Any) -> None:
        super().__init__(**given)
        backbone = build_backbone("stand-ins/stand-in-text", {"hidden_size": 8}, tokenizer=tokenizer)
        backbone.options = {}
        self.small = build_model(backbone, apps)

    def result(self) -> Model:
        return self.small


class CountsInAnAttribute(Sound):
    calls = 0

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        self.calls += 1
        return {name: Term(term.sum / self.calls, term.count) for name, term in super().forward(batch, step).items()}


BROKEN: dict[str, dict[type[Sound], str]] = {
    "options_have_types_and_defaults": {Untyped: "has no type for its option 'rate'"},
    "its_phases_and_splits_fit": {LearnsFromNowhere: "learns from the split 'nowhere', which splits() does not give"},
    "a_phase_moves_its_own_parameters": {SharesParameters: "belongs to the phase 'body' and to 'top'"},
    "frozen_parameters_stay": {
        Shrinks: "moves model.backbone.words.weight, which is frozen",
        ShrinksHeads: "moves model.heads.main.",
        ShrinksInCounts: "moves model.backbone.words.weight, which is frozen",
    },
    "every_parameter_gets_a_gradient": {HasASpare: "spare.weight gets no gradient"},
    "frozen_parts_stay_in_evaluation": {WakesAll: "train() puts model into training, although all of model is frozen"},
    "counts_are_those_of_the_terms": {CountsOneMore: "forward() counts otherwise than counts(): body is 4.0"},
    "a_batch_is_the_sum_of_its_parts": {
        GivesMeans: "the sum of the term 'body' is",
        CountsBatches: "the count of the term 'body' is 1 over 4 rows, and 2 in two parts",
        ForetellsBatches: "the count that counts() gives for 'body' is 1 over 4 rows, and 2 in two parts",
        DividesByZero: "over 4 rows, and nan in two parts",
    },
    "terms_keep_their_names": {NamesSteps: "step 0 has the terms ['body-0'], and step 1 has ['body-1']"},
    "a_step_can_be_repeated": {DrawsItsOwnNumbers: "the term 'body' of one step is"},
    "batches_are_left_as_they_are": {WritesIntoBatches: "the phase 'body' changes its batch: texts.0.ids has"},
    "new_tokens_are_announced": {HidesInSecret: "draw() makes the token 4, which no row has"},
    "result_leaves_the_objective_as_it_is": {
        GivesNoisyModels: "gives other weights the second time: heads.main",
        BeginsWithZeros: "gives other weights the second time: heads.main",
    },
    "what_is_saved_is_the_result": {
        ForgetsItsSize: "what was saved cannot be loaded",
        SavesNan: "the model that is loaded has another backbone.segments.weight, off by inf",
    },
    "a_continued_run_ends_the_same": {CountsInAnAttribute: "goes on from step 3 of 6 logs other losses: [3] is"},
}


def _suite(cls: type[Sound]) -> type[ObjectiveConformance]:
    return type(cls.__name__, (ObjectiveConformance,), {"name": f"mutants-objective/{cls.__name__.lower()}"})


SOUND: type[Conformance] = _suite(Sound)

MUTANTS: dict[str, list[tuple[type[Conformance], str]]] = {
    name: [(_suite(cls), fragment) for cls, fragment in mutants.items()] for name, mutants in BROKEN.items()
}
