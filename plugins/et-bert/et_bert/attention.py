from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from et_core.training.dropout import dropout as fast_dropout

NAME = "et-sdpa"


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention over [B, heads, L, d]; on a CPU that trains, with the cheaper dropout.

    There torch has no fused kernel with dropout and computes the same products one by one.
    """
    if dropout == 0.0 or query.device.type != "cpu" or getattr(module, "is_causal", False):
        output: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return output
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        # Half of the lowest number: a row that is masked whole then gives equal weights instead of nan.
        lowest = torch.finfo(scores.dtype).min / 2
        boolean = attention_mask.dtype == torch.bool
        scores = scores.masked_fill(~attention_mask, lowest) if boolean else scores + attention_mask
    mixed = fast_dropout(scores.softmax(-1), dropout) @ value
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
