from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from et_core.errors import ConfigError
from et_core.interfaces import Batch, Distiller, Model, Observed, Ramp, Term


class RowDistiller(Distiller):
    """A distiller in which every row counts once, so that any split of a batch gives the same sum.

    Computed in fp32 whatever the precision of the run is: differences and logarithms need the digits.
    """

    def count(self, batch: Batch) -> Tensor:
        """Rows."""
        return torch.tensor(float(len(batch)))

    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        device = next(iter(recorded.values())).device
        with torch.autocast(device.type, enabled=False):
            return Term(self.compare(student, recorded, batch, progress).sum(), self.count(batch))

    @abstractmethod
    def compare(self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, progress: float) -> Tensor:
        """How far each row of the student is from what was recorded of its teacher [B]."""


def half(states: Tensor) -> Tensor:
    """*states* in float16, of which the largest number is 65504."""
    largest = torch.finfo(torch.float16).max
    # In bf16 that number would be 65536, which is infinite in float16.
    return states.float().clamp(-largest, largest).half()


def projection(student: Model, teacher: Model) -> nn.Module:
    """A linear layer without bias from the student's width to the teacher's; nothing where they are equal."""
    widths = student.backbone.hidden_size, teacher.backbone.hidden_size
    return nn.Identity() if widths[0] == widths[1] else nn.Linear(*widths, bias=False)


def check_temperature(owner: str, temperature: float | Ramp) -> None:
    """ConfigError where *temperature* is not above 0 from the first step to the last."""
    ends = (temperature.start, temperature.end) if isinstance(temperature, Ramp) else (temperature,)
    if min(ends) <= 0:
        raise ConfigError(f"{owner}: temperature is {min(ends):g}, by which logits are divided. Give a number above 0.")
