"""How far apart two sets of logits are, for each kind of label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor
from torch.nn import functional

from et_core.errors import ConfigError
from et_core.interfaces import Observed

Answer = Literal["single-label", "multi-label", "regression"]


def answer_of(targets: Mapping[str, Tensor], num_outputs: int) -> Answer:
    """What *num_outputs* logits stand for, which the labels among *targets* tell.

    Numbers [B, C] are those of a multi-label task, other numbers and a single output those of a regression; whole
    numbers, and no labels at all, mean one label of several.
    """
    label = targets.get("label")
    if label is not None and label.is_floating_point():
        return "multi-label" if label.ndim == 2 else "regression"
    return "regression" if num_outputs == 1 else "single-label"


def logits_of(owner: str, observed: Observed) -> Tensor:
    """The logits [B, C] in fp32; ConfigError, with *owner*, where the head gives none or gives them per token."""
    logits = observed.outputs.get("logits")
    if logits is None:
        raise ConfigError(f"{owner} compares logits, and the head gives only {', '.join(sorted(observed.outputs))}.")
    if logits.ndim != 2:
        raise ConfigError(f"{owner} compares logits [B, C], and the head gives {list(logits.shape)}.")
    return logits.float()


def divergence(student: Tensor, teacher: Tensor, answer: Answer, temperature: float = 1.0) -> Tensor:
    """From logits [..., C] of a student and its teacher, how far the student's answer is from the teacher's [...].

    One label of several: KL(softmax(t / T) || softmax(s / T)). Multi-label: the mean over labels of that between two
    Bernoulli distributions, sigmoid(t / T) and sigmoid(s / T). Regression: the mean squared difference, without T.
    """
    if answer == "regression":
        return (student - teacher).square().mean(-1)
    mine, goal = student / temperature, teacher / temperature
    if answer == "single-label":
        return _kl(mine.log_softmax(-1), goal.log_softmax(-1)).sum(-1)
    yes = _kl(functional.logsigmoid(mine), functional.logsigmoid(goal))
    no = _kl(functional.logsigmoid(-mine), functional.logsigmoid(-goal))
    return (yes + no).mean(-1)


def error(logits: Tensor, label: Tensor, answer: Answer) -> Tensor:
    """The loss [B, K] of K sets of logits [B, K, C] on the label of each row: the one that its task is trained with.

    Cross-entropy, its mean over labels for several of them, or the squared error.
    """
    if answer == "regression":
        return (logits.squeeze(-1) - label.float().unsqueeze(-1)).square()
    if answer == "single-label":
        picked = label.view(-1, 1, 1).expand(-1, logits.shape[1], 1)
        return -logits.log_softmax(-1).gather(-1, picked).squeeze(-1)
    wanted = label.float().unsqueeze(1).expand_as(logits)
    return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(-1)


def _kl(mine: Tensor, goal: Tensor) -> Tensor:
    """The summands of KL(goal || mine), both logarithms of probabilities."""
    return goal.exp() * (goal - mine)
