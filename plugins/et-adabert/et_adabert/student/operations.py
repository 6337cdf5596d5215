from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from et_adabert.student.cell import CONVOLUTIONS

_LEAST = 0.01
"""What a step's statistics weigh at least in the running ones."""

_LATER = 4
"""The n-th batch weighs as n ** (_LATER - 1) in them, about (polynomial-decay averaging, Shamir and Zhang 2013)."""

_ALONE, _RISING = 20, 100
"""So many batches are normalised by their own statistics alone, and over so many more the corrections grow to"""

_MOST_SCALE, _MOST_SHIFT = 3.0, 5.0
"""which are r_max and d_max of Ioffe 2017."""


class TokenNorm(nn.Module):
    """Batch renormalisation (Ioffe 2017) of [B, H, L] over real tokens: padding counts in no statistic.

    The paper's codes have plain batch normalisation. Batches are by length here, and a network that has seen long texts
    only by the statistics of long texts judges them wrongly by those of all, which is what evaluation has.
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(self, hidden_size: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self._eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        self.register_buffer("running_mean", torch.zeros(hidden_size))
        self.register_buffer("running_var", torch.ones(hidden_size))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """*states* normalised by their own statistics, corrected towards the running ones, as in training.

        *mask* [B, 1, L] is 1 on real tokens. With r = sigma_B / sigma and d = (mu_B - mu) / sigma, both within bounds
        and without a gradient, y = weight * (r * (x - mu_B) / sigma_B + d) + bias.
        """
        if mask is None:
            count = torch.tensor(float(states.numel() // states.shape[1]))
            variance, mean = torch.var_mean(states, (0, 2), correction=0)
            centred = states - mean[:, None]
        else:
            count = mask.sum()
            mean = (states * mask).sum((0, 2)) / count
            centred = states - mean[:, None]
            variance = (centred.square() * mask).sum((0, 2)) / count
        deviation = torch.sqrt(variance + self._eps)
        r, d = self._corrections(mean, deviation)
        self._remember(mean, variance * (count / (count - 1).clamp(min=1)))
        return centred * (self.weight * r / deviation)[:, None] + (self.bias + self.weight * d)[:, None]

    @torch.no_grad()
    def _corrections(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        # Tensors throughout: on a GPU numbers would have to be waited for.
        risen = ((self.batches - _ALONE) / _RISING).clamp(0, 1)
        running = torch.sqrt(self.running_var + self._eps)
        most = 1 + (_MOST_SCALE - 1) * risen
        r = (deviation / running).clamp(1 / most, most)
        return r, ((mean - self.running_mean) / running).clamp(-_MOST_SHIFT * risen, _MOST_SHIFT * risen)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.batches += 1
        momentum = (_LATER / (self.batches + _LATER - 1)).clamp(min=_LEAST)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)

    def affine(self) -> tuple[Tensor, Tensor]:
        """What the normalisation by running statistics comes to: a factor and a summand for each state [H]."""
        scale = self.weight * torch.rsqrt(self.running_var + self._eps)
        return scale, self.bias - self.running_mean * scale


class Convolution(nn.Module):
    """Convolution and batch normalisation of states that went through a ReLU, at the same length."""

    def __init__(self, hidden_size: int, width: int, dilation: int) -> None:
        super().__init__()
        padding = dilation * (width // 2)
        self.conv = nn.Conv1d(hidden_size, hidden_size, width, padding=padding, dilation=dilation, bias=False)
        self.norm = TokenNorm(hidden_size)

    def forward(self, states: Tensor, rectified: Tensor, mask: Tensor | None) -> Tensor:
        if self.training:
            normed: Tensor = self.norm(self.conv(rectified).float(), mask)
            return normed
        # One pass over the states instead of two: the factor goes into the kernel, which is small.
        scale, summand = self.norm.affine()
        kernel = self.conv.weight * scale[:, None, None]
        return functional.conv1d(rectified, kernel, summand, padding=self.conv.padding, dilation=self.conv.dilation)


class MaxPool(nn.Module):
    """The largest of a token and its two neighbours; no rectified state is below 0, so padding of 0 is no rival."""

    def forward(self, states: Tensor, rectified: Tensor, mask: Tensor | None) -> Tensor:
        return functional.max_pool1d(rectified, 3, stride=1, padding=1)


class AveragePool(nn.Module):
    """A third of the sum of a token and its two neighbours, of which those beyond the text count as 0."""

    def forward(self, states: Tensor, rectified: Tensor, mask: Tensor | None) -> Tensor:
        return functional.avg_pool1d(rectified, 3, stride=1, padding=1)


class Skip(nn.Module):
    """The states as they are."""

    def forward(self, states: Tensor, rectified: Tensor, mask: Tensor | None) -> Tensor:
        return states


class Nothing(nn.Module):
    """No contribution."""

    def forward(self, states: Tensor, rectified: Tensor, mask: Tensor | None) -> Tensor:
        return torch.zeros_like(states)


_PLAIN = {"max3": MaxPool, "avg3": AveragePool, "skip": Skip, "none": Nothing}


def make_operation(name: str, hidden_size: int) -> nn.Module:
    """The operation *name* on states [B, H, L]: called with the states, the same after a ReLU, and the mask.

    Convolutions are as in the paper: ReLU, convolution, batch normalisation, the dilated ones with gaps of one token.
    EasyTransfer's TensorFlow code has a grey-scale dilation in their place, which is no convolution. Whatever is put
    out at padding, the caller masks.
    """
    return Convolution(hidden_size, *CONVOLUTIONS[name]) if name in CONVOLUTIONS else _PLAIN[name]()
