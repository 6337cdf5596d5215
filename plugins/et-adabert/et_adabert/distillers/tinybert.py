from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from et_adabert.distillers.attention import PARTS, check_heads, check_same_heads, parts_of, scores
from et_adabert.distillers.base import RowDistiller, half, projection
from et_adabert.distillers.layers import depth, layers_of, teacher_layers
from et_core.errors import ConfigError
from et_core.interfaces import Batch, Model, Observed

_REMEDY = "Set model.num_heads of the student, or leave attention out: attention: false."


class TinyBert(RowDistiller):
    """Attention and states of the student's layers follow the teacher's (Jiao et al. 2020, equations 7 to 9).

    Per row, the sum over layers m of two means, each over real tokens only:

    - *attention*: the mean over heads and pairs of tokens of (A_m - A_g(m))^2 with A = Q K^T / sqrt(d). Like the paper,
      this compares scores before the softmax, which it found to converge faster. Both need the same number of heads.
    - *hidden*: the mean over tokens and width of (H_m W - H_g(m))^2, from the embeddings (m = 0 = g(0)) to the last
      layer. W is trained, and not there where widths are equal. The paper has one W for the embeddings and one for the
      layers; its code, like this, shares one.

    *layers* says what g is: "uniform" is m * N / M, "last" the topmost, a list names each, counted from 1. Queries and
    keys are recorded, not maps: 4 M H bytes a token, and 2 (M + 1) H for states, 29 kB for 6 layers of 768.
    """

    def __init__(
        self,
        *,
        student: Model,
        teacher: Model,
        attention: bool = True,
        hidden: bool = True,
        layers: Literal["uniform", "last"] | list[int] = "uniform",
    ) -> None:
        super().__init__()
        if not (attention or hidden):
            raise ConfigError("tinybert: neither attention nor hidden is left to compare. Leave the term out.")
        own = depth(student)
        self.recorded_layers = tuple(
            teacher_layers("tinybert", layers, compared=own, student=own, teacher=depth(teacher))
        )
        if attention:
            check_same_heads("tinybert", student, teacher, _REMEDY)
        self._attention, self._hidden = attention, hidden
        self.project: nn.Module = projection(student, teacher) if hidden else nn.Identity()
        # What is not compared need not be computed or kept.
        wants = {PARTS: attention, "layers": hidden}
        names = {"queries": attention, "keys": attention, "states": hidden}
        self.wants = frozenset(want for want, compared in wants.items() if compared)  # type: ignore[misc]
        self.per_token = frozenset(name for name, compared in names.items() if compared)  # type: ignore[misc]

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        """``"queries"`` and ``"keys"`` [B, L, M, heads, d], ``"states"`` [B, L, M + 1, H], in float16."""
        found = {}
        if self._attention:
            parts = parts_of(teacher)
            for place, name in enumerate(("queries", "keys")):
                chosen = [parts[layer - 1][place].transpose(1, 2) for layer in self.recorded_layers]
                found[name] = half(torch.stack(chosen, 2))
        if self._hidden:
            states = layers_of(teacher)
            found["states"] = half(torch.stack([states[layer] for layer in (0, *self.recorded_layers)], 2))
        return found

    def compare(self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, progress: float) -> Tensor:
        mask = batch.inputs.texts[0].mask
        rows = torch.zeros(len(mask), device=mask.device)
        if self._attention:
            rows = rows + self._of_scores(student, recorded, mask)
        if self._hidden:
            rows = rows + self._of_states(student, recorded, mask)
        return rows

    def _of_scores(self, student: Observed, recorded: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        real = mask.unsqueeze(1) & mask.unsqueeze(2)
        goals = zip(recorded["queries"].unbind(2), recorded["keys"].unbind(2), strict=True)
        errors = []
        for (queries, keys, _), goal in zip(parts_of(student), goals, strict=True):
            check_heads("tinybert", queries.shape[1], goal[0].shape[2], _REMEDY)
            wanted = scores(goal[0].transpose(1, 2), goal[1].transpose(1, 2))
            errors.append(((scores(queries, keys) - wanted).square().mean(1) * real).sum((1, 2)))
        return torch.stack(errors).sum(0) / _tokens(mask).square()

    def _of_states(self, student: Observed, recorded: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        errors = [
            ((self.project(states.float()) - goal.float()).square().mean(-1) * mask).sum(1)
            for states, goal in zip(layers_of(student), recorded["states"].unbind(2), strict=True)
        ]
        return torch.stack(errors).sum(0) / _tokens(mask)


def _tokens(mask: Tensor) -> Tensor:
    return mask.sum(1).clamp(min=1)
