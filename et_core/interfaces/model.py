from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from et_core.interfaces.backbone import Backbone
from et_core.interfaces.head import Head
from et_core.interfaces.inputs import Batch, Features

_ALWAYS = frozenset({"tokens", "pooled"})
"""Features that need not be asked for."""


class Model(nn.Module):
    """A backbone with a head for each task: what a run saves and what inference runs."""

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)

    def features(self, batch: Batch, *, want: frozenset[str] = frozenset()) -> Features:
        features: Features = self.backbone(batch.inputs, want=want)
        return features

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The outputs of the head of the batch's task, [B, ...] by name."""
        head = self.heads_by_task[batch.task]
        outputs: dict[str, Tensor] = head(self.features(batch, want=head.needs - _ALWAYS))
        return outputs

    @property
    def heads_by_task(self) -> dict[str, Head]:
        return {task: head for task, head in self.heads.items() if isinstance(head, Head)}
