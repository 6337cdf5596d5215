from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import BertConfig

from et_core.interfaces import Features, Head


class SequenceClassificationHead(Head):
    """Dropout and a linear layer on the pooled state: the head of transformers' BertForSequenceClassification."""

    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})

    def __init__(
        self,
        config: BertConfig,
        *,
        num_outputs: int,
        labels: Sequence[str] = (),
        problem_type: str | None = None,
        dropout: float | None = None,
    ) -> None:
        super().__init__()
        rate = next(r for r in (dropout, config.classifier_dropout, config.hidden_dropout_prob) if r is not None)
        self.dropout = nn.Dropout(rate)
        self.classifier = nn.Linear(config.hidden_size, num_outputs)
        nn.init.normal_(self.classifier.weight, std=config.initializer_range)
        nn.init.zeros_(self.classifier.bias)
        self._labels = list(labels) or [f"LABEL_{index}" for index in range(num_outputs)]
        self._problem_type = problem_type

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        """``{"logits": [B, C]}``, in fp32: bf16 knows only 128 numbers between 2 and 4, and regression needs more."""
        with torch.autocast(features.pooled.device.type, enabled=False):
            return {"logits": self.classifier(self.dropout(features.pooled.float()))}

    def config_entries(self) -> dict[str, Any]:
        """What config.json says of this head."""
        return {
            "architectures": ["BertForSequenceClassification"],
            "classifier_dropout": self.dropout.p,
            "id2label": {str(index): label for index, label in enumerate(self._labels)},
            "label2id": {label: index for index, label in enumerate(self._labels)},
            "num_labels": len(self._labels),
            "problem_type": self._problem_type,
        }


NATIVE_HEADS: dict[str, type[SequenceClassificationHead]] = {"sequence-classification": SequenceClassificationHead}
"""The heads of transformers' own BERT classes, by task."""
