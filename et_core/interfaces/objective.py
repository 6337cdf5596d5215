from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from torch import Tensor, nn

from et_core.interfaces.figures import Figure
from et_core.interfaces.inputs import Batch
from et_core.interfaces.model import Model

T = TypeVar("T")


class Share(Protocol):
    """Gives each rank the *value* that the main one calls it with."""

    def __call__(self, value: T, /) -> T: ...


@dataclass(frozen=True)
class Phase:
    """One optimiser's share of a step: which parameters it moves, how, how often, and on which split of the data.

    *parameters* are shell patterns over the objective's parameter names. None takes the run's own setting. Phases on
    the same split share a step's batch. A phase with ``every=k`` acts in each k-th step, one with ``after`` once that
    share of all steps is done: its learning rate then warms up and decays over the steps that are left.
    """

    name: str = "main"
    parameters: tuple[str, ...] = ("*",)
    optimizer: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    every: int = 1
    after: float = 0.0
    split: str = "train"

    def acts(self, index: int, total: int) -> bool:
        """Whether it acts in the step *index*, from 0, of *total*."""
        return index % self.every == 0 and index >= self.first(total)

    def first(self, total: int) -> int:
        """The first step, from 0, of *total* in which it may act."""
        return math.ceil(self.after * total)


@dataclass(frozen=True)
class Step:
    """Where training stands: update number *index*, from 0, of *total*. torch is seeded by run, step and rank.

    *rng* is seeded by run and step and equal on all ranks. *all_gather* joins a tensor [B, ...] of every rank along
    the first axis; gradients reach this rank's own part.
    """

    index: int
    total: int
    phase: str
    rng: np.random.Generator
    all_gather: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Term:
    """One weighted summand of a loss, as a sum and a count."""

    sum: Tensor
    count: Tensor
    weight: float = 1.0


class Objective(nn.Module, ABC):
    """What a training step minimises. The strategy wraps it whole, so parameters of its own are synchronised too.

    Built with the keywords *model* (Model), *losses* and *apps* (Loss and App by task) and *tokenizer* (Tokenizer), of
    which a class takes what it needs and leaves the others to ``**rest``. Its further keyword arguments are the
    settings that may stand under ``objective:`` in a config.
    """

    static_graph: bool = True
    """Whether every step of a phase runs the same graph over the same parameters."""

    new_tokens: bool = False
    """Whether ``draw`` or ``forward`` makes token ids that the data does not hold, as masking and augmentation do."""

    compares_rows: bool = False
    """Whether rows of a batch are compared with each other: computed in parts, it is then learned from otherwise."""

    def phases(self) -> list[Phase]:
        """The optimisers of a step, in order."""
        return [Phase()]

    def splits(self) -> dict[str, float]:
        """The share of the training rows that each split holds, for phases that learn from different rows.

        Shares add up to 1. An epoch is one pass over the split "train"; the others begin anew as often as needed.
        """
        return {"train": 1.0}

    def train(self, mode: bool = True) -> Self:
        """Switch to training; parts that are frozen whole, such as a teacher or lower layers, stay in evaluation."""
        super().train(mode)
        _rest(self)
        return self

    def draw(self, batch: Batch, step: Step) -> Batch:
        """*batch* as this step learns from it, such as masked or augmented; it still lies on the CPU.

        Before ``counts``, so that what is drawn decides what is counted: masked tokens become targets.
        """
        return batch

    @abstractmethod
    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """The count of every term that ``forward`` gives for *batch*, which still lies on the CPU.

        The loop sums them over all parts of a step on all ranks, so that gradients are exact under any split.
        """

    @abstractmethod
    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        """The terms of the loss, by the names that the log shows."""

    @abstractmethod
    def result(self) -> Model:
        """The model that the run evaluates and saves: the student, the discriminator, the derived cell.

        Called at every evaluation and once at the end. A model that it makes comes from ``build_backbone`` and
        ``build_model``, so that it can be built again.
        """

    def conclude(self, score: Callable[[Model], float] | None, share: Share) -> None:
        """Decide, once training is over, what ``result`` gives, where there is something to choose from.

        *score* measures a model on the dev set by the metric that picks weights, higher being better; None without one.
        *share* gives all ranks what the main one has: each has to decide the same, and no two measure the same time.
        torch is seeded by the run, on all ranks alike.
        """
        return

    def finalists(self) -> list[Model]:
        """What besides ``result`` may turn out best, that one included, the most promising first; after ``conclude``.

        ``et distill`` trains the first of them alone, each for a while, to take the best. Empty: there is no other.
        """
        return []

    def status(self) -> str:
        """A line for who follows the run, shown with each evaluation, such as the network that a search tends to."""
        return ""

    def readings(self) -> dict[str, float]:
        """What is logged beside the loss, such as how far a search has decided; read at each logged step."""
        return {}

    def figures(self) -> list[Figure]:
        """What a report shows of how the model came about, such as what else a search measured."""
        return []

    def notes(self) -> list[str]:
        """What a person should know of how training ended, in sentences."""
        return []


def _rest(module: nn.Module) -> None:
    """Put what is frozen whole inside *module* into evaluation: neither dropout nor batch statistics move it."""
    for part in module.children():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()
        else:
            _rest(part)
