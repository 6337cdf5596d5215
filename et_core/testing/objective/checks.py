from __future__ import annotations

from typing import ClassVar

from et_core.errors import EtError
from et_core.inference import Run
from et_core.registry import registry
from et_core.testing.objective.base import GIVEN, STEPS, ObjectiveSuite, copy_of, halves, owns, tensors_of
from et_core.testing.parts import signature_flaw, use_stand_ins
from et_core.testing.runs import (
    copy_back_to,
    furthest,
    losses_of,
    refuse_difference,
    train,
    train_and_keep,
    weights_of,
)
from et_core.testing.suite import CheckFailed, check
from et_core.training.groups import freeze, make_optimizer

_ROUNDING = 1e-5


def _sees_whole_batches(suite: ObjectiveConformance) -> str | None:
    return suite.whole_batches or None


def _changes_its_graph(suite: ObjectiveConformance) -> str | None:
    return None if suite.work().objective.static_graph else "static_graph is False: a step may leave parameters out"


def _announces_tokens(suite: ObjectiveConformance) -> str | None:
    return "new_tokens is True: it may draw any" if suite.work().objective.new_tokens else None


class ObjectiveConformance(ObjectiveSuite):
    """What every objective promises: it trains what it says and no more, in parts as in whole batches, goes on where it
    was stopped, and gives a model that can be saved."""

    minimum: ClassVar[int] = 14

    @check()
    def options_have_types_and_defaults(self) -> None:
        """Options are checked against the signature of the class; one without a type takes anything.

        Write them as keyword arguments with types and defaults; what a run gives goes to ``**rest``.
        """
        use_stand_ins()
        if flaw := signature_flaw("objectives", self.name, given=GIVEN):
            raise CheckFailed(f"{registry('objectives').get(self.name).__name__} {flaw}.")

    @check()
    def its_phases_and_splits_fit(self) -> None:
        """A phase on a split that does not exist, or shares that leave rows out, end a run before its first step.

        Give each phase a split of ``splits``, whose shares add up to 1, and patterns that match parameters.
        """
        try:
            work = self.work()
            for phase in work.objective.phases():
                make_optimizer(work.objective, phase, work.bench.config.train)
        except EtError as error:
            raise CheckFailed(str(error)) from error

    @check()
    def a_phase_moves_its_own_parameters(self) -> None:
        """Two optimisers on one parameter undo each other's work, and what no phase moves stays as it began.

        Give each parameter that trains to one phase; what the objective moves itself is named in ``moved_by_hand``.
        """
        work = self.work()
        phases = work.objective.phases()
        for name, parameter in work.objective.named_parameters():
            if parameter.requires_grad and not any(owns(phase, name) for phase in phases):
                raise CheckFailed(f"{name} is to be trained, and belongs to no phase.")
        for phase in phases:
            moved = self.moved(work, phase)
            for name in moved:
                if not owns(phase, name):
                    raise CheckFailed(f"a step of the phase {phase.name!r} moves {name}, which is none of its own.")
                others = [other.name for other in phases if other.name != phase.name and owns(other, name)]
                if others:
                    raise CheckFailed(f"{name} belongs to the phase {phase.name!r} and to {others[0]!r}.")

    @check()
    def frozen_parameters_stay(self) -> None:
        """``train.freeze`` is a promise, and a frozen teacher that changes is no teacher.

        Write into no parameter in ``draw``, ``counts`` or ``forward``, but for those named in ``moved_by_hand``.
        """
        trained = [name for name, p in self.work().objective.named_parameters() if p.requires_grad]
        for half in (trained[::2], trained[1::2]):
            work = self.work()
            if half != trained:  # a run refuses to freeze all there is
                freeze(work.objective, half)
            work.objective.train()
            fixed = {name for name, p in work.objective.named_parameters() if not p.requires_grad}
            for phase in work.objective.phases():
                if not any(owns(phase, name) for name in trained if name not in fixed):
                    continue  # it refuses that of one phase as well
                if moved := [name for name in self.moved(work, phase) if name in fixed]:
                    raise CheckFailed(f"a step of the phase {phase.name!r} moves {moved[0]}, which is frozen.")

    @check(unless=_changes_its_graph)
    def every_parameter_gets_a_gradient(self) -> None:
        """Engines that train in several processes wait for the gradient of every parameter, and stop without it.

        Freeze or leave out what no term depends on, or set ``static_graph = False``.
        """
        work = self.work()
        phases = work.objective.phases()
        for phase in phases:
            work.objective.zero_grad()
            work.backward(phase.name)
            for name, parameter in work.objective.named_parameters():
                if parameter.requires_grad and parameter.grad is None and (len(phases) == 1 or owns(phase, name)):
                    raise CheckFailed(f"{name} gets no gradient in a step of the phase {phase.name!r}.")

    @check()
    def frozen_parts_stay_in_evaluation(self) -> None:
        """A frozen teacher with dropout on says something else each time.

        Call ``super().train(mode)`` where ``train`` is overridden.
        """
        objective = self.work().objective
        for name, child in objective.named_children():
            if not list(child.parameters()):
                continue
            child.requires_grad_(False)
            objective.train()
            if awake := [place for place, part in child.named_modules() if part.training]:
                inside = f"{name}.{awake[0]}".rstrip(".")
                raise CheckFailed(f"train() puts {inside} into training, although all of {name} is frozen.")
            child.requires_grad_(True)

    @check()
    def counts_are_those_of_the_terms(self) -> None:
        """The loop divides sums by what ``counts`` said before, so gradients are off by their ratio.

        Count in both what is summed up: rows, tokens, or weights.
        """
        work = self.work()
        for phase in work.objective.phases():
            for index, batch in enumerate(work.batches):
                step = work.step(phase.name, index)
                drawn = work.objective.draw(batch, step)
                foretold = work.objective.counts(drawn, phase.name)
                terms = work.objective(drawn, step)
                found = {name: float(term.count) for name, term in terms.items()}
                expected = {name: float(count) for name, count in foretold.items()}
                what = f"in the phase {phase.name!r} forward() counts otherwise than counts()"
                refuse_difference(found, expected, what=what, tolerance=_ROUNDING * max(1.0, *expected.values()))

    @check(unless=_sees_whole_batches)
    def a_batch_is_the_sum_of_its_parts(self) -> None:
        """A batch is cut to the token budget, and shared out over processes: the loss would change with the machine.

        Give sums over rows, not means, and count what is summed up; let no row's term depend on another, or say in
        ``whole_batches`` why it does.
        """
        work = self.work()
        for phase in work.objective.phases():
            step = work.step(phase.name)
            drawn = work.objective.draw(work.batches[0], step)
            work.objective.eval()  # else dropout falls otherwise on the parts
            parts = [work.figures(part, step) for part in halves(drawn)]
            for what, expected in work.figures(drawn, step).items():
                found = sum(part[what] for part in parts)
                if not abs(found - expected) <= _ROUNDING * max(1.0, abs(expected)):  # which is true of nan too
                    raise CheckFailed(f"{what} is {expected:.6g} over {len(drawn)} rows, and {found:.6g} in two parts.")

    @check()
    def terms_keep_their_names(self) -> None:
        """A log has a line for each term, and counts are added up by name over ranks and parts.

        Name terms by what they are, and not by the step or the batch.
        """
        work = self.work()
        for phase in work.objective.phases():
            first = set(work.terms(phase.name))
            for index in range(1, STEPS):
                if (names := set(work.terms(phase.name, index))) != first:
                    raise CheckFailed(f"step 0 has the terms {sorted(first)}, and step {index} has {sorted(names)}.")

    @check()
    def a_step_can_be_repeated(self) -> None:
        """A run that is continued repeats steps, and all ranks have to draw the same.

        Draw from ``step.rng``, or from torch, which is seeded for each step and rank; from nothing else.
        """
        work = self.work()
        work.objective.train()
        for phase in work.objective.phases():
            before = copy_of(work.objective)
            first = work.sums(phase.name, 1)
            work.objective.load_state_dict(before)
            again = work.sums(phase.name, 1)
            for name, expected in first.items():
                if again[name] != expected:
                    raise CheckFailed(f"the term {name!r} of one step is {expected:.6g}, and then {again[name]:.6g}.")

    @check()
    def batches_are_left_as_they_are(self) -> None:
        """A batch may be read again, by another phase on the same split.

        Make new tensors in ``draw``, such as with ``masked_fill`` in place of ``masked_fill_``.
        """
        work = self.work()
        for phase in work.objective.phases():
            before = [{name: tensor.clone() for name, tensor in tensors_of(batch).items()} for batch in work.batches]
            for index in range(len(work.batches)):
                work.terms(phase.name, index)
            for batch, expected in zip(work.batches, before, strict=True):
                refuse_difference(tensors_of(batch), expected, what=f"the phase {phase.name!r} changes its batch")

    @check(unless=_announces_tokens)
    def new_tokens_are_announced(self) -> None:
        """A run leaves rows of the token table out that its data does not read, and a drawn token may be one of them.

        Set ``new_tokens = True``.
        """
        work = self.work()
        known = set(work.bench.parts.train.used_ids().tolist()) | {work.bench.parts.bundle.tokenizer.pad_id}
        for phase in work.objective.phases():
            for index, batch in enumerate(work.batches):
                drawn = work.objective.draw(batch, work.step(phase.name, index))
                new = {int(token) for text in drawn.inputs.texts for token in text.ids.flatten()} - known
                if new:
                    raise CheckFailed(f"draw() makes the token {min(new)}, which no row has.")

    @check()
    def result_leaves_the_objective_as_it_is(self) -> None:
        """``result`` is asked for at every evaluation: training would go on elsewhere with a dev set than without.

        Let it only read, and give the same weights each time.
        """
        work = self.work()
        before = copy_of(work.objective)
        first = copy_of(work.objective.result())
        again = copy_of(work.objective.result())
        if not first:
            raise CheckFailed("result() is a model without weights.")
        far, name = furthest(again, first)
        if far:
            raise CheckFailed(f"result() gives other weights the second time: {name} is off by {far:.2g}.")
        refuse_difference(copy_of(work.objective), before, what="result() changes the objective")

    @check()
    def what_is_saved_is_the_result(self) -> None:
        """A run's folder holds what ``result`` gives, and has to be loaded without the objective.

        Build models with ``build_backbone`` and ``build_model``.
        """
        path = self.folder() / "run"
        kept = train_and_keep(self.values(), path)
        try:
            loaded = Run.load(path).bundle
        except EtError as error:
            raise CheckFailed(f"what was saved cannot be loaded: {error}") from error
        far, name = furthest(copy_of(loaded.model), copy_of(kept.model))
        if far:
            raise CheckFailed(f"the model that is loaded has another {name}, off by {far:.2g}.")
        refuse_difference(self.answers(loaded), self.answers(kept), what="the model that is loaded gives other outputs")

    @check()
    def a_continued_run_ends_the_same(self) -> None:
        """A run that was stopped has to end as if it had not been.

        Keep what changes over steps in parameters or in buffers that are saved, and not in numbers of the object.
        """
        folder = self.folder()
        train(self.values(), folder / "whole")
        copy_back_to(3, source=folder / "whole", target=folder / "stopped")
        train(self.values(), folder / "stopped", resume=True)
        found, expected = losses_of(folder / "stopped"), losses_of(folder / "whole")
        refuse_difference(found, expected, what="a run that goes on from step 3 of 6 logs other losses")
        far, name = furthest(weights_of(folder / "stopped"), weights_of(folder / "whole"))
        if far:
            raise CheckFailed(f"a run that goes on from step 3 of 6 ends with another {name}, off by {far:.2g}.")
