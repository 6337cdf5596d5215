from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from et_core.interfaces import Strategy

_WORTH_IT = 1.2
_EMULATED = 0.25
"""Below this speed of bf16 against fp32 it is not the processor that computes in it."""

_REPEATS = 7
log = logging.getLogger("et")


def choose_precision(wanted: str, *, strategy: Strategy, tokens: int, hidden_size: int) -> str:
    """Resolve "auto" to "bf16" or "fp32", the same on all ranks.

    On a CPU by timing the model's main product, [tokens, hidden] by [hidden, 4 * hidden], in both: whether bf16 pays
    depends on the processor and the shape, and where it is emulated it is many times slower.
    """
    if wanted != "auto":
        return wanted
    chosen = ""
    if strategy.is_main:
        chosen = _choose(strategy.device, max(16, tokens), hidden_size)
    return str(strategy.gather(chosen)[0])


def same_precision(trained: str, device: torch.device) -> str:
    """The precision that a model was *trained* in, for its predictions; fp32 where this machine only emulates bf16."""
    if trained != "bf16":
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    full, half = _timed(256, 512, repeats=1)
    return "bf16" if full / half >= _EMULATED else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context for a forward pass in *precision*."""
    if precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _choose(device: torch.device, tokens: int, hidden_size: int) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    full, half = _timed(tokens, hidden_size)
    log.info("precision: bf16 is %.1f times as fast as fp32 here at %d tokens by %d", full / half, tokens, hidden_size)
    return "bf16" if full / half >= _WORTH_IT else "fp32"


def _timed(tokens: int, hidden_size: int, *, repeats: int = _REPEATS) -> tuple[float, float]:
    """Seconds of one product in fp32 and in bf16, the least of *repeats* after a first one."""
    states, weights = torch.randn(tokens, hidden_size), torch.randn(hidden_size, 4 * hidden_size)
    # Casting the weights is part of the price under autocast.
    products: tuple[Callable[[], object], ...] = (
        lambda: states @ weights,
        lambda: states.bfloat16() @ weights.bfloat16(),
    )
    full, half = (_seconds(product, repeats) for product in products)
    return full, half


def _seconds(run: Callable[[], object], repeats: int) -> float:
    times = []
    run()
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
