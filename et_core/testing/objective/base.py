from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from et_core.interfaces import Batch, Inputs, Objective, Phase, Step, Term
from et_core.runfolder import ModelBundle
from et_core.testing.runs import Bench, Lab, labelled_rows, read_rows, run_values, train
from et_core.testing.suite import Conformance
from et_core.training.groups import make_optimizer

GIVEN = ("model", "losses", "apps", "tokenizer", "lessons", "label_weight", "teachers")
"""What a run gives to an objective; the last three where it has teachers."""

STEPS = 6
_TRAIN = {"max_steps": STEPS, "batch_size": 4, "checkpoint_every": STEPS // 2, "keep_checkpoints": STEPS}


@dataclass(frozen=True)
class Work:
    """An objective that is built, with the batches that it learns from."""

    bench: Bench
    objective: Objective
    batches: list[Batch]

    def step(self, phase: str, index: int = 0) -> Step:
        """The step *index* of *phase*, with torch seeded as the loop does."""
        torch.manual_seed(index)
        return Step(index, STEPS, phase, np.random.default_rng(index), lambda tensor: tensor)

    def terms(self, phase: str, index: int = 0) -> dict[str, Term]:
        """What the objective gives for a batch of *phase* in the step *index*, asked for as by the loop."""
        step = self.step(phase, index)
        batch = self.objective.draw(self.batches[index % len(self.batches)], step)
        self.objective.counts(batch, phase)
        return dict(self.objective(batch, step))

    def figures(self, batch: Batch, step: Step) -> dict[str, float]:
        """What adds up over the parts of a batch, by what it is: the sum of each term, and both its counts."""
        foretold = self.objective.counts(batch, step.phase)
        terms = self.objective(batch, step)
        return {
            **{f"the sum of the term {name!r}": float(term.sum.detach()) for name, term in terms.items()},
            **{f"the count of the term {name!r}": float(term.count) for name, term in terms.items()},
            **{f"the count that counts() gives for {name!r}": float(count) for name, count in foretold.items()},
        }

    def sums(self, phase: str, index: int) -> dict[str, float]:
        """The sum of each of these terms."""
        return {name: float(term.sum.detach()) for name, term in self.terms(phase, index).items()}

    def backward(self, phase: str) -> None:
        """Leave the gradients of a step of *phase* in the parameters."""
        self.objective.zero_grad()
        shares = [term.weight * term.sum / max(float(term.count), 1e-12) for term in self.terms(phase).values()]
        torch.stack(shares).sum().backward()  # type: ignore[no-untyped-call]


class ObjectiveSuite(Conformance):
    """What the checks of an objective work on: an app with a few rows, and a small model."""

    kind: ClassVar[str] = "objectives"

    app: str | Mapping[str, Any] = "stand-ins/stand-in-labels"
    """The app whose rows it learns from, as under ``app:`` in a config."""

    model: str | Mapping[str, Any] = {"ref": "stand-ins/stand-in-text@init", "dropout": 0.1}
    """What it trains, as under ``model:`` in a config; with dropout, which makes every step draw numbers."""

    rows: Sequence[Mapping[str, Any]] = tuple(labelled_rows())
    """Eight rows or more, keyed by role."""

    distill: Mapping[str, Any] = {}
    """What stands under ``distill:`` in a config, for an objective that learns from a teacher: the suite trains one."""

    teacher: str | Mapping[str, Any] | None = None
    """What that teacher is, as under ``model:`` in a config; None for the same as ``model``."""

    train: Mapping[str, Any] = {}
    """Settings of ``train:``, laid over six steps of four rows."""

    whole_batches: str = ""
    """Why a batch cannot be computed in parts, such as "each row is compared with all others"; empty where it can."""

    moved_by_hand: Sequence[str] = ()
    """Shell patterns of the parameters that it moves itself, such as those of an averaged teacher."""

    @classmethod
    def values(cls) -> dict[str, Any]:
        """The config of a run."""
        objective = {"name": cls.name, **cls.config}
        rows = [dict(row) for row in cls.rows]
        settings = {**_TRAIN, **cls.train}
        rest = {"distill": {**cls.distill, "teacher": f"{cls.taught()}@local"}} if cls.distill else {}
        return run_values(app=cls.app, model=cls.model, rows=rows, train=settings, objective=objective, **rest)

    @classmethod
    def taught(cls) -> Path:
        """The run that teaches, trained once for all checks."""

        def make() -> Path:
            rows = [dict(row) for row in cls.rows]
            model = cls.model if cls.teacher is None else cls.teacher
            values = run_values(app=cls.app, model=model, rows=rows, train={"max_steps": STEPS})
            return train(values, cls.folder() / "teacher").path

        return cls.shared("teacher", make)

    def work(self) -> Work:
        """A new objective in training, with a new model."""
        bench = Bench.of(self.values())
        objective = bench.objective()
        objective.train()
        return Work(bench, objective, bench.batches(size=bench.config.train.batch_size))

    def moved(self, work: Work, phase: Phase) -> list[str]:
        """The parameters that one step of *phase* moves, but for those that the objective moves by hand."""
        before = {name: parameter.detach().clone() for name, parameter in work.objective.named_parameters()}
        optimizer = make_optimizer(work.objective, phase, work.bench.config.train)
        work.backward(phase.name)
        optimizer.step()
        work.objective.zero_grad()
        return [
            name
            for name, parameter in work.objective.named_parameters()
            if not torch.equal(parameter, before[name]) and not any(fnmatchcase(name, p) for p in self.moved_by_hand)
        ]

    def answers(self, bundle: ModelBundle) -> dict[str, np.ndarray]:
        """The outputs of a model for the suite's rows."""
        app = bundle.apps["main"]
        rows = list(read_rows([dict(row) for row in self.rows], app))
        lab = Lab(app, bundle.model, bundle.tokenizer, bundle.encoding, rows)
        return lab.run(lab.encode(rows))


def owns(phase: Phase, name: str) -> bool:
    """Whether *phase* moves the parameter *name*."""
    return any(fnmatchcase(name, pattern) for pattern in phase.parameters)


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    """The state of *module*, in memory of its own."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """The inputs, targets and rows of *batch*."""
    targets = {f"targets.{name}": tensor for name, tensor in batch.targets.items()}
    return {**batch.inputs.flatten(), **targets, "rows": batch.rows}


def halves(batch: Batch) -> list[Batch]:
    """The first and the last rows of *batch*."""
    middle = len(batch) // 2
    return [
        Batch(
            Inputs.unflatten({name: tensor[part] for name, tensor in batch.inputs.flatten().items()}),
            {name: tensor[part] for name, tensor in batch.targets.items()},
            batch.rows[part],
            batch.task,
        )
        for part in (slice(middle), slice(middle, None))
    ]
