"""Made-up features of a backbone, of the kinds that a head needs and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from et_core.interfaces import Features

_LAYERS, _HEADS = 3, 2


@dataclass(frozen=True)
class FeatureMaker:
    """Makes ``Features`` that hold what *needs* names, *width* wide; a row is the same in every batch."""

    needs: frozenset[str]
    width: int
    own: Callable[[Sequence[int]], Mapping[str, Tensor]] = lambda _numbers: {}
    """Further entries of ``Features.extra`` [B, ...] for the rows of these numbers."""

    def batch(
        self,
        lengths: Sequence[int],
        *,
        first: int = 0,
        order: Sequence[int] = (),
        extra: int = 0,
        garbage: float = 0.0,
        gradients: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Features:
        """Rows *first*, *first* + 1, ..., or those that *order* numbers, padded to the longest and *extra* beyond.

        Padding holds numbers around *garbage*, or zeros. With *gradients*, each tensor is a leaf that wants one.
        """
        numbers = list(order) or [first + index for index in range(len(lengths))]
        options: dict[str, Any] = {"numbers": numbers, "garbage": garbage, "dtype": dtype, "gradients": gradients}
        own = {name: tensor for name, tensor in self.own(numbers).items() if name in self.needs}
        if "towers" not in self.needs:
            made = _features(self.needs, self.width, lengths, extra=extra, salt=0, **options)
            return replace(made, extra={**made.extra, **own})
        needs = (self.needs - {"towers"}) or frozenset({"tokens", "pooled"})
        sizes = (lengths, [length % 5 + 1 for length in lengths])
        towers = tuple(
            _features(needs, self.width, sized, extra=extra, salt=salt, **options) for salt, sized in enumerate(sizes)
        )
        return Features(extra={"towers": towers, **own})


def tensors_of(features: Features) -> dict[str, list[Tensor]]:
    """The tensors of *features* by the need that they answer, those of each tower under its own."""
    found = {"tokens": [features.tokens], "pooled": [features.pooled]}
    named: dict[str, list[Tensor]] = {
        need: [tensor for tensor in tensors if tensor is not None] for need, tensors in found.items()
    }
    for need, value in features.extra.items():
        if need == "towers":
            towers: Any = value
            for index, tower in enumerate(towers):
                named[f"towers[{index}]"] = [tensor for group in tensors_of(tower).values() for tensor in group]
        else:
            named[need] = _leaves(value)
    return {need: tensors for need, tensors in named.items() if tensors}


def real_outputs(outputs: Mapping[str, Tensor], features: Features) -> list[dict[str, Tensor]]:
    """A head's outputs row by row; axes that run over tokens hold the real ones alone."""
    rows = []
    for row in range(len(next(iter(outputs.values())))):
        found = {}
        for name, output in outputs.items():
            values = output[row]
            for axis, size in enumerate(values.shape):
                mask = None if features.mask is None else features.mask[row]
                if mask is not None and size == len(mask):
                    values = values.index_select(axis, mask.nonzero().squeeze(1))
            found[name] = values
        rows.append(found)
    return rows


def _features(
    needs: frozenset[str],
    width: int,
    lengths: Sequence[int],
    *,
    numbers: Sequence[int],
    extra: int,
    salt: int,
    garbage: float,
    gradients: bool,
    dtype: torch.dtype,
) -> Features:
    rows = [_Row(number, salt, length, width) for number, length in zip(numbers, lengths, strict=True)]
    size = max(lengths) + extra
    mask = torch.arange(size) < torch.tensor(lengths)[:, None]
    noise = torch.Generator().manual_seed(99)

    def stack(parts: Sequence[Tensor], axes: tuple[int, ...]) -> Tensor:
        shape = [size if axis in axes else length for axis, length in enumerate(parts[0].shape)]
        stacked = torch.randn(len(parts), *shape, generator=noise) * garbage
        for index, part in enumerate(parts):
            place = [slice(0, length) if axis in axes else slice(None) for axis, length in enumerate(part.shape)]
            stacked[(index, *place)] = part
        return stacked.to(dtype).requires_grad_(gradients)

    made: dict[str, Any] = {}
    if "pooled" in needs:
        made["pooled"] = stack([row.vector() for row in rows], ())
    if "tokens" in needs:
        made["tokens"] = stack([row.states() for row in rows], (0,))
    extras: dict[str, object] = {}
    if "layers" in needs:
        extras["layers"] = tuple(stack([row.states() for row in rows], (0,)) for _ in range(_LAYERS + 1))
    if "attentions" in needs:
        extras["attentions"] = tuple(stack([row.maps() for row in rows], (1, 2)) for _ in range(_LAYERS))
    if "queries-keys-values" in needs:
        extras["queries-keys-values"] = tuple(
            tuple(stack([row.parts() for row in rows], (1,)) for _ in range(3)) for _ in range(_LAYERS)
        )
    return Features(**made, mask=mask if needs - {"pooled"} else None, extra=extras)


class _Row:
    """Draws the parts of one row, in the same order in every batch."""

    def __init__(self, number: int, salt: int, length: int, width: int) -> None:
        self._generator = torch.Generator().manual_seed(2000 + 100 * salt + number)
        self._length, self._width = length, width

    def vector(self) -> Tensor:
        return torch.randn(self._width, generator=self._generator)

    def states(self) -> Tensor:
        return torch.randn(self._length, self._width, generator=self._generator)

    def maps(self) -> Tensor:
        return torch.randn(_HEADS, self._length, self._length, generator=self._generator).softmax(-1)

    def parts(self) -> Tensor:
        return torch.randn(_HEADS, self._length, self._width // _HEADS, generator=self._generator)


def _leaves(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [leaf for item in value for leaf in _leaves(item)]
