from __future__ import annotations

from typing import Any

import torch

from et_core.interfaces import OptimizerFactory


class ScoreAdam(OptimizerFactory):
    """Adam for the scores of a search, with betas of .5 and .99.

    The first is that of the authors' code. Their second, .999, remembers for the whole of a short search how steep the
    efficiency term was in its first steps, and hardly moves afterwards.
    """

    def build(self, groups: list[dict[str, Any]], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=lr, weight_decay=weight_decay, betas=(0.5, 0.99))
