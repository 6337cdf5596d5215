"""Random inputs for whatever a backbone accepts, row by row, so that a row is the same in every batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from et_core.interfaces import Inputs, Text, Tokenizer

InputRow = dict[str, Tensor]
"""One row without padding: the names of ``Inputs.flatten``, each without its first axis."""


@dataclass(frozen=True)
class InputMaker:
    """Makes inputs of one form: *accepts* holds "text" or "texts" or neither, and what else the backbone takes.

    *marks* is how many values each mark takes, *image* makes the picture of a row from its number.
    """

    accepts: frozenset[str]
    vocab_size: int
    pad_id: int
    plain_ids: tuple[int, ...]
    """Those that are no special token."""

    segments: int = 1
    marks: Mapping[str, int] = field(default_factory=dict)
    image: Callable[[int], Tensor] | None = None

    def row(self, number: int, length: int, second: int | None = None) -> InputRow:
        """Row *number* with texts of *length* tokens; the second text, or the decoder's, has *second* if given."""
        generator = torch.Generator().manual_seed(1000 + number)
        row: InputRow = {}
        lengths = {"text": (length,), "texts": (length, second or length)}
        form = next((form for form in lengths if form in self.accepts), None)
        for index, size in enumerate(lengths[form] if form else ()):
            row[f"texts.{index}.ids"] = self._ids(size, generator)
            if form == "text":
                row["texts.0.segments"] = (torch.arange(size) >= (size + 1) // 2).long().clamp(max=self.segments - 1)
        for name, values in self.marks.items():
            row[f"marks.{name}"] = torch.randint(0, values, (length,), generator=generator)
        if self.image is not None:
            row["image"] = self.image(number)
        if "decoder" in self.accepts:
            row["decoder.ids"] = self._ids(second or length, generator)
        return row

    def stack(self, rows: Sequence[InputRow], *, extra: int = 0, at: str = "") -> Inputs:
        """A batch of *rows*, padded to the longest and *extra* tokens beyond, in those texts whose name begins *at*."""
        flat: dict[str, Tensor] = {}
        for name in rows[0]:
            if name == "image":
                flat[name] = torch.stack([row[name] for row in rows])
                continue
            text = name.rpartition(".")[0].replace("marks", "texts.0")
            width = max(len(row[name]) for row in rows) + (extra if text.startswith(at) else 0)
            flat[name] = _pad([row[name] for row in rows], width, self.pad_id if name.endswith(".ids") else 0)
            if name.endswith(".ids"):
                lengths = torch.tensor([len(row[name]) for row in rows])
                flat[f"{text}.mask"] = torch.arange(width) < lengths[:, None]
        return Inputs.unflatten(flat)

    def batch(self, *lengths: int | tuple[int, int], extra: int = 0) -> Inputs:
        """A batch of rows 0, 1, ... of these *lengths*."""
        pairs = [(length, length) if isinstance(length, int) else length for length in lengths]
        return self.stack([self.row(number, *pair) for number, pair in enumerate(pairs)], extra=extra)

    def garbage(self, inputs: Inputs, seed: int = 0) -> Inputs:
        """*inputs* with other ids, segments and marks wherever the mask is False."""
        generator = torch.Generator().manual_seed(seed)
        texts = tuple(self._spoil(text, generator) for text in inputs.texts)
        marks = {
            name: torch.where(inputs.texts[0].mask, values, self._random(values, self.marks[name], generator))
            for name, values in inputs.marks.items()
        }
        decoder = None if inputs.decoder is None else self._spoil(inputs.decoder, generator)
        return dataclasses.replace(inputs, texts=texts, marks=marks, decoder=decoder)

    def _ids(self, size: int, generator: torch.Generator) -> Tensor:
        return torch.tensor(self.plain_ids)[torch.randint(0, len(self.plain_ids), (size,), generator=generator)]

    def _spoil(self, text: Text, generator: torch.Generator) -> Text:
        ids = torch.where(text.mask, text.ids, self._random(text.ids, self.vocab_size, generator))
        segments = text.segments
        if segments is not None:
            segments = torch.where(text.mask, segments, self._random(segments, self.segments, generator))
        return Text(ids, text.mask, segments)

    @staticmethod
    def _random(like: Tensor, values: int, generator: torch.Generator) -> Tensor:
        return torch.randint(0, values, like.shape, generator=generator)


def input_makers(
    accepts: frozenset[str],
    tokenizer: Tokenizer,
    *,
    marks: Mapping[str, int],
    image: Callable[[int], Tensor] | None = None,
) -> list[InputMaker]:
    """A maker for each form of input: a backbone that accepts "text" and "texts" takes either, and gets both."""
    special = set(tokenizer.special_ids.values())
    plain = tuple(index for index in range(tokenizer.vocab_size) if index not in special)
    pair = tokenizer.encode(["one two"], ["three four"], max_length=16)
    segments = 1 + max((max(row, default=0) for row in pair.segments), default=0)
    forms = sorted(accepts & {"text", "texts"}) or [""]
    others = accepts - {"text", "texts"}
    return [
        InputMaker(
            others | ({form} if form else set()), tokenizer.vocab_size, tokenizer.pad_id, plain, segments, marks, image
        )
        for form in forms
    ]


def _pad(values: Sequence[Tensor], width: int, padding: int) -> Tensor:
    out = torch.full((len(values), width), padding)
    for row, value in zip(out, values, strict=True):
        row[: len(value)] = value
    return out
