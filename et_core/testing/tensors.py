"""What the checks of losses and distillers ask of tensors: rows, splits, gradients in double precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError, gradcheck
from torch.overrides import TorchFunctionMode

from et_core.testing.suite import CheckFailed

Tensors = dict[str, Tensor]

TOLERANCE = 1e-5
"""The largest difference, relative to the value or to 1, that rounding in float32 explains."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pick(tensors: Mapping[str, Tensor], rows: Tensor) -> Tensors:
    """The *rows* of tensors [B, ...]."""
    return {name: tensor[rows] for name, tensor in tensors.items()}


def leaves_of(tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Tensors:
    """Copies that ask for a gradient, as *dtype* where it is given; whole numbers are copied as they are."""
    return {
        name: tensor.detach().clone().to(dtype or tensor.dtype).requires_grad_()
        if tensor.is_floating_point()
        else tensor.clone()
        for name, tensor in tensors.items()
    }


def gradients(total: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """The gradient of *total* by the name of each leaf, None where none arrives."""
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    if not total.requires_grad:
        return dict.fromkeys(wanted)
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    return dict(zip(wanted, found, strict=True))


def splits(rows: int, seed: int = 0) -> Iterator[list[Tensor]]:
    """Ways to deal out *rows*: in halves, one by one, and in random parts of a random order."""
    everything = torch.arange(rows)
    yield list(everything.chunk(2))
    yield list(everything.chunk(rows))
    rng = generator(seed)
    for _ in range(4):
        order = torch.randperm(rows, generator=rng)
        cuts = sorted(set(torch.randint(1, rows, (3,), generator=rng).tolist()))
        yield list(order.tensor_split(cuts))


def far(found: Tensor | float, expected: Tensor | float, tolerance: float = TOLERANCE) -> bool:
    """Whether two values differ by more than *tolerance*, relative to the expected one or to 1; NaN always does."""
    difference = abs(number(found) - number(expected))
    return not difference <= tolerance * max(1.0, abs(number(expected)))


def number(value: Tensor | float) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else value


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether both hold the same names and the same values, bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class InDouble(TorchFunctionMode):
    """Code that raises to float32 by hand raises to float64 here, so that a difference of 1e-6 is not rounded away."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        function = Tensor.double if func is Tensor.float else func
        named = {name: _doubled(value) for name, value in (kwargs or {}).items()}
        return function(*(_doubled(value) for value in args), **named)


def _doubled(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def check_gradient(function: Callable[[Tensors], Tensor], leaves: Tensors, *, fast: bool = False) -> None:
    """CheckFailed where the gradient of *function* by its floating-point leaves differs from finite differences.

    Everything is in float64; *fast* compares along one random direction instead of entry by entry.
    """
    leaves = leaves_of(leaves, torch.float64)
    names = [name for name, leaf in leaves.items() if leaf.requires_grad]

    def scalar(*values: Tensor) -> Tensor:
        with InDouble():
            return function({**leaves, **dict(zip(names, values, strict=True))})

    inputs = tuple(leaves[name] for name in names)
    total = scalar(*inputs)
    if total.dtype is not torch.float64:
        raise CheckFailed(f"the sum is of {total.dtype} where all that goes in is of torch.float64.")
    if not total.requires_grad:
        raise CheckFailed("the sum has no gradient.")
    try:
        gradcheck(scalar, inputs, eps=1e-6, atol=1e-5, rtol=1e-3, fast_mode=fast)
    except GradcheckError as error:
        found = " ".join(str(error).partition("The above quantities")[0].split())
        raise CheckFailed(f"the gradient is not the slope of the sum: {found[:400]}") from error


def fixed_tensors(module: nn.Module) -> list[str]:
    """The attributes of *module* and its parts with tensors that are neither buffers nor parameters."""
    found = []
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name not in ("_parameters", "_buffers", "_modules") and _holds_tensor(value):
                found.append(f"{prefix}.{name}".lstrip("."))
    return found


def _holds_tensor(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_tensor(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(item) for item in value)
    return isinstance(value, Tensor)
