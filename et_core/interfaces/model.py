from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from et_core.interfaces.backbone import Backbone
from et_core.interfaces.head import Head
from et_core.interfaces.inputs import Batch, Features, Inputs, Observed

_ALWAYS = frozenset({"tokens", "pooled"})
"""Features that need not be asked for."""

_TOWERS = frozenset({"towers"})
"""What a model makes of any backbone that takes one text, which needs to know nothing of it."""


class Model(nn.Module):
    """A backbone with a head for each task: what a run saves and what inference runs."""

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)

    def features(self, batch: Batch, *, want: frozenset[str] = frozenset()) -> Features:
        """The backbone's features with what is wanted of ``Features.extra``.

        With "towers" each text of the batch goes through the backbone by itself, and the features are those of the
        texts, in ``extra["towers"]``. Marks go with the first text.
        """
        want -= _ALWAYS
        if not want & _TOWERS:
            features: Features = self.backbone(batch.inputs, want=want)
            return features
        marks = batch.inputs.marks
        alone = [Inputs((text,), {} if place else marks) for place, text in enumerate(batch.inputs.texts)]
        return Features(extra={"towers": tuple(self.backbone(inputs, want=want - _TOWERS) for inputs in alone)})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The outputs of the head of the batch's task, [B, ...] by name."""
        return dict(self.observe(batch).outputs)

    def observe(self, batch: Batch, *, want: frozenset[str] = frozenset()) -> Observed:
        """The features that the head of the batch's task looks at, with what else is wanted, and its outputs."""
        head = self.heads_by_task[batch.task]
        features = self.features(batch, want=want | head.needs)
        return Observed(features, head(features))

    @property
    def heads_by_task(self) -> dict[str, Head]:
        return {task: head for task, head in self.heads.items() if isinstance(head, Head)}


def provided_by(backbone: type[Backbone]) -> frozenset[str]:
    """What a model over *backbone* can give to a head: what it provides, and towers where it takes one text."""
    return backbone.provides | (_TOWERS if "text" in backbone.accepts else frozenset())


def accepted_by(accepts: frozenset[str], needs: frozenset[str]) -> frozenset[str]:
    """What examples may hold for a backbone that *accepts* so much, under a head with these *needs*.

    For towers one text is enough: the model gives it two separate ones in turn.
    """
    return accepts | {"texts"} if needs & _TOWERS and "text" in accepts else accepts
