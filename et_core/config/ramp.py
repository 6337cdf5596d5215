from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Ramp:
    """A number that goes from *start* to *end* in the course of training, such as a weight or a temperature.

    "exponential" multiplies by the same factor in equal times. ValueError unless both its ends are above 0.
    """

    start: float
    end: float
    shape: Literal["linear", "cosine", "exponential"] = "linear"

    def __post_init__(self) -> None:
        if self.shape == "exponential" and min(self.start, self.end) <= 0:
            raise ValueError("an exponential ramp multiplies, so that both of its ends are above 0")

    def at(self, progress: float) -> float:
        """The value when the share *progress* of training is done."""
        if self.shape == "exponential":
            return float(self.start * (self.end / self.start) ** progress)
        share = (1 - math.cos(math.pi * progress)) / 2 if self.shape == "cosine" else progress
        return self.start + (self.end - self.start) * share


def value_at(value: float | Ramp, progress: float) -> float:
    """A number, or a ramp's value when the share *progress* of training is done."""
    return value.at(progress) if isinstance(value, Ramp) else value
