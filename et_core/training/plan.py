from __future__ import annotations

import math
from dataclasses import dataclass

from et_core.config import TrainConfig


@dataclass(frozen=True)
class Plan:
    """What a run's settings come to on its data and machine; stored, so that a resumed run repeats it."""

    total_steps: int
    steps_per_epoch: int
    warmup_steps: int
    precision: str

    @classmethod
    def make(cls, train: TrainConfig, *, steps_per_epoch: int, precision: str) -> Plan:
        total = train.max_steps or max(1, math.ceil(train.epochs * steps_per_epoch))
        warmup = round(train.warmup * total) if train.warmup < 1 else round(train.warmup)
        return cls(total, steps_per_epoch, min(warmup, total), precision)

    def evaluates_after(self, step: int, eval_every: int | str | None) -> bool:
        """Whether dev is looked at after *step* steps; always at the end."""
        if step >= self.total_steps:
            return True
        if eval_every is None:
            return False
        return step % (self.steps_per_epoch if eval_every == "epoch" else int(eval_every)) == 0
