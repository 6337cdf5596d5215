from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Text:
    """One token sequence per row: *ids*, *mask* (True on real tokens) and, for joined pairs, *segments*; all [B, L]."""

    ids: Tensor
    mask: Tensor
    segments: Tensor | None = None


@dataclass(frozen=True)
class Inputs:
    """What a backbone sees.

    *texts* holds one text (two joined ones count as one, told apart by segments), or two separate ones. *marks* are
    whole numbers per token [B, L] that are looked up in a table of their own and added at embedding width. *image* is
    pixels [B, C, H, W] or patch features [B, P, D]. *decoder* is the target side of an encoder-decoder.
    """

    texts: tuple[Text, ...] = ()
    marks: Mapping[str, Tensor] = field(default_factory=dict)
    image: Tensor | None = None
    decoder: Text | None = None

    def flatten(self) -> dict[str, Tensor]:
        """Every tensor under its dotted name, in the order that an exported model takes them."""
        flat: dict[str, Tensor] = {}
        for index, text in enumerate(self.texts):
            flat.update(_flatten_text(f"texts.{index}", text))
        flat.update({f"marks.{name}": self.marks[name] for name in sorted(self.marks)})
        if self.image is not None:
            flat["image"] = self.image
        if self.decoder is not None:
            flat.update(_flatten_text("decoder", self.decoder))
        return flat

    @classmethod
    def unflatten(cls, flat: Mapping[str, Tensor]) -> Inputs:
        """The inverse of ``flatten``."""
        texts: list[Text] = []
        while (text := _unflatten_text(flat, f"texts.{len(texts)}")) is not None:
            texts.append(text)
        marks = {name.removeprefix("marks."): tensor for name, tensor in flat.items() if name.startswith("marks.")}
        return cls(tuple(texts), marks, flat.get("image"), _unflatten_text(flat, "decoder"))

    def to(self, device: torch.device) -> Inputs:
        return Inputs.unflatten({name: tensor.to(device, non_blocking=True) for name, tensor in self.flatten().items()})


@dataclass(frozen=True)
class Batch:
    """Rows on their way through a model. *rows* [B] are positions in the data; *task* picks the head."""

    inputs: Inputs
    targets: Mapping[str, Tensor]
    rows: Tensor
    task: str = "main"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        """Real tokens, padding left out."""
        return int(sum(text.mask.sum() for text in self.inputs.texts))

    def to(self, device: torch.device) -> Batch:
        targets = {name: tensor.to(device, non_blocking=True) for name, tensor in self.targets.items()}
        return Batch(self.inputs.to(device), targets, self.rows, self.task)


@dataclass(frozen=True)
class Features:
    """What a backbone answers: *tokens* [B, L, H] with *mask* [B, L], *pooled* [B, H], and in *extra* what was wanted.

    ``extra["layers"]`` is a tuple of [B, L, H], embeddings first; ``extra["attentions"]`` a tuple of [B, heads, L, L];
    ``extra["queries-keys-values"]`` a tuple of three [B, heads, L, H / heads] per layer. ``extra["towers"]`` is a tuple
    of one Features per text, each encoded by itself; *tokens*, *mask* and *pooled* are then None.
    """

    tokens: Tensor | None = None
    mask: Tensor | None = None
    pooled: Tensor | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


def _flatten_text(prefix: str, text: Text) -> dict[str, Tensor]:
    flat = {f"{prefix}.ids": text.ids, f"{prefix}.mask": text.mask}
    return flat if text.segments is None else {**flat, f"{prefix}.segments": text.segments}


def _unflatten_text(flat: Mapping[str, Tensor], prefix: str) -> Text | None:
    ids = flat.get(f"{prefix}.ids")
    return None if ids is None else Text(ids, flat[f"{prefix}.mask"], flat.get(f"{prefix}.segments"))


@dataclass(frozen=True)
class Observed:
    """What was seen of one model on a batch: its features and the outputs of its head."""

    features: Features
    outputs: Mapping[str, Tensor]
