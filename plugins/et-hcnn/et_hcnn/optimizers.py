from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field

from et_core.interfaces import OptimizerFactory


class Adagrad(OptimizerFactory):
    """Duchi et al. 2011. Weight decay is an L2 penalty, added to the gradient.

    *initial_accumulator* is what each sum of squared gradients begins with: 0 in torch, 0.1 in TensorFlow, where the
    first steps are shorter.
    """

    def __init__(
        self,
        *,
        initial_accumulator: Annotated[float, Field(ge=0)] = 0.0,
        lr_decay: Annotated[float, Field(ge=0)] = 0.0,
        eps: Annotated[float, Field(gt=0)] = 1e-10,
    ) -> None:
        self._initial_accumulator = initial_accumulator
        self._lr_decay = lr_decay
        self._eps = eps

    def build(self, groups: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        # The fused kernel is there for the CPU alone.
        on_cpu = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
        return torch.optim.Adagrad(
            groups,
            lr=lr,
            weight_decay=weight_decay,
            initial_accumulator_value=self._initial_accumulator,
            lr_decay=self._lr_decay,
            eps=self._eps,
            fused=on_cpu,
        )
