from __future__ import annotations

import warnings
from typing import ClassVar

import torch
from torch import Tensor

from et_core.config import ComponentConfig
from et_core.data import IGNORED_LABEL
from et_core.interfaces import Loss, build_component
from et_core.testing.loss_cases import call, changed_at_ends, early_ends, every_third, extremes, per_token, without
from et_core.testing.suite import CheckFailed, Conformance, check
from et_core.testing.tensors import (
    Tensors,
    check_gradient,
    far,
    fixed_tensors,
    generator,
    gradients,
    leaves_of,
    number,
    pick,
    same,
    splits,
)

_ROWS, _TOKENS = 12, 5


def _rows_depend(suite: LossConformance) -> str | None:
    return None if suite.splits else "splits = False: the rows of a batch depend on each other"


def _leaves_nothing_out(suite: LossConformance) -> str | None:
    if suite.ignores is not None:
        return None if suite.ignores else f"ignores = False: no target of {IGNORED_LABEL} is left out"
    kind = suite.target_kind()
    return None if kind in ("index", "tokens") else f"target = {kind!r}: no label of {IGNORED_LABEL} among them"


def _no_bf16(suite: LossConformance) -> str | None:
    return None if suite.supports_bf16 else "supports_bf16 = False"


class LossConformance(Conformance):
    """What a loss promises. The made-up outputs and targets are those of ``target``, or of a suite's own methods."""

    kind: ClassVar[str] = "losses"
    minimum: ClassVar[int] = 11

    target: str = "auto"
    """What the targets are: "index" (logits [B, C], label [B]), "number" (logits [B, 1], label [B]), "labels" (logits
    [B, C], label [B, C] of 0 and 1) or "tokens" (logits [B, L, C], label [B, L]); "auto" is the first that it takes."""

    num_outputs: int = 4
    """C, the number of labels; as many as the loss's own weights, where it has some."""

    splits: bool = True
    """False where the rows of a batch depend on each other, as with in-batch negatives."""

    ignores: bool | None = None
    """Whether targets of -100 are left out; None where the kind of target says so: with "index" and "tokens"."""

    supports_bf16: bool = True
    """Whether outputs may come in bfloat16, as they do under autocast."""

    detached: frozenset[str] = frozenset()
    """Outputs that are read on purpose without a gradient."""

    def outputs(self, rows: int, rng: torch.Generator) -> Tensors:
        """Made-up outputs of a head for so many *rows*, by name, [B, ...]."""
        shapes = {"number": (rows, 1), "tokens": (rows, _TOKENS, self.num_outputs)}
        return {"logits": torch.randn(shapes.get(self.target_kind(), (rows, self.num_outputs)), generator=rng)}

    def targets(self, rows: int, rng: torch.Generator) -> Tensors:
        """Made-up targets to go with them, none of them left out."""
        match self.target_kind():
            case "number":
                return {"label": torch.randn(rows, generator=rng)}
            case "labels":
                return {"label": torch.randint(0, 2, (rows, self.num_outputs), generator=rng)}
            case "tokens":
                return {"label": torch.randint(0, self.num_outputs, (rows, _TOKENS), generator=rng)}
        return {"label": torch.randint(0, self.num_outputs, (rows,), generator=rng)}

    def ignore(self, targets: Tensors, places: Tensor) -> Tensors:
        """*targets* in which those at *places* are left out: by default, label is -100.

        True for each row [B] that is meant, or with "tokens" for each token [B, L].
        """
        label = targets["label"].clone()
        label[places] = IGNORED_LABEL
        return {**targets, "label": label}

    def loss(self) -> Loss:
        """The loss, built as a run does."""
        config = ComponentConfig(name=self.name, options=dict(self.config))
        loss: Loss = build_component("losses", config, where="loss")
        return loss

    def target_kind(self) -> str:
        """``target``, where "auto" is settled by trying."""
        return self.target if self.target != "auto" else self.shared("target", self._try_targets)

    def _try_targets(self) -> str:
        problems = []
        for kind in ("index", "number", "labels", "tokens"):
            trial = type("Trial", (type(self),), {"target": kind})()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # a tensor that is stretched to fit is one that does not
                    trial.loss()(*trial.case())
            except Exception as error:  # noqa: BLE001 - one that does not fit may fail in any way
                problems.append(f"{kind}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            else:
                return kind
        raise CheckFailed(
            f"{self.name} takes none of the made-up outputs and targets. Set target and num_outputs, or write the "
            f"methods outputs and targets. Tried: {'; '.join(problems)}"
        )

    def case(self, rows: int = _ROWS, seed: int = 0) -> tuple[Tensors, Tensors]:
        """Made-up outputs and targets of *rows*, the same for the same *seed*."""
        rng = generator(seed)
        return self.outputs(rows, rng), self.targets(rows, rng)

    @check()
    def sum_and_count_are_scalars(self) -> None:
        """Training adds sums and counts up over parts and processes, and takes one gradient of one number.

        Return two scalar tensors: the sum over all that is counted, and how much that is, without a gradient.
        """
        total, count = call(self.loss(), *self._leaves())
        if not total.requires_grad:
            raise CheckFailed("the sum has no gradient by the outputs, so it would train nothing.")
        if count.requires_grad:
            raise CheckFailed("the count has a gradient. It says how much was summed, and is learned from by nobody.")
        if not number(count) > 0:
            raise CheckFailed(f"the count of {_ROWS} rows with targets is {number(count):g}: it is above 0.")

    @check()
    def the_count_is_known_from_the_targets(self) -> None:
        """A step's count is summed over all processes before its first forward pass; gradients are divided by it.

        Let ``forward`` return what ``count`` does.
        """
        loss = self.loss()
        for rows in (1, 5, _ROWS):
            outputs, targets = self.case(rows, seed=rows)
            for found in (targets, *(self.ignore(targets, places) for places in self._left_out(targets, rows))):
                foretold, count = number(loss.count(found)), number(call(loss, outputs, found)[1])
                if far(foretold, count):
                    raise CheckFailed(f"count(targets) of {rows} rows is {foretold:g}, but forward returns {count:g}.")

    @check(unless=_rows_depend)
    def a_batch_twice_counts_twice(self) -> None:
        """The same rows twice are twice as much to learn from. A mean in place of a sum weighs rows by the batch.

        Add up over the rows; the loop divides by the count.
        """
        loss, once = self.loss(), self.case()
        twice = [{name: torch.cat([tensor, tensor]) for name, tensor in part.items()} for part in once]
        single, double = call(loss, *once), call(loss, twice[0], twice[1])
        for what, first, second in zip(("sum", "count"), single, double, strict=True):
            if far(second, 2 * first):
                raise CheckFailed(
                    f"the {what} of the same batch twice is {second:g}, that of one {first:g}: not twice."
                )

    @check(unless=_rows_depend)
    def any_split_adds_up(self) -> None:
        """A batch is cut where memory ends and dealt out to processes: with sums that do not add up, both change what
        is learned.

        Compute each row from that row alone. A loss that compares rows says ``splits = False``.
        """
        loss, (outputs, targets) = self.loss(), self.case()
        whole = call(loss, outputs, targets)
        for parts in splits(_ROWS):
            found = [call(loss, pick(outputs, rows), pick(targets, rows)) for rows in parts if len(rows)]
            for place, what in enumerate(("sum", "count")):
                added = sum(number(part[place]) for part in found)
                if far(added, whole[place]):
                    sizes = [len(part) for part in parts]
                    raise CheckFailed(f"{what}s of parts of {sizes} rows add up to {added:g}, not {whole[place]:g}.")

    @check(unless=_leaves_nothing_out)
    def ignored_labels_add_nothing(self) -> None:
        """Rows without a label, and the padding of labels per token, are -100: what they add is learned for nothing.

        Leave them out of the sum and the count, and let a batch of nothing else give 0 with a gradient of 0.
        """
        loss, (outputs, targets) = self.loss(), self.case()
        if self.target_kind() == "tokens":
            self._check_padding(loss, outputs, targets)
        left_out = every_third(_ROWS)
        leaves = leaves_of(outputs)
        total, count = call(loss, leaves, self.ignore(targets, left_out))
        for name, gradient in gradients(total, leaves).items():
            if gradient is not None and bool(gradient[left_out].any()):
                raise CheckFailed(f"rows that are left out get a gradient in {name!r}.")
        if self.splits:
            kept = call(loss, pick(outputs, ~left_out), pick(targets, ~left_out))
            for what, found, expected in zip(("sum", "count"), (total, count), kept, strict=True):
                if far(found, expected):
                    raise CheckFailed(f"the {what} with ignored rows is {found:g}, that of the others {expected:g}.")
        leaves = leaves_of(outputs)
        total, count = call(loss, leaves, self.ignore(targets, torch.ones(_ROWS, dtype=torch.bool)))
        if number(total) or number(count):
            raise CheckFailed(f"where all rows are ignored, the sum is {total:g} and the count {count:g}, not 0 and 0.")
        for name, gradient in gradients(total, leaves).items():
            if gradient is not None and not bool((gradient == 0).all()):
                raise CheckFailed(f"where all rows are ignored, the gradient of {name!r} is not 0.")

    @check()
    def the_order_of_rows_changes_nothing(self) -> None:
        """Rows come in another order in each epoch and on each number of processes.

        Treat all rows alike, and pair each with its own target.
        """
        loss, (outputs, targets) = self.loss(), self.case()
        order = torch.randperm(_ROWS, generator=generator(1))
        found, expected = call(loss, pick(outputs, order), pick(targets, order)), call(loss, outputs, targets)
        for what, mixed, plain in zip(("sum", "count"), found, expected, strict=True):
            if far(mixed, plain):
                raise CheckFailed(f"the {what} is {plain:g}, and {mixed:g} with the rows in another order.")

    @check()
    def the_gradient_is_the_slope(self) -> None:
        """A gradient that is not that of the sum trains towards something else, often nearly as well.

        Look for ``detach``, ``no_grad``, a value that is rounded, and backward functions of your own.
        """
        outputs, targets = self.case(4)
        doubled = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in targets.items()}
        loss = self.loss().double()
        leaves = {name: tensor for name, tensor in outputs.items() if name not in self.detached}
        check_gradient(lambda found: call(loss, {**outputs, **found}, doubled)[0], leaves)

    @check()
    def extremes_stay_finite(self) -> None:
        """One infinite value ends a run of days. Outputs of 1e4 do occur, and so do rows of zeros.

        Use log_softmax, logsigmoid and the like in place of the logarithm of a softmax; add an epsilon under roots.
        """
        loss, (outputs, targets) = self.loss(), self.case()
        for what, values in extremes(outputs).items():
            leaves = leaves_of(values)
            total, _ = call(loss, leaves, targets)
            if not bool(torch.isfinite(total)):
                raise CheckFailed(f"the sum is {number(total)} with {what}.")
            for name, gradient in gradients(total, leaves).items():
                if gradient is not None and not bool(torch.isfinite(gradient).all()):
                    raise CheckFailed(f"the gradient of {name!r} is not finite with {what}.")

    @check(unless=_no_bf16)
    def bfloat16_is_summed_in_full(self) -> None:
        """Under autocast outputs come in bfloat16, of which 257 and 258 are one number: sums of it lose rows.

        Raise the outputs with ``.float()`` first.
        """
        loss, (outputs, targets) = self.loss(), self.case(300)
        halved = {n: tensor.bfloat16() if tensor.is_floating_point() else tensor for n, tensor in outputs.items()}
        full = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in halved.items()}
        with torch.autocast("cpu", torch.bfloat16):
            found, expected = call(loss, halved, targets), call(loss, full, targets)
        for what, half, whole in zip(("sum", "count"), found, expected, strict=True):
            if half.is_floating_point() and half.dtype not in (torch.float32, torch.float64):
                raise CheckFailed(f"the {what} is of {half.dtype} where outputs are of torch.bfloat16: not float32.")
            if far(half, whole, 1e-3):
                raise CheckFailed(
                    f"the {what} is {half:g} with outputs of bfloat16, {whole:g} with the same in float32."
                )

    @check()
    def the_gradient_reaches_what_is_read(self) -> None:
        """An output that counts and gets no gradient is never learned; parallel training stops at its parameters.

        Where an output is read without a gradient on purpose, say so: ``detached = frozenset({"name"})``.
        """
        loss, (outputs, targets) = self.loss(), self.case()
        leaves = leaves_of(outputs)
        total, _ = call(loss, leaves, targets)
        for name, gradient in gradients(total, leaves).items():
            moved = {**outputs, name: outputs[name] + torch.randn(outputs[name].shape, generator=generator(2))}
            is_read = far(call(loss, moved, targets)[0], total)
            arrives = gradient is not None and bool(gradient.any())
            if is_read and not arrives and name not in self.detached:
                raise CheckFailed(f"the sum depends on {name!r}, but no gradient reaches it.")
            if arrives and not is_read:
                raise CheckFailed(f"a gradient reaches {name!r}, on which the sum does not depend.")

    @check()
    def what_it_reads_stays_as_it_is(self) -> None:
        """Several losses read the same outputs, and metrics do afterwards.

        Work on copies: no functions whose names end in an underscore, no assignment into a tensor.
        """
        loss = self.loss()
        leaves, targets = self._leaves()
        outputs = {name: leaf * 1 for name, leaf in leaves.items()}  # no leaves, which refuse to be written to
        before = [{name: tensor.clone() for name, tensor in part.items()} for part in (outputs, targets)]
        call(loss, outputs, targets)
        for what, found, expected in zip(("outputs", "targets"), (outputs, targets), before, strict=True):
            if not same(found, expected):
                raise CheckFailed(f"the {what} are no longer what they were before the call.")

    @check()
    def a_call_leaves_nothing_to_the_next(self) -> None:
        """Where what came before changes a loss, a resumed run learns something else than one that was not stopped.

        Keep nothing between calls; randomness belongs to the objective's ``draw``.
        """
        loss, case = self.loss(), self.case()
        before = [part.detach() for part in call(loss, *case)]
        call(loss, *self.case(5, seed=3))
        after = [part.detach() for part in call(loss, *case)]
        for what, first, second in zip(("sum", "count"), before, after, strict=True):
            if not torch.equal(first, second):
                raise CheckFailed(f"the {what} of one batch is {first:g} and then {second:g}.")

    @check()
    def its_state_moves_with_it(self) -> None:
        """A tensor in a plain attribute stays behind on the CPU when the model goes to a GPU, and the run stops there.

        Use ``self.register_buffer(name, tensor, persistent=False)``.
        """
        loss = self.loss()
        call(loss, *self.case())  # which may have kept something
        if held := fixed_tensors(loss):
            raise CheckFailed(f"{', '.join(held)} holds a tensor that is neither buffer nor parameter.")

    @check()
    def one_row_is_enough(self) -> None:
        """The last part of an epoch, or a small data set, may be one row.

        Beware of ``squeeze()`` without an axis, and of deviations over rows.
        """
        loss = self.loss()
        for seed in range(3):
            total, count = call(loss, *self.case(1, seed))
            if not bool(torch.isfinite(total)) or not bool(torch.isfinite(count)):
                raise CheckFailed(f"a batch of one row has the sum {number(total)} and the count {number(count)}.")

    def _leaves(self) -> tuple[Tensors, Tensors]:
        outputs, targets = self.case()
        return leaves_of(outputs), targets

    def _left_out(self, targets: Tensors, rows: int) -> list[Tensor]:
        """What of *targets* may be without a label: some rows, and where there are tokens the ends of some rows."""
        if _leaves_nothing_out(self) is not None:
            return []
        return [every_third(rows), *([early_ends(targets["label"])] if self.target_kind() == "tokens" else [])]

    def _check_padding(self, loss: Loss, outputs: Tensors, targets: Tensors) -> None:
        """Labels of -100 at the ends of some rows are as good as none: texts of a batch are of several lengths."""
        ends = early_ends(targets["label"])
        padded, leaves = self.ignore(targets, ends), leaves_of(outputs)
        total, count = call(loss, leaves, padded)
        for name, gradient in gradients(total, leaves).items():
            if gradient is not None and per_token(gradient, ends) and bool(gradient[ends].any()):
                raise CheckFailed(f"the padding at the end of rows gets a gradient in {name!r}.")
        if far(other := call(loss, changed_at_ends(outputs, ends), padded)[0], total):
            raise CheckFailed(f"the sum is {total:g}, and {other:g} with other outputs at the padding of rows.")
        if self.splits:
            whole, shorter = ~ends.any(1), (without(outputs, ends), without(targets, ends))
            parts = call(loss, pick(outputs, whole), pick(targets, whole)), call(loss, *shorter)
            for what, found, *expected in zip(("sum", "count"), (total, count), *parts, strict=True):
                if far(found, added := sum(map(number, expected))):
                    raise CheckFailed(f"the {what} with padded rows is {found:g}, that without padding {added:g}.")
