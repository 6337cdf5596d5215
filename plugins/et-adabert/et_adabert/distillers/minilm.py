from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from et_adabert.distillers.attention import PARTS, check_heads, check_same_heads, parts_of, scores
from et_adabert.distillers.base import RowDistiller, half
from et_adabert.distillers.layers import depth
from et_core.errors import ConfigError
from et_core.interfaces import Batch, Model, Observed

_NAMES = ("queries", "keys", "values")
_RELATIONS = {
    "attention+values": (("queries", "keys"), ("values", "values")),
    "queries+keys+values": (("queries", "queries"), ("keys", "keys"), ("values", "values")),
}
_REMEDY = "Set relation_heads, which splits both anew, or model.num_heads of the student."


class MiniLm(RowDistiller):
    """How tokens relate in the student's last layer follows one layer of the teacher (Wang et al. 2020 and 2021).

    A relation of two of queries, keys and values is R = softmax(X Y^T / sqrt(d)) over the real tokens. Per row, the sum
    over relations of the mean over heads and real tokens of KL(R_teacher || R_student). Widths may differ, and no
    layer is trained besides.

    *relations* "attention+values" are those of MiniLM (2020, sections 3.1 and 3.2): the attention distribution of
    queries with keys, and values with values. "queries+keys+values" are those of MiniLMv2 (2021): each with itself.
    *relation_heads* splits the width into so many heads instead of the models' own, as MiniLMv2 does (48 for a base
    model), so that their numbers may differ. *layer* is the teacher's, counted from 1; None is the last. Of teachers of
    24 layers MiniLMv2 takes the 19th or 21st.
    """

    wants = frozenset({PARTS})
    per_token = frozenset(_NAMES)
    forward_options = frozenset({"relations"})

    def __init__(
        self,
        *,
        student: Model,
        teacher: Model,
        layer: int | None = None,
        relations: Literal["attention+values", "queries+keys+values"] = "attention+values",
        relation_heads: int | None = None,
    ) -> None:
        super().__init__()
        layers = depth(teacher)
        if layer is not None and not 1 <= layer <= layers:
            raise ConfigError(f"minilm: layer is {layer}, and the teacher has the layers 1 to {layers}.")
        if relation_heads is None:
            check_same_heads("minilm", student, teacher, _REMEDY)
        else:
            _check_split(relation_heads, student.backbone.hidden_size, teacher.backbone.hidden_size)
        self._layer = layers if layer is None else layer
        self._relations = _RELATIONS[relations]
        self._heads = relation_heads

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        """``"queries"``, ``"keys"`` and ``"values"`` [B, L, heads, d] of one layer, in float16."""
        parts = parts_of(teacher)[self._layer - 1]
        return {name: half(self._split(part)) for name, part in zip(_NAMES, parts, strict=True)}

    def compare(self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, progress: float) -> Tensor:
        mask = batch.inputs.texts[0].mask
        parts = {name: self._split(part) for name, part in zip(_NAMES, parts_of(student)[-1], strict=True)}
        check_heads("minilm", parts["queries"].shape[2], recorded["queries"].shape[2], _REMEDY)
        found = torch.zeros(len(mask), device=mask.device)
        for first, second in self._relations:
            mine, goal = (_relation(seen[first], seen[second], mask) for seen in (parts, recorded))
            found = found + ((goal.exp() * (goal - mine)).sum(-1).mean(1) * mask).sum(1)
        return found / mask.sum(1).clamp(min=1)

    def _split(self, part: Tensor) -> Tensor:
        """[B, heads, L, d] as [B, L, heads, d], in other heads where they are set."""
        tokens = part.transpose(1, 2)
        return tokens if self._heads is None else tokens.reshape(*tokens.shape[:2], self._heads, -1)


def _check_split(heads: int, student: int, teacher: int) -> None:
    for who, width in (("student", student), ("teacher", teacher)):
        if heads < 1 or width % heads:
            raise ConfigError(
                f"minilm: relation_heads is {heads}, which does not divide the {who}'s width of {width}. "
                f"Take a number that divides both widths, {student} and {teacher}."
            )


def _relation(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """The logarithm [B, heads, L, L] of the relation of two [B, L, heads, d]; 0 for tokens that are padding."""
    hidden = ~mask[:, None, None, :]
    found = scores(first.transpose(1, 2), second.transpose(1, 2))
    return found.masked_fill(hidden, torch.finfo(found.dtype).min).log_softmax(-1).masked_fill(hidden, 0.0)
