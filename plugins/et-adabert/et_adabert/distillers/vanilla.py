from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from et_adabert.distillers.base import RowDistiller, check_temperature
from et_adabert.distillers.divergences import answer_of, divergence, logits_of
from et_core.errors import ConfigError
from et_core.interfaces import Batch, Observed, Ramp, value_at


class VanillaKd(RowDistiller):
    """The student's logits s follow the teacher's t (Hinton et al. 2015, section 2).

    Per row, *loss* "kl" is T^2 * KL(softmax(t / T) || softmax(s / T)) for one label of several. The factor T^2 keeps
    gradients of one size at all temperatures. For several labels it is the mean over labels of the same between two
    Bernoulli distributions, sigmoid(t / T) and sigmoid(s / T). "mse" is the mean over outputs of (s - t)^2, without
    temperature (Ba & Caruana 2014); EasyTransfer takes half of the sum over outputs and rows. "auto" is "mse" for
    regression and "kl" for labels. A *temperature* may change in the course of training.
    """

    forward_options = frozenset({"temperature", "loss"})

    def __init__(self, *, temperature: float | Ramp = 1.0, loss: Literal["auto", "kl", "mse"] = "auto") -> None:
        super().__init__()
        check_temperature("vanilla-kd", temperature)
        self._temperature = temperature
        self._loss = loss

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        """``{"logits": [B, C]}``, in fp32."""
        return {"logits": logits_of("vanilla-kd", teacher)}

    def compare(self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, progress: float) -> Tensor:
        mine, goal = logits_of("vanilla-kd", student), recorded["logits"].float()
        answer = answer_of(batch.targets, mine.shape[-1])
        if self._loss == "kl" and answer == "regression":
            raise ConfigError("vanilla-kd: loss is 'kl', and a number has no distribution. Leave it out, or say 'mse'.")
        if self._loss == "mse" or answer == "regression":
            return divergence(mine, goal, "regression")
        temperature = value_at(self._temperature, progress)
        return temperature**2 * divergence(mine, goal, answer, temperature)
