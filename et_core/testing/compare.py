"""Say how far two results are apart, in the words of a failed check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from et_core.interfaces import Features
from et_core.testing.suite import CheckFailed

ROUNDING = 1e-5
"""How far fp32 results may be apart that are equal on paper, for values up to 1: ten times what is seen, and a
thousandth of what a component does that looks at padding."""


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, what: str, most: float = 0.0) -> None:
    """CheckFailed where a tensor of *expected* is missing in *found* or differs by more than *most*.

    *what* begins the sentence, such as "padding to 12 tokens". *most* is for values up to 1 and grows with them.
    """
    if missing := sorted(expected.keys() ^ found.keys()):
        raise CheckFailed(f"{what} gives {_names(found)} instead of {_names(expected)}: {missing[0]} differs.")
    for name, wanted in expected.items():
        got = found[name]
        if got.shape != wanted.shape:
            raise CheckFailed(f"{what} gives {name} the shape {list(got.shape)} instead of {list(wanted.shape)}.")
        if torch.equal(got, wanted):
            continue
        apart = float((got.detach().double() - wanted.detach().double()).abs().max())
        allowed = most * max(1.0, float(wanted.detach().abs().max()))
        if not apart <= allowed:  # nan is no number that would be larger
            limit = f"at most {most:g}" if most else "it has to stay equal"
            raise CheckFailed(f"{what} moves {name} by {apart:.1e} ({limit}).")


def compare_rows(
    found: Sequence[Mapping[str, Tensor]], expected: Sequence[Mapping[str, Tensor]], *, what: str, most: float = 0.0
) -> None:
    """``compare`` row by row; a message names the row as in "tokens of row 2"."""
    if len(found) != len(expected):
        raise CheckFailed(f"{what} gives {len(found)} rows instead of {len(expected)}.")
    for index, (got, wanted) in enumerate(zip(found, expected, strict=True)):
        compare(_of_row(got, index), _of_row(wanted, index), what=what, most=most)


def rows_of(features: Features) -> list[dict[str, Tensor]]:
    """What *features* say of each row at its real positions, by name; padding is left out."""
    named = {name: pick for name, pick in _picks(features).items() if pick is not None}
    count = len(features.pooled if features.pooled is not None else _mask(features))
    return [{name: pick(row) for name, pick in named.items()} for row in range(count)]


def finite(named: Mapping[str, Tensor], *, what: str) -> None:
    """CheckFailed where a tensor holds nan or infinity."""
    for name, tensor in named.items():
        if not bool(tensor.isfinite().all()):
            share = float((~tensor.isfinite()).float().mean())
            raise CheckFailed(f"{what} makes {share:.0%} of {name} nan or infinite.")


def listed(names: Sequence[str], *, most: int = 5) -> str:
    """The first of *names*, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _picks(features: Features) -> dict[str, Callable[[int], Tensor] | None]:
    tokens, pooled, extra = features.tokens, features.pooled, features.extra
    picks: dict[str, Callable[[int], Tensor] | None] = {
        "tokens": None if tokens is None else lambda row: tokens[row][_mask(features)[row]],
        "pooled": None if pooled is None else lambda row: pooled[row],
    }
    layers: Any = extra.get("layers", ())
    for index, layer in enumerate(layers):
        picks[f"layers[{index}]"] = lambda row, layer=layer: layer[row][_mask(features)[row]]  # type: ignore[misc]
    attentions: Any = extra.get("attentions", ())
    for index, maps in enumerate(attentions):
        picks[f"attentions[{index}]"] = lambda row, maps=maps: _square(maps[row], _mask(features)[row])  # type: ignore[misc]
    triples: Any = extra.get("queries-keys-values", ())
    for index, triple in enumerate(triples):
        for part, states in zip(("queries", "keys", "values"), triple, strict=True):
            picks[f"{part}[{index}]"] = lambda row, s=states: s[row][:, _mask(features)[row]]  # type: ignore[misc]
    return picks


def _mask(features: Features) -> Tensor:
    if features.mask is None:
        raise CheckFailed(
            "Features.mask is None beside tokens, layers or attentions: nobody can tell padding from them."
        )
    return features.mask


def _square(maps: Tensor, mask: Tensor) -> Tensor:
    return maps[:, mask][:, :, mask]


def _of_row(named: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    return {f"{name} of row {row}": tensor for name, tensor in named.items()}


def _names(named: Mapping[str, Tensor]) -> str:
    return listed(sorted(named)) or "nothing"
