from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from et_core.interfaces import Batch, Distiller
from et_core.testing.distiller.base import ROWS, DistillerSuite
from et_core.testing.distiller.observed import LARGE, SMALL, Case, pad, pad_batch, spoil
from et_core.testing.suite import CheckFailed, check
from et_core.testing.tensors import TOLERANCE, Tensors, generator, pick, splits

_PADDING = 3


def _fits_nothing(suite: RecordingChecks) -> str | None:
    return None if suite.case().distiller.fit_rows else "fit_rows = 0: it has nothing to learn first"


class RecordingChecks(DistillerSuite):
    """What a distiller keeps of a teacher, which is seen once: for each row by itself, in whatever batch it stood."""

    @check()
    def what_is_recorded_belongs_to_rows(self) -> None:
        """It goes to a file row by row, and comes back in other batches, padded to other lengths.

        Give tensors of floating point, [B, L, ...] under the names in ``per_token`` and [B, ...] under all others.
        """
        case = self.case()
        found, wider = case.record(), padded(case).record()
        if not found:
            raise CheckFailed("nothing is recorded of the teacher.")
        if missing := sorted(case.distiller.per_token - found.keys()):
            raise CheckFailed(f"per_token names {missing[0]!r}, which is not recorded: {', '.join(sorted(found))}.")
        for name, value in found.items():
            _check_kind(name, value)
            _check_shape(name, value, wider[name], case)

    @check()
    def each_row_is_recorded_by_itself(self) -> None:
        """In training a row stands beside others than when the teacher was seen.

        Take no mean, scale or order over the rows: what rows have in common is learned in ``fit``.
        """
        case = self.case()
        whole = case.record()
        for rows in (rows for parts in splits(ROWS) for rows in parts if len(rows)):
            some = case.rows(rows)
            if name := _other(some.record(), pick(whole, rows), some.batch, case.distiller):
                raise CheckFailed(f"{name!r} of rows {rows.tolist()} is another where they are recorded by themselves.")

    @check()
    def padding_changes_no_record(self) -> None:
        """How far a row is padded, and what a model computes there, depends on the rows beside it.

        Leave out with the mask what is not a real token, and divide by the number of real ones.
        """
        case = self.case()
        plain = case.record()
        length = case.batch.inputs.texts[0].ids.shape[1]
        spoilt = replace(case, teacher=spoil(case.teacher, case.batch, generator(3))).record()
        if name := _other(spoilt, plain, case.batch, case.distiller):
            raise CheckFailed(f"{name!r} is another with other numbers where the mask is False.")
        wide = padded(case).record()
        cut = {name: wide[name][:, :length] if name in case.distiller.per_token else wide[name] for name in wide}
        if name := _other(cut, plain, case.batch, case.distiller):
            raise CheckFailed(f"{name!r} is another with three more tokens of padding.")

    @check(unless=_fits_nothing)
    def the_same_rows_teach_it_the_same(self) -> None:
        """Some rows are recorded today and more of them tomorrow, by a distiller that was fitted anew.

        Begin at fixed values, or draw with a generator that you seed yourself.
        """
        first, second = self.case(), self.case()
        if name := _other(second.record(), first.record(), first.batch, first.distiller):
            raise CheckFailed(f"{name!r} of the same rows is another after it was fitted a second time.")

    @check(unless=_fits_nothing)
    def what_it_learns_stays_out_of_what_is_saved(self) -> None:
        """Where all rows are recorded already, nothing is fitted: weights that depend on it then differ.

        Keep what is learned in buffers with ``persistent=False``, and leave parameters as they are.
        """
        teacher = LARGE if self.other_sizes else SMALL
        distiller, _ = self.built(teacher)
        before = {name: tensor.clone() for name, tensor in distiller.state_dict().items()}
        self.fit(distiller, teacher)
        after = distiller.state_dict()
        if added := sorted(after.keys() - before.keys()):
            raise CheckFailed(f"fitting adds {', '.join(added)} to what is saved.")
        if moved := [name for name in before if not torch.equal(before[name], after[name])]:
            raise CheckFailed(f"fitting changes {', '.join(moved)}, which is trained with the student.")


def padded(case: Case) -> Case:
    """*case* with three more tokens of padding in each row."""
    student, teacher = (pad(part, case.batch, _PADDING) for part in (case.student, case.teacher))
    return replace(case, student=student, teacher=teacher, batch=pad_batch(case.batch, _PADDING))


def spoil_recorded(recorded: Tensors, batch: Batch, per_token: frozenset[str]) -> Tensors:
    """*recorded* with large other numbers for the tokens that are padding."""
    rng, mask = generator(4), batch.inputs.texts[0].mask
    spoilt = dict(recorded)
    for name in per_token & recorded.keys():
        value = recorded[name]
        garbage = (10 * torch.randn(value.shape, generator=rng)).to(value.dtype)
        spoilt[name] = torch.where(_over(mask, value), value, garbage)
    return spoilt


def _check_kind(name: str, value: Tensor) -> None:
    if not value.is_floating_point():
        raise CheckFailed(f"{name!r} is recorded in {value.dtype}, which is not of floating point.")
    if not bool(torch.isfinite(value).all()):
        raise CheckFailed(f"{name!r} is recorded in {value.dtype} with values that are not finite.")


def _check_shape(name: str, value: Tensor, wider: Tensor, case: Case) -> None:
    rows, length = case.batch.inputs.texts[0].ids.shape
    shape = list(value.shape)
    if shape[:1] != [rows]:
        raise CheckFailed(f"{name!r} is recorded as {shape} for {rows} rows.")
    if name not in case.distiller.per_token:
        if list(wider.shape) != shape:
            raise CheckFailed(
                f"{name!r} is recorded as {shape}, with three more tokens as {list(wider.shape)}. "
                "Name it in per_token, or keep as much of each text."
            )
    elif shape[1:2] != [length] or list(wider.shape) != [rows, length + _PADDING, *shape[2:]]:
        raise CheckFailed(
            f"{name!r} is in per_token, and recorded as {shape} of {length} tokens, "
            f"as {list(wider.shape)} of {length + _PADDING}."
        )


def _other(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], batch: Batch, distiller: Distiller) -> str:
    """The first name under which two recordings of *batch* differ by more than rounding; empty where none does."""
    mask = batch.inputs.texts[0].mask
    for name, value in expected.items():
        tolerance = max(TOLERANCE, 2 * torch.finfo(value.dtype).eps)
        first, second = found[name].double(), value.double()
        near = (first - second).abs() <= tolerance * second.abs().clamp(min=1)
        if name in distiller.per_token:
            near = near | ~_over(mask, near)
        if not bool(near.all()):
            return name
    return ""


def _over(mask: Tensor, tokens: Tensor) -> Tensor:
    """The *mask* [B, L] in as many dimensions as *tokens* [B, L, ...]."""
    return mask.view(*mask.shape, *(1 for _ in tokens.shape[2:]))
