from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from et_core.config import ComponentConfig
from et_core.interfaces import Strategy, build_component
from et_core.registry import registry
from et_core.runfolder import Checkpoints
from et_core.testing.parts import SENTENCES, signature_flaw
from et_core.testing.runs import (
    copy_back_to,
    furthest,
    labelled_rows,
    losses_of,
    refuse_difference,
    run_values,
    train,
    weights_of,
)
from et_core.testing.strategy.job import start
from et_core.testing.strategy.trouble import TROUBLE
from et_core.testing.suite import CheckFailed, Conformance, check

_MIDDLE = 3
_TRAIN = {
    "max_steps": 2 * _MIDDLE,
    "batch_size": 4,
    "token_budget": 50,
    "lr": 0.05,
    "optimizer": "et-core/sgd",
    "checkpoint_every": _MIDDLE,
    "keep_checkpoints": 9,
}


def _is_one_process(suite: StrategyConformance) -> str | None:
    return "it is one process: there is no other to share with" if suite.build().processes == 1 else None


def _is_several(suite: StrategyConformance) -> str | None:
    processes = suite.build().processes
    return None if processes == 1 else f"it is {processes} processes: what they share is checked of each rank"


@dataclass(frozen=True)
class _Job:
    """What came of the processes: the facts of each, sorted by rank, and why it all failed, if it did."""

    folder: Path
    ranks: list[dict[str, Any]]
    failure: str


class StrategyConformance(Conformance):
    """What every strategy promises: the result of one process, from as many as it says, and an end when one fails.

    It is launched twice, where it has several processes from one of its own: some ten seconds on two cores.
    """

    kind: ClassVar[str] = "strategies"
    minimum: ClassVar[int] = 14

    single: bool = False
    """Whether it is one process by nature. All others are checked in several, which their options ask for."""

    tolerance: float = 1e-6
    """How far weights and losses may be from those of et-core/single, as a share of the largest weight."""

    seconds: float = 240.0
    """How long both launches together may take; then they are ended."""

    train: Mapping[str, Any] = {}
    """Settings of ``train:``, laid over six steps of four rows, in parts, with momentum."""

    @classmethod
    def build(cls) -> Strategy:
        """The strategy as a run builds it."""
        options = ComponentConfig(name=cls.name, options=cls._options())
        strategy: Strategy = build_component("strategies", options, where="strategy")
        return strategy

    @classmethod
    def _options(cls) -> dict[str, Any]:
        return dict(cls.config)

    @classmethod
    def values(cls, **strategy: Any) -> dict[str, Any]:
        """The config of a run under *strategy*: eleven rows, so that batches are of unequal size."""
        rows = [*labelled_rows(), *({"text": f"not {text}", "label": "dull"} for text in SENTENCES[:3])]
        model, app = "stand-ins/stand-in-text@init", "stand-ins/stand-in-labels"
        return run_values(app=app, model=model, rows=rows, train={**_TRAIN, **cls.train}, strategy=strategy)

    @classmethod
    def in_one(cls) -> dict[str, Any]:
        """The same run in one process, on the same kind of device."""
        return cls.values(name="et-core/single", device=cls.build().device.type)

    @classmethod
    def job(cls) -> _Job:
        """All that was done with the strategy's processes."""
        return cls.shared("job", cls._do)

    @classmethod
    def _do(cls) -> _Job:
        folder = cls.folder()
        train(cls.in_one(), folder / "one")
        copy_back_to(_MIDDLE, source=folder / "one", target=folder / "from-one")
        failure = start(folder, cls.values(name=cls.name, **cls._options()), seconds=cls.seconds)
        ranks = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("rank-*.json"))]
        return _Job(folder, sorted(ranks, key=lambda facts: int(facts["rank"])), failure)

    @classmethod
    def ranks(cls) -> list[dict[str, Any]]:
        """The facts of each process; CheckFailed where none came so far."""
        job = cls.job()
        if not job.ranks:
            raise CheckFailed(f"launch() runs no process to its end: {job.failure or 'it returns before'}.")
        return job.ranks

    @classmethod
    def done(cls) -> Path:
        """The folder of the runs; CheckFailed where they did not end."""
        job = cls.job()
        if job.failure:
            raise CheckFailed(f"training under it fails: {job.failure}")
        return job.folder

    @check()
    def options_have_types_and_defaults(self) -> None:
        """Options are checked against the signature of the class; one without a type takes anything.

        Write them as keyword arguments with types and defaults.
        """
        if flaw := signature_flaw("strategies", self.name):
            raise CheckFailed(f"{registry('strategies').get(self.name).__name__} {flaw}.")

    @check()
    def several_processes_are_tried(self) -> None:
        """In one process nothing is shared, so nothing that is shared wrongly would be seen.

        Set ``config`` to options that make two, such as ``{"processes": 2}``; where there are none, ``single = True``.
        """
        processes = self.build().processes
        if processes == 1 and not self.single:
            raise CheckFailed(
                'the suite runs it in one process. Set options to run it in two processes, such as {"processes": 2}; '
                "a strategy that is one process by nature has single = True in its suite."
            )
        if processes > 1 and self.single:
            raise CheckFailed(f"the suite says single = True, and runs it in {processes} processes. Take that out.")

    @check()
    def every_rank_runs_once(self) -> None:
        """Each rank trains on its share of the rows: with one missing, its share is never seen.

        Call the worker once in each process, which has its own ``rank`` from 0 and the same ``processes``.
        """
        promised = self.build().processes
        found = [facts["rank"] for facts in self.ranks()]
        if found != list(range(promised)):
            raise CheckFailed(f"processes is {promised}, and launch() runs the ranks {found}.")
        if other := [facts for facts in self.ranks() if facts["processes"] != promised]:
            raise CheckFailed(f"rank {other[0]['rank']} is told of {other[0]['processes']} processes of {promised}.")

    @check()
    def one_process_writes(self) -> None:
        """Two processes that write one file leave half of each.

        Leave ``is_main`` as it is: rank 0.
        """
        main = [facts["rank"] for facts in self.ranks() if facts["main"]]
        if main != [0]:
            raise CheckFailed(f"is_main is true of {len(main)} processes (ranks {main}) of {len(self.ranks())}.")

    @check(unless=_is_one_process)
    def sums_are_of_all_ranks(self) -> None:
        """Gradients are divided by the sum of all counts.

        Add up each value over all processes, and give the sums to each of them.
        """
        ranks = self.ranks()
        expected = {"rank": float(sum(range(len(ranks)))), "one": float(len(ranks))}
        for facts in ranks:
            refuse_difference(facts["sum"], expected, what=f"sum() of rank {facts['rank']}", tolerance=1e-9)

    @check(unless=_is_one_process)
    def gather_is_in_rank_order(self) -> None:
        """An evaluation takes what it gathers for the rows of rank 0, of rank 1 and so on.

        Give the value of each process, by rank, to each of them.
        """
        ranks = self.ranks()
        expected = [{"rank": rank} for rank in range(len(ranks))]
        for facts in ranks:
            refuse_difference(facts["gathered"], expected, what=f"gather() of rank {facts['rank']}")

    @check(unless=_is_one_process)
    def rows_are_joined_with_their_gradients(self) -> None:
        """Losses that compare the rows of all processes train on what reaches their own rows.

        Join tensors that differ in length, by rank, and add up what all processes send back.
        """
        ranks = self.ranks()
        own = [10.0 * rank + torch.arange(2.0 * (rank + 1)).reshape(-1, 2) for rank in range(len(ranks))]
        expected = torch.cat(own)
        weights = torch.arange(float(expected.numel())).reshape(expected.shape) * len(ranks)
        for facts, gradient in zip(ranks, torch.split(weights, [len(rows) for rows in own]), strict=True):
            refuse_difference(facts["joined"], expected.tolist(), what=f"all_gather() of rank {facts['rank']}")
            if facts["gradient"] is None:
                raise CheckFailed(f"no gradient reaches the rows of rank {facts['rank']} through all_gather().")
            what = f"the gradient through all_gather() for rank {facts['rank']}"
            refuse_difference(facts["gradient"], gradient.tolist(), what=what, tolerance=1e-6)

    @check(unless=_is_several)
    def one_process_shares_with_itself(self) -> None:
        """Losses and evaluations share what they have in one process as in many.

        Give the values in ``sum``, a list of the value in ``gather``, and the tensor with its gradient in
        ``all_gather``.
        """
        rows = [[0.0, 1.0]]
        expected = {"sum": {"rank": 0.0, "one": 1.0}, "gathered": [{"rank": 0}], "joined": rows, "gradient": rows}
        for facts in self.ranks():
            refuse_difference({name: facts[name] for name in expected}, expected, what="of what one process shares")

    @check(unless=_is_one_process)
    def a_barrier_waits_for_all(self) -> None:
        """Processes read what the main one writes, once it is written.

        Return from ``barrier`` when every process has come to it.
        """
        if early := [facts["rank"] for facts in self.ranks() if not facts["waited"]]:
            raise CheckFailed(f"rank {early[0]} leaves a barrier before rank 0 comes to it.")

    @check()
    def the_objective_is_on_the_device(self) -> None:
        """The loop sends each batch to ``device``.

        Move the objective there in ``prepare``.
        """
        for facts in self.ranks():
            if facts["devices"] != [facts["device"]]:
                where = f"the parameters of rank {facts['rank']} are on {', '.join(facts['devices'])}"
                raise CheckFailed(f"{where}; its device is {facts['device']}.")

    @check()
    def state_is_whole_and_by_full_name(self) -> None:
        """A checkpoint is read by other strategies, by their names.

        Give "model.NAME" and "optimizer.PHASE.SLOT.NAME" with the objective's own names, and whole tensors.
        """
        for facts in self.ranks():
            what = f"state() of rank {facts['rank']} before the first step"
            refuse_difference(dict(sorted(facts["state"].items())), dict(sorted(facts["shapes"].items())), what=what)
        refuse_difference(self._shapes("many"), self._shapes("one"), what="a checkpoint that it saves")

    @check()
    def a_checkpoint_of_another_model_is_refused(self) -> None:
        """Weights that have no place would be left out in silence, and others stay as they began.

        Raise CheckpointError where the names that begin with "model." are not the objective's.
        """
        for facts in self.ranks():
            if not facts["refused"]:
                raise CheckFailed(f"load_state() of rank {facts['rank']} takes the state of another model.")

    @check()
    def it_ends_where_one_process_does(self) -> None:
        """How many processes share the work is no setting of the result.

        Let gradients be sums over ranks: ``gradient_scale`` makes up for an engine that averages them.
        """
        self._refuse_another_end("many", "one", what="its weights")

    @check()
    def it_goes_on_from_another_strategy(self) -> None:
        """A run that was begun on one machine is continued on a larger one.

        Restore in ``load_state`` all that ``state`` gives, the optimisers' slots too.
        """
        self._refuse_another_end("from-one", "one", what=f"its weights after going on from step {_MIDDLE} of another")

    @check()
    def another_strategy_goes_on_from_it(self) -> None:
        """A run that was begun on many processes is continued, or looked at, in one.

        Give in ``state`` all that training changes.
        """
        folder = self.done()
        copy_back_to(_MIDDLE, source=folder / "many", target=folder / "from-many")
        train(self.in_one(), folder / "from-many", resume=True)
        what = f"the weights of another that goes on from its step {_MIDDLE}"
        self._refuse_another_end("from-many", "one", what=what)

    @check()
    def a_process_that_fails_ends_all_with_its_message(self) -> None:
        """Otherwise the others wait for it for ever, or its user learns that "a process failed".

        Raise in ``launch`` what the process raised, or an EtError with its rank and its traceback.
        """
        told = self._told()
        last = self.build().processes - 1
        if told["error"] is None:
            raise CheckFailed("a process fails, and launch() returns as if nothing had happened.")
        missing = [word for word in (TROUBLE, f"rank {last}" if last else "") if word not in told["error"]]
        if missing:
            raise CheckFailed(f"the error of launch() does not say {missing[0]!r}: {told['error']}")

    @check()
    def no_process_outlives_a_launch(self) -> None:
        """A process that is left behind keeps its memory, and a GPU.

        End all of them before ``launch`` returns or raises.
        """
        if left := self._told()["left"]:
            raise CheckFailed(f"after the last launch {len(left)} processes still run, such as {left[0]!r}.")

    def _told(self) -> dict[str, Any]:
        """What came of the launch that fails."""
        job = self.job()
        if not (job.folder / "told.json").exists():
            raise CheckFailed(f"the launch of which a process fails has no end: {job.failure}")
        told: dict[str, Any] = json.loads((job.folder / "told.json").read_text("utf-8"))
        return told

    def _shapes(self, run: str) -> dict[str, list[int]]:
        tensors = Checkpoints(self.done() / run / "checkpoints").load(_MIDDLE).tensors()
        return {name: list(tensor.shape) for name, tensor in sorted(tensors.items())}

    def _refuse_another_end(self, run: str, other: str, *, what: str) -> None:
        folder = self.done()
        far, name = furthest(weights_of(folder / run), weights_of(folder / other))
        if far > self.tolerance:
            apart = f"{name} is off by {far:.2g}, and may be by {self.tolerance:g}"
            raise CheckFailed(f"{what} are not those of one process: {apart}.")
        losses = losses_of(folder / run), losses_of(folder / other)
        refuse_difference(*losses, what="the losses are other than in one process", tolerance=self.tolerance)
