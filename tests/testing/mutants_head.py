"""A sound head, and for every check of heads one that is broken in just that way."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from et_core.hooks import Register, hookimpl
from et_core.interfaces import Features, Head
from et_core.testing import HeadConformance

ET_API = 1


@hookimpl
def et_register_heads(register: Register) -> None:
    for name in ("sound", *BROKEN):
        register(f"{name}-head", f"mutants_head:HEADS[{name}]", summary=f"The head called {name}")


class Sound(Head):
    """Scores of each token, with those of the whole text added."""

    needs: ClassVar[frozenset[str]] = frozenset({"tokens", "pooled"})

    def __init__(self, *, hidden_size: int, num_outputs: int, dropout: float | None = None, **spec: Any) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout or 0.1)
        self.token, self.text = nn.Linear(hidden_size, num_outputs), nn.Linear(hidden_size, num_outputs)

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        scores = self.token(self.dropout(features.tokens)) + self.context(features)[:, None]
        return {"logits": scores if positions is None else scores.flatten(0, 1)[positions]}

    def context(self, features: Features) -> Tensor:
        return self.text(self.mean(features) + self.pooled(features))

    def mean(self, features: Features) -> Tensor:
        mask = features.mask.unsqueeze(-1)
        return features.tokens.masked_fill(~mask, 0).sum(1) / mask.sum(1)

    def pooled(self, features: Features) -> Tensor:
        return features.pooled


class AddsUp(Sound):
    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        outputs = super().forward(features, positions=positions)
        return {**outputs, "loss": outputs["logits"].logsumexp(-1).mean()}


class OneMore(Sound):
    def __init__(self, *, num_outputs: int, **spec: Any) -> None:
        super().__init__(num_outputs=num_outputs + 1, **spec)


class OneWidth(Sound):
    def __init__(self, *, hidden_size: int, **spec: Any) -> None:
        super().__init__(hidden_size=16, **spec)


class ReadsLayers(Sound):
    def mean(self, features: Features) -> Tensor:
        return super().mean(features) + features.extra["layers"][0][:, 0]


class Squeezes(Sound):
    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": super().forward(features, positions=positions)["logits"].squeeze()}


class LooksAtOthers(Sound):
    def context(self, features: Features) -> Tensor:
        context = super().context(features)
        return context - context.mean(0)


class CountsPadding(Sound):
    def mean(self, features: Features) -> Tensor:
        return features.tokens.masked_fill(~features.mask.unsqueeze(-1), 0).mean(1)


class MasksSoftly(Sound):
    def mean(self, features: Features) -> Tensor:
        weights = features.tokens[..., 0].masked_fill(~features.mask, -9.0).softmax(-1)
        return (features.tokens * weights.unsqueeze(-1)).sum(1)


class AlwaysDrops(Sound):
    def pooled(self, features: Features) -> Tensor:
        return functional.dropout(features.pooled, 0.5)


class DrawsElsewhere(Sound):
    def pooled(self, features: Features) -> Tensor:
        return features.pooled + (np.random.default_rng().normal() if self.training else 0.0)


class Detaches(Sound):
    def pooled(self, features: Features) -> Tensor:
        return features.pooled.detach()


class HasUnused(Sound):
    def __init__(self, **spec: Any) -> None:
        super().__init__(**spec)
        self.unused = nn.Linear(2, 2)


class WritesIntoFeatures(Sound):
    def pooled(self, features: Features) -> Tensor:
        return features.pooled.mul_(0.5)


class Forgets(Sound):
    def __init__(self, **spec: Any) -> None:
        super().__init__(**spec)
        self.shift = torch.randn(())

    def pooled(self, features: Features) -> Tensor:
        return features.pooled + self.shift


class PassesOverPositions(Sound):
    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        return super().forward(features)


class DividesByLittle(Sound):
    def context(self, features: Features) -> Tensor:
        context = super().context(features)
        return context * 0.001 / (torch.full_like(context, 1.001) - 1)


class SOUND(HeadConformance):
    name = "sound-head"
    takes_positions = True


def broken(cls: type[Sound]) -> type[HeadConformance]:
    name = next(name for name, found in BROKEN.items() if found is cls)
    return type("Broken", (SOUND,), {"name": f"{name}-head"})


BROKEN: dict[str, type[Sound]] = {
    cls.__name__.lower(): cls for cls in list(globals().values()) if isinstance(cls, type) and Sound in cls.__bases__
}
HEADS: dict[str, type[Sound]] = {"sound": Sound, **BROKEN}

MUTANTS: dict[str, tuple[type[HeadConformance], str]] = {
    "it_computes_no_loss": (broken(AddsUp), "of 4 rows loss is []: its first axis has to run over the rows"),
    "num_outputs_is_the_width_of_logits": (broken(OneMore), "num_outputs is 1, and its logits are [4, 13, 2]"),
    "any_hidden_size_will_do": (broken(OneWidth), "with hidden_size=24 it raises RuntimeError"),
    "needs_is_honest": (broken(ReadsLayers), "given pooled and tokens, which is all it needs, it raises KeyError"),
    "one_row_is_a_batch": (broken(Squeezes), "of one row logits is [7, 3]: its first axis has to be 1"),
    "rows_do_not_see_each_other": (broken(LooksAtOthers), "other rows around it, in another order, moves logits"),
    "padding_changes_nothing": (broken(CountsPadding), "padding by 6 tokens more moves logits"),
    "garbage_under_the_mask_changes_nothing": (broken(MasksSoftly), "garbage under the mask moves logits"),
    "evaluation_is_deterministic": (broken(AlwaysDrops), "a second run in evaluation moves logits"),
    "training_repeats_with_a_seed": (broken(DrawsElsewhere), "training step with the same seed moves logits"),
    "gradients_reach_the_backbone": (broken(Detaches), "no gradient reaches pooled, which it says it needs"),
    "every_parameter_gets_a_gradient": (broken(HasUnused), "2 of 6 parameters get no gradient: unused.weight"),
    "features_are_left_as_they_were": (broken(WritesIntoFeatures), "forward moves pooled[0]"),
    "its_state_is_all_it_learns": (broken(Forgets), "saving and loading moves logits"),
    "positions_pick_tokens": (broken(PassesOverPositions), "gives logits the shape [4, 13, 3] instead of [9, 3]"),
    "bf16_is_finite": (broken(DividesByLittle), "bf16 makes 100% of logits nan or infinite"),
}
