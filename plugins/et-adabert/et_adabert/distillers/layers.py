"""Which layer of a teacher each layer of its student learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from et_core.errors import ConfigError
from et_core.interfaces import Model, Observed


def depth(model: Model) -> int:
    """The number of its layers, the embeddings not counted."""
    return len(model.backbone.blocks())


def layers_of(observed: Observed) -> tuple[Tensor, ...]:
    """The states [B, L, H] after the embeddings and after each layer."""
    layers: Any = observed.features.extra["layers"]
    return tuple(layers)


def teacher_layers(
    owner: str, layers: str | Sequence[int], *, compared: int, student: int, teacher: int, lowest: int = 1
) -> list[int]:
    """The teacher's layer for each of the student's layers 1 to *compared*, of *student* and *teacher* layers in all.

    "last" takes the topmost: layer i learns from teacher - student + i (PKD-Last of Sun et al. 2019). Any other word
    spreads them evenly: ceil(i * teacher / student), as in AdaBERT (Chen et al. 2020), which is PKD-Skip (Sun et al.
    2019) and the uniform strategy of TinyBERT (Jiao et al. 2020) where the depths divide. A list is taken as it is.
    Layers count from 1; 0 are the embeddings. ConfigError, with *owner*, where there is no such layer from *lowest* on.
    """
    places = range(1, compared + 1)
    if layers == "last":
        chosen = [teacher - student + place for place in places]
    elif isinstance(layers, str):
        chosen = [-(-place * teacher // student) for place in places]
    else:
        chosen = list(layers)
    if len(chosen) != compared:
        raise ConfigError(
            f"{owner}: layers has {len(chosen)} of the teacher's layers, {chosen}, for {compared} of the student's "
            f"{student}. Give {compared}."
        )
    if strange := [layer for layer in chosen if not lowest <= layer <= teacher]:
        raise ConfigError(
            f"{owner}: layers is {layers!r}, which takes layer {strange[0]} of the teacher for one of the student's "
            f"{student}. The teacher has the layers {lowest} to {teacher}."
        )
    return chosen
