from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch

from et_core.testing.distiller.base import ROWS, complaining
from et_core.testing.distiller.observed import LARGE, SMALL, spoil
from et_core.testing.distiller.recording import RecordingChecks, padded, spoil_recorded
from et_core.testing.suite import CheckFailed, check
from et_core.testing.tensors import (
    InDouble,
    Tensors,
    check_gradient,
    far,
    fixed_tensors,
    generator,
    gradients,
    leaves_of,
    number,
    same,
    splits,
)

_EXTREME = 1e4
_STEPS, _LR = 300, 0.05


def _rows_depend(suite: DistillerConformance) -> str | None:
    return None if suite.splits else "splits = False: the rows of a batch depend on each other"


def _of_one_size(suite: DistillerConformance) -> str | None:
    return None if suite.other_sizes else "other_sizes = False: student and teacher are of one size"


def _no_bf16(suite: DistillerConformance) -> str | None:
    return None if suite.supports_bf16 else "supports_bf16 = False"


def _no_parameters(suite: DistillerConformance) -> str | None:
    return None if any(True for _ in suite.case().distiller.parameters()) else "it has no parameters of its own"


class DistillerConformance(RecordingChecks):
    """What a distiller promises, on made-up observations: free tensors with exactly the extras that it wants.

    A suite names the distiller and its options; what else it may set says ``DistillerSuite``.
    """

    minimum: ClassVar[int] = 20

    @check()
    def it_reads_what_it_wants(self) -> None:
        """What is wanted is computed and kept for every batch; what is read and not wanted is not there.

        Name in ``wants`` exactly the entries of ``Features.extra`` that ``record`` and ``forward`` read.
        """
        case = self.case()
        with complaining(case.distiller):
            before = case.term().sum
        for want in sorted(case.distiller.wants):
            names = [name for name in case.student.keys() | case.teacher.keys() if name.startswith(f"{want}.")]
            others = [replace(case, student=_moved(case.student, name)) for name in names if name in case.student]
            others += [replace(case, teacher=_moved(case.teacher, name)) for name in names if name in case.teacher]
            if not any(far(other.term().sum, before) for other in others):
                raise CheckFailed(f"it wants {want!r}, on which its sum does not depend.")

    @check()
    def equal_models_give_zero(self) -> None:
        """A term that is not 0 where nothing is left to learn pulls a student away from its teacher.

        Records in half precision are off by a rounding d, of which d * d is left in a square and 2d in its slope.
        Subtract what the teacher alone gives, as a Kullback-Leibler divergence does of a cross-entropy; let
        projections between equal sizes begin as the identity.
        """
        case = self.case(bridged=False)
        zero, slope = (1e-4, 1e-2) if _in_half(case.record()) else (1e-6, 1e-6)
        case.distiller.double()
        leaves = leaves_of(case.student, torch.float64)
        with InDouble():
            term = replace(case, student=leaves, teacher=leaves_of(leaves)).term()
        mean = number(term.sum) / max(number(term.count), 1.0)
        if not abs(mean) <= zero:
            raise CheckFailed(f"where student and teacher are equal, the mean is {mean:.2e}, not 0 to {zero:g}.")
        for name, gradient in gradients(term.sum, leaves).items():
            if gradient is not None and not float(gradient.abs().max()) <= slope:
                largest = float(gradient.abs().max())
                raise CheckFailed(f"where student and teacher are equal, {name} gets a gradient of {largest:.2e}.")

    @check()
    def different_models_give_more(self) -> None:
        """A term of 0 or below where models differ teaches nothing, or that being different is good.

        Take squares, absolute values, or a divergence from the teacher to the student.
        """
        for seed in range(3):
            found = number(self.case(seed=seed).term().sum)
            if not found > 1e-4:
                raise CheckFailed(f"where student and teacher are different, the sum is {found:g}.")

    @check()
    def the_gradient_reaches_the_student(self) -> None:
        """What is compared and gets no gradient is never learned.

        Look for ``detach`` and ``no_grad`` on the student's side, and for student and teacher in each other's place.
        """
        case = self.case()
        leaves = leaves_of(case.student)
        total = replace(case, student=leaves).term().sum
        found = gradients(total, leaves)
        reached = {name for name, gradient in found.items() if gradient is not None and bool(gradient.any())}
        for name in case.student:
            if name not in reached and far(replace(case, student=_moved(case.student, name)).term().sum, total):
                raise CheckFailed(f"the sum depends on the student's {name}, but no gradient reaches it.")
        if not reached:
            raise CheckFailed("no gradient reaches the student, on which the sum does not depend.")

    @check()
    def the_count_is_known_from_the_batch(self) -> None:
        """A step's count is summed over all processes before its first forward pass; gradients are divided by it.

        Let ``forward`` return what ``count`` does.
        """
        for rows in (1, 5, ROWS):
            case = self.case(rows, seed=rows)
            foretold, count = number(case.distiller.count(case.batch)), number(case.term().count)
            if far(foretold, count):
                raise CheckFailed(f"count(batch) of {rows} rows is {foretold:g}, but forward returns {count:g}.")

    @check()
    def it_holds_from_the_first_step_to_the_last(self) -> None:
        """Options that change in the course of training reach their last value, which is often the smallest.

        Divide by nothing that ends at 0, and count the same rows throughout.
        """
        case = self.case()
        for progress in (0.0, 0.5, 1.0):
            term = case.term(progress=progress)
            if not bool(torch.isfinite(term.sum)):
                raise CheckFailed(f"the sum is {number(term.sum)} when {progress:.0%} of training is done.")
            foretold = number(case.distiller.count(case.batch))
            if far(term.count, foretold):
                raise CheckFailed(f"the count is {number(term.count):g} instead of {foretold:g} at {progress:.0%}.")

    @check(unless=_rows_depend)
    def any_split_adds_up(self) -> None:
        """A batch is cut where memory ends and dealt out to processes: with sums that do not add up, both change what
        is learned.

        Sum over the rows and never average over them. A distiller that compares rows says ``splits = False``.
        """
        case = self.case()
        whole = case.term()
        for parts in splits(ROWS):
            found = [case.rows(rows).term() for rows in parts if len(rows)]
            for what in ("sum", "count"):
                added, expected = sum(number(getattr(term, what)) for term in found), number(getattr(whole, what))
                if far(added, expected):
                    sizes = [len(part) for part in parts]
                    raise CheckFailed(f"{what}s of parts of {sizes} rows add up to {added:g}, not {expected:g}.")

    @check()
    def the_order_of_rows_changes_nothing(self) -> None:
        """Rows come in another order in each epoch and on each number of processes.

        Treat all rows alike.
        """
        case = self.case()
        mixed, plain = case.rows(torch.randperm(ROWS, generator=generator(1))).term(), case.term()
        for what in ("sum", "count"):
            found, expected = number(getattr(mixed, what)), number(getattr(plain, what))
            if far(found, expected):
                raise CheckFailed(f"the {what} is {expected:g}, and {found:g} with the rows in another order.")

    @check()
    def what_lies_under_padding_changes_nothing(self) -> None:
        """Models compute something for padding too: a student that learns it learns noise.

        Multiply by the mask (``batch.inputs.texts[0].mask``) before the sum.
        """
        case = self.case()
        rng, kept, per_token = generator(3), case.record(), case.distiller.per_token
        student, teacher = (spoil(part, case.batch, rng) for part in (case.student, case.teacher))
        expected = number(case.term().sum)
        for whose, found in {
            "": replace(case, student=student, teacher=teacher).term(),
            " of what was recorded": case.term(recorded=spoil_recorded(kept, case.batch, per_token)),
        }.items():
            if far(found.sum, expected):
                raise CheckFailed(
                    f"other numbers{whose} where the mask is False change the sum from {expected:g} "
                    f"to {number(found.sum):g}."
                )

    @check()
    def more_padding_changes_nothing(self) -> None:
        """How far a row is padded depends on the rows beside it, which are others in each epoch.

        Divide by the number of real tokens, never by the length of the batch.
        """
        case = self.case()
        wide, plain = padded(case).term(), case.term()
        for what in ("sum", "count"):
            found, expected = number(getattr(wide, what)), number(getattr(plain, what))
            if far(found, expected):
                raise CheckFailed(f"three more tokens of padding change the {what} from {expected:g} to {found:g}.")

    @check(unless=_of_one_size)
    def other_sizes_are_bridged(self) -> None:
        """Students are smaller than their teachers: that is what they are for.

        Project the student's width to the teacher's (``student.backbone.hidden_size``) and say which layer learns
        from which. A distiller for models of one size leaves ``other_sizes`` False.
        """
        case = self.case(bridged=True)
        try:
            total = number(case.term().sum)
        except (RuntimeError, IndexError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise CheckFailed(f"it fails with a student of {SMALL} and a teacher of {LARGE}: {first}") from error
        if not (math.isfinite(total) and total > 0):
            raise CheckFailed(f"with a student of {SMALL} and a teacher of {LARGE} the sum is {total:g}.")

    @check(unless=_no_parameters)
    def its_own_parameters_learn(self) -> None:
        """A parameter that gets no gradient stays as it began, and parallel training stops at it.

        Make no more of them than ``forward`` uses, and keep them out of ``no_grad``.
        """
        case = self.case()
        total = case.term().sum
        for name, gradient in gradients(total, dict(case.distiller.named_parameters())).items():
            if gradient is None or not bool(gradient.any()):
                raise CheckFailed(f"no gradient reaches its parameter {name}.")

    @check()
    def it_keeps_no_model(self) -> None:
        """A model in an attribute becomes a part of the distiller: it is saved, moved and trained with it.

        Read sizes from *student* and *teacher* in the constructor, and keep the numbers.
        """
        case = self.case()
        for who, model in zip(("student", "teacher"), case.models, strict=True):
            if set(model.modules()) & set(case.distiller.modules()):
                raise CheckFailed(f"it keeps the {who}, or a part of it, as a part of itself.")

    @check()
    def the_gradient_is_the_slope(self) -> None:
        """A gradient that is not that of the sum trains towards something else, often nearly as well.

        Look for ``detach`` in the middle of a formula, and for values that are rounded.
        """
        case = self.case(4)
        case.distiller.double()
        teacher = {name: tensor.double() for name, tensor in case.teacher.items()}
        check_gradient(lambda found: replace(case, student=found, teacher=teacher).term().sum, case.student, fast=True)

    @check()
    def extremes_stay_finite(self) -> None:
        """One infinite value ends a run of days. Logits of 1e4 do occur, and attention that is exactly 0.

        Use log_softmax in place of the logarithm of a softmax, clamp before a logarithm, add an epsilon under roots.
        """
        case = self.case()
        signs = [
            {n: torch.where(t < 0, -_EXTREME, _EXTREME) for n, t in s.items()} for s in (case.student, case.teacher)
        ]
        zeros = [{name: torch.zeros_like(t) for name, t in part.items()} for part in (case.student, case.teacher)]
        for what, (student, teacher) in {f"values of {_EXTREME:g}": signs, "values of 0": zeros}.items():
            leaves = leaves_of(student)
            total = replace(case, student=leaves, teacher=teacher).term().sum
            if not bool(torch.isfinite(total)):
                raise CheckFailed(f"the sum is {number(total)} with {what}.")
            for name, gradient in gradients(total, leaves).items():
                if gradient is not None and not bool(torch.isfinite(gradient).all()):
                    raise CheckFailed(f"the gradient of the student's {name} is not finite with {what}.")

    @check(unless=_no_bf16)
    def bfloat16_is_summed_in_full(self) -> None:
        """Under autocast observations come in bfloat16, of which 257 and 258 are one number: sums of it lose rows.

        Raise them with ``.float()`` first.
        """
        case = self.case(64)
        student, teacher = (leaves_of(part, torch.bfloat16) for part in (case.student, case.teacher))
        with torch.autocast("cpu", torch.bfloat16):
            half = replace(case, student=student, teacher=teacher).term()
        for what, value in (("sum", half.sum), ("count", half.count)):
            if value.is_floating_point() and value.dtype not in (torch.float32, torch.float64):
                raise CheckFailed(f"the {what} is of {value.dtype} where all is of torch.bfloat16: not float32.")
        if not bool(torch.isfinite(half.sum)):
            raise CheckFailed(f"the sum is {number(half.sum)} where all is of torch.bfloat16.")

    @check()
    def what_it_reads_stays_as_it_is(self) -> None:
        """Several terms read the same observations, and the loss does afterwards; recordings are read in each epoch.

        Work on copies: no functions whose names end in an underscore, no assignment into a tensor.
        """
        case = self.case()
        student = {name: leaf * 1 for name, leaf in leaves_of(case.student).items()}
        recorded = {name: tensor.clone() for name, tensor in case.record().items()}  # as it comes from a file
        read = {"seen of the student": student, "seen of the teacher": case.teacher, "recorded": recorded}
        before = {what: {name: tensor.clone() for name, tensor in part.items()} for what, part in read.items()}
        replace(case, student=student).term(recorded=recorded)
        case.record()
        for what, part in read.items():
            if not same(part, before[what]):
                raise CheckFailed(f"what was {what} is no longer what it was before the call.")

    @check()
    def a_call_leaves_nothing_to_the_next(self) -> None:
        """Where what came before changes a term, a resumed run learns something else than one that was not stopped.

        Keep nothing between calls.
        """
        case = self.case()
        first = case.term()
        other = self.case(5, seed=4)
        replace(other, distiller=case.distiller).term()
        again = case.term()
        if not torch.equal(first.sum, again.sum) or not torch.equal(first.count, again.count):
            raise CheckFailed(f"the sum for one batch is {number(first.sum):g} and then {number(again.sum):g}.")

    @check()
    def its_state_moves_with_it(self) -> None:
        """A tensor in a plain attribute stays behind on the CPU when the model goes to a GPU, and the run stops there.

        Use ``self.register_buffer(name, tensor, persistent=False)``.
        """
        case = self.case()
        case.term()  # which may have kept something
        if held := fixed_tensors(case.distiller):
            raise CheckFailed(f"{', '.join(held)} holds a tensor that is neither buffer nor parameter.")

    @check()
    def the_student_learns(self) -> None:
        """A term whose gradient leads nowhere, or against the wall of a clamp, looks well and teaches nothing.

        The student's observations are free here, and 300 steps of Adam bring them near the teacher's.
        """
        case = self.case(bridged=False)  # a narrow student cannot come near at will, whatever it learns
        leaves = leaves_of(case.student)
        free = replace(case, student=leaves)
        parameters = [leaf for leaf in leaves.values() if leaf.requires_grad] + list(case.distiller.parameters())
        optimizer = torch.optim.Adam(parameters, lr=_LR)
        first = number(free.term().sum)
        for _ in range(_STEPS):
            optimizer.zero_grad()
            free.term().sum.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        last = number(free.term().sum)
        if not last < first / 10:
            raise CheckFailed(f"{_STEPS} steps bring the sum from {first:g} to {last:g}, not below a tenth.")


def _moved(raw: Tensors, name: str) -> Tensors:
    return {**raw, name: raw[name] + torch.randn(raw[name].shape, generator=generator(2))}


def _in_half(recorded: Tensors) -> bool:
    """Whether something is recorded in two bytes, of which sums are only as exact as its rounding."""
    return any(tensor.itemsize == 2 for tensor in recorded.values())
