from __future__ import annotations

from collections.abc import Mapping

import torch
from et_core.errors import ConfigError
from et_core.interfaces import Batch, Distiller, Observed, Term
from torch import Tensor


class SoftLabels(Distiller):
    """How far the student's probabilities are from the teacher's, both softened (Hinton et al. 2015, section 2).

    The Kullback-Leibler divergence of logits [B, C] divided by *temperature*, times its square, which keeps gradients
    of one size at all temperatures.
    """

    def __init__(self, *, temperature: float = 2.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"soft labels have temperature={temperature}. Give a number above 0.")
        self._temperature = temperature

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        """The teacher's logits, which are kept in a file: it is asked once, not in every epoch."""
        return {"logits": teacher.outputs["logits"].float()}

    def count(self, batch: Batch) -> Tensor:
        """Rows."""
        return torch.tensor(float(len(batch)))

    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        # bf16 has too few digits for the difference of two logarithms.
        ours, theirs = self._soften(student.outputs["logits"].float()), self._soften(recorded["logits"].float())
        divergence = (theirs.exp() * (theirs - ours)).sum()
        return Term(divergence * self._temperature**2, self.count(batch))

    def _soften(self, logits: Tensor) -> Tensor:
        return (logits / self._temperature).log_softmax(-1)
