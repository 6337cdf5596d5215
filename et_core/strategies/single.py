from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from et_core.errors import ConfigError
from et_core.interfaces import Objective, Prepared
from et_core.interfaces.strategy import MakeOptimizers
from et_core.strategies.replicated import Replicated, best_device


class Single(Replicated):
    """One process: the calling one."""

    def __init__(self, *, device: str | None = None) -> None:
        """*device* is torch's name of one ("cpu", "cuda:1"); None takes a GPU where there is one."""
        self._device = best_device() if device is None else _device(device)

    @property
    def processes(self) -> int:
        return 1

    @property
    def rank(self) -> int:
        return 0

    @property
    def device(self) -> torch.device:
        return self._device

    def launch(self, worker: Callable[..., None], *args: Any) -> None:
        worker(self, *args)

    def prepare(self, objective: Objective, make_optimizers: MakeOptimizers) -> Prepared:
        objective.to(self._device)
        return Prepared(objective, objective, make_optimizers(objective), 1.0, lambda _last: contextlib.nullcontext())

    def all_gather(self, tensor: Tensor) -> Tensor:
        return tensor

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        return dict(values)

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def barrier(self) -> None:
        return


def _device(name: str) -> torch.device:
    """The device of this machine that torch calls *name*; ConfigError where there is none."""
    accepted = ["cpu"]
    if torch.cuda.is_available():
        accepted += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        accepted.append("mps")
    if name not in accepted:
        raise ConfigError(f"strategy.device is {name!r}. Devices of this machine: {', '.join(accepted)}.")
    return torch.device(name)
