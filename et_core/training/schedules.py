from __future__ import annotations

import math

from et_core.interfaces import Schedule


class Linear(Schedule):
    def decay(self, progress: float) -> float:
        return 1.0 - progress


class Cosine(Schedule):
    def decay(self, progress: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * progress))


class Constant(Schedule):
    def decay(self, progress: float) -> float:
        return 1.0
