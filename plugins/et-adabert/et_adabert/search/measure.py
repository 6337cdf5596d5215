from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from et_adabert.student.cell import OPERATIONS
from et_adabert.student.operations import make_operation
from et_core.interfaces import Batch, Inputs, Model, Text

_LEAST, _SECONDS = 5, 0.25
"""A figure is the median of so many calls at least, and of so many seconds."""


def latency_ms(model: Model, *, length: int, batch_size: int = 1, texts: int = 1) -> float:
    """The median time of a forward pass over rows of *length* tokens, on the device that *model* is on.

    Where a model reads the *texts* of a row apart, each has its share of the tokens.
    """
    device = next(model.parameters()).device
    length = min(length // texts, model.backbone.max_length or length)
    ids = torch.ones((batch_size, length), dtype=torch.int64, device=device)
    text = Text(ids, torch.ones_like(ids, dtype=torch.bool))
    batch = Batch(Inputs((text,) * texts), {}, torch.arange(batch_size))
    was_training = model.training
    model.eval()
    try:
        return _median_ms(lambda: model(batch), device)
    finally:
        model.train(was_training)


def operations_ms(hidden_size: int, *, length: int, device: torch.device) -> Tensor:
    """The time of each operation [10] on one text of *length* tokens."""
    states = torch.randn(1, hidden_size, length, device=device)
    found = []
    for name in OPERATIONS:
        operation: nn.Module = make_operation(name, hidden_size).to(device).eval()
        free = name in ("skip", "none")
        found.append(0.0 if free else _median_ms(lambda run=operation: run(states, states, None), device))  # type: ignore[misc]
    return torch.tensor(found)


def parameters_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _median_ms(call: Callable[[], object], device: torch.device) -> float:
    times: list[float] = []
    began = time.perf_counter()
    with torch.inference_mode():
        call()
        while len(times) < _LEAST or time.perf_counter() - began < _SECONDS:
            start = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(1000 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]
