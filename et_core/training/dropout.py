from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float, level: int) -> Tensor:
        count = values.numel()
        # One random 64-bit word decides four elements, where torch draws a float for each.
        words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        draws = words.view(torch.int16)[:count].view(values.shape)
        mask = (draws >= level - _LEVELS // 2).to(values.dtype).mul_(1 / (1 - p))
        ctx.save_for_backward(mask)
        return values * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None, None


def dropout(values: Tensor, p: float) -> Tensor:
    """Inverted dropout of *values* on the CPU with probability *p*, in steps of 2 ** -16, from torch's generator."""
    level = round(p * _LEVELS)
    if level >= _LEVELS:
        return values * 0
    result: Tensor = _Dropout.apply(values, p, level) if p > 0.0 else values
    return result


class FastDropout(nn.Dropout):
    """Dropout with cheap random numbers on the CPU, where torch's own draws are a good part of a small model's step."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or values.device.type != "cpu":
            return super().forward(values)
        return dropout(values, self.p)


def use_fast_dropout(module: nn.Module) -> None:
    """Put FastDropout in the place of every plain ``nn.Dropout`` inside *module*."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, FastDropout(child.p))
