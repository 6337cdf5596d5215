from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from et_adabert.distillers.base import RowDistiller, half, projection
from et_adabert.distillers.layers import depth, layers_of, teacher_layers
from et_core.errors import ConfigError
from et_core.interfaces import Batch, Model, Observed


class Pkd(RowDistiller):
    """The first token's state in several layers follows the teacher's: L_PT of Sun et al. 2019, section 3.2.

    Per row, || s_i / ||s_i|| - t_I(i) / ||t_I(i)|| ||^2 for the student's layers i = 1 to K - 1. The last layer is left
    out: the logits teach that one. *layers* says what I is: "skip" spreads (2, 4, 6, 8, 10 of 12 for 6
    layers), "last" takes the topmost (7 to 11), a list names each, counted from 1. Where widths differ, the student's
    states first pass a linear layer that is trained with it.

    *reduce* "mean" averages over layers and width, as the public code does; the paper's weights beta, 10 to 1000,
    belong to it. The paper's formula, and "sum", adds up instead: (K - 1) * H times as much, 3840 times for 5 layers of
    768.
    """

    wants = frozenset({"layers"})
    forward_options = frozenset({"reduce"})

    def __init__(
        self,
        *,
        student: Model,
        teacher: Model,
        layers: Literal["skip", "last"] | list[int] = "skip",
        reduce: Literal["sum", "mean"] = "mean",
    ) -> None:
        super().__init__()
        own = depth(student)
        if own < 2:
            raise ConfigError(
                "pkd compares the layers below the last one, and the student has only one layer. "
                "Give it two or more (model.num_layers), or use vanilla-kd or probes."
            )
        self.recorded_layers = tuple(
            teacher_layers("pkd", layers, compared=own - 1, student=own, teacher=depth(teacher))
        )
        self._mean = reduce == "mean"
        self.project = projection(student, teacher)

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        """``{"states": [B, K - 1, H]}`` of unit length, in float16."""
        states = layers_of(teacher)
        return {"states": half(_unit(torch.stack([states[layer][:, 0] for layer in self.recorded_layers], 1)))}

    def compare(self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, progress: float) -> Tensor:
        pairs = zip(layers_of(student)[1:-1], recorded["states"].float().unbind(1), strict=True)
        apart = [(_unit(self.project(layer[:, 0].float())) - goal).square() for layer, goal in pairs]
        errors = torch.stack(apart, 1)
        return errors.mean((1, 2)) if self._mean else errors.sum((1, 2))


def _unit(states: Tensor) -> Tensor:
    return functional.normalize(states.float(), dim=-1)
