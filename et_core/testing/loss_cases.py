"""What the checks of losses ask: a call whose answer is two scalars, what is left out, and outputs of odd sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from et_core.testing.suite import CheckFailed
from et_core.testing.tensors import Tensors, generator, pick

_PADDING = 2
_EXTREME = 1e4


def call(loss: Callable[..., object], outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> list[Tensor]:
    """The sum and the count; CheckFailed where they are not two scalar tensors."""
    found = loss(outputs, targets)
    if not isinstance(found, tuple) or len(found) != 2:
        raise CheckFailed(f"forward returns a {type(found).__name__}, not two tensors: the sum and the count.")
    for what, value in zip(("sum", "count"), found, strict=True):
        if not isinstance(value, Tensor) or value.ndim:
            shown = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise CheckFailed(f"the {what} is {shown}, not a scalar tensor.")
    return list(found)


def every_third(rows: int) -> Tensor:
    """A mask of so many *rows*, True for some of them."""
    return torch.arange(rows) % 3 == 1


def early_ends(label: Tensor) -> Tensor:
    """The last two tokens of every third row of *label* [B, L], as a mask of the same shape; its first stays."""
    rows, length = label.shape[:2]
    return every_third(rows)[:, None] & (torch.arange(length) >= max(1, length - _PADDING))


def without(tensors: Mapping[str, Tensor], ends: Tensor) -> Tensors:
    """The rows that end early by *ends* [B, L], cut off there."""
    rows, kept = ends.any(1), ~ends.any(0)
    return {
        name: part[:, kept] if per_token(tensors[name], ends) else part for name, part in pick(tensors, rows).items()
    }


def changed_at_ends(tensors: Mapping[str, Tensor], ends: Tensor) -> Tensors:
    """*tensors* with other values at *ends* [B, L], where they are numbers per token."""
    rng, found = generator(4), dict(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and per_token(tensor, ends):
            found[name] = tensor.clone()
            found[name][ends] = torch.randn(tensor[ends].shape, generator=rng)
    return found


def per_token(tensor: Tensor, ends: Tensor) -> bool:
    """Whether *tensor* is [B, L, ...], as *ends* [B, L] is."""
    return tensor.shape[:2] == ends.shape


def extremes(outputs: Tensors) -> dict[str, Tensors]:
    """Variants of *outputs* as large as they get, with all kinds of signs, and as small."""
    floats = {name: tensor for name, tensor in outputs.items() if tensor.is_floating_point()}
    signs = {name: torch.where(tensor < 0, -_EXTREME, _EXTREME) for name, tensor in floats.items()}
    return {
        f"outputs of {_EXTREME:g} and -{_EXTREME:g}": {**outputs, **signs},
        f"outputs of -{_EXTREME:g} and {_EXTREME:g}": {**outputs, **{name: -sign for name, sign in signs.items()}},
        f"outputs of {_EXTREME:g} alone": {**outputs, **{name: sign.abs() for name, sign in signs.items()}},
        "outputs of 0": {**outputs, **{name: torch.zeros_like(tensor) for name, tensor in floats.items()}},
    }
