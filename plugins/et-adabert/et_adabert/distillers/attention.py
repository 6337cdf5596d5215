"""Queries, keys and values, as distillers compare them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from et_core.errors import ConfigError
from et_core.interfaces import Inputs, Model, Observed, Text

PARTS = "queries-keys-values"
"""Their name in ``Features.extra``."""


def parts_of(observed: Observed) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
    """The queries, keys and values [B, heads, L, d] of each layer."""
    parts: Any = observed.features.extra[PARTS]
    return tuple(parts)


def scores(first: Tensor, second: Tensor) -> Tensor:
    """Scaled products of all pairs of tokens, first @ second^T / sqrt(d): [B, heads, L, L] of two [B, heads, L, d]."""
    return first.float() @ second.float().mT / math.sqrt(first.shape[-1])


def check_heads(owner: str, student: int, teacher: int, remedy: str) -> None:
    """ConfigError, with *owner*, where two models have other numbers of heads."""
    if student != teacher:
        raise ConfigError(
            f"{owner} compares attention head by head, and the student has {student}, the teacher {teacher}. {remedy}"
        )


def heads_of(model: Model) -> int | None:
    """How many heads the last layer of *model* has, found with one token; None where it does not read plain text."""
    backbone = model.backbone
    if PARTS not in backbone.provides or "text" not in backbone.accepts:
        return None
    ids = torch.zeros((1, 1), dtype=torch.long, device=next(backbone.parameters()).device)
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        with torch.no_grad():
            features = backbone(Inputs((Text(ids, torch.ones_like(ids, dtype=torch.bool)),)), want=frozenset({PARTS}))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return int(features.extra[PARTS][-1][0].shape[1])


def check_same_heads(owner: str, student: Model, teacher: Model, remedy: str) -> None:
    """ConfigError, before anything is recorded, where the two models are known to have other numbers of heads."""
    found = heads_of(student), heads_of(teacher)
    if found[0] is not None and found[1] is not None:
        check_heads(owner, found[0], found[1], remedy)
