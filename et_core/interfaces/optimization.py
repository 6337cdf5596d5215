from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch


class OptimizerFactory(ABC):
    """Builds an optimiser over parameter groups that already carry their own lr and weight decay."""

    @abstractmethod
    def build(self, groups: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """The optimiser over *groups*, in torch's form; *lr* and *weight_decay* are for what a group leaves out.

        It has to keep each group's further keys: the loop sets ``lr`` to ``peak_lr`` times the schedule's factor.
        """


class Schedule(ABC):
    """The learning rate over a run, as a factor of its peak."""

    def __init__(self, *, total_steps: int, warmup_steps: int) -> None:
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps

    def factor(self, step: int) -> float:
        """The factor for the update number *step* (from 0): a linear rise over the warm-up, then ``decay``."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        rest = max(1, self.total_steps - self.warmup_steps)
        return self.decay(min(1.0, (step - self.warmup_steps) / rest))

    @abstractmethod
    def decay(self, progress: float) -> float:
        """The factor after the warm-up; *progress* goes from 0 to 1."""
