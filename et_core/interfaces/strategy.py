from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from et_core.interfaces.inputs import Batch
from et_core.interfaces.objective import Objective, Step, Term


@dataclass
class Prepared:
    """An objective as a strategy runs it, with the optimiser of each phase."""

    objective: Objective
    run: Callable[[Batch, Step], Mapping[str, Term]]
    optimizers: dict[str, torch.optim.Optimizer]
    gradient_scale: float
    """What a loss is multiplied by, so that gradients are sums over ranks where the engine averages them."""

    synchronised: Callable[[bool], AbstractContextManager[Any]]
    """Context of one forward and backward pass; False puts off the exchange of gradients."""


MakeOptimizers = Callable[[Objective], dict[str, torch.optim.Optimizer]]


class Strategy(ABC):
    """Where the processes of a run are and how they share the work. Keyword arguments of the class are its settings."""

    @property
    @abstractmethod
    def processes(self) -> int:
        """How many processes train together."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """The number of this process, from 0."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where this process computes."""

    @abstractmethod
    def launch(self, worker: Callable[..., None], *args: Any) -> None:
        """Call ``worker(strategy, *args)`` in every process and return when all have ended.

        A failing process ends the others, and its error is raised here with its rank.
        """

    @abstractmethod
    def prepare(self, objective: Objective, make_optimizers: MakeOptimizers) -> Prepared:
        """Move *objective* to the device, wrap it, then build the optimisers over what came of it."""

    @abstractmethod
    def all_gather(self, tensor: Tensor) -> Tensor:
        """Join *tensor* [B, ...] of every rank along the first axis; gradients reach this rank's own part.

        B may differ by rank; every rank has to call this equally often.
        """

    @abstractmethod
    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Add up the *values* of all ranks; every rank passes the same names."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any]:
        """The picklable *value* of each rank, in rank order, on every rank."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until every rank has come here."""

    @abstractmethod
    def state(self, prepared: Prepared) -> dict[str, Tensor]:
        """Everything that training changes, as whole tensors by full parameter name, equal for all strategies.

        "model.NAME" are parameters and buffers, "optimizer.PHASE.SLOT.NAME" an optimiser's slots for a parameter.
        """

    @abstractmethod
    def load_state(self, prepared: Prepared, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` gave, also when another strategy wrote it; CheckpointError if names do not match."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0
