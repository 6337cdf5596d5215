from __future__ import annotations

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

    def count(self, batch: Batch) -> Tensor:
        """Rows."""
        return torch.tensor(float(len(batch)))

    def forward(self, student: Observed, teacher: Observed, batch: Batch) -> Term:
        ours, theirs = self._log_probabilities(student), self._log_probabilities(teacher).detach()
        divergence = (theirs.exp() * (theirs - ours)).sum()
        return Term(divergence * self._temperature**2, self.count(batch))

    def _log_probabilities(self, observed: Observed) -> Tensor:
        logits = observed.outputs["logits"]
        # bf16 has too few digits for the difference of two logarithms.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return (logits / self._temperature).log_softmax(-1)
