"""How one text or two become the inputs of an example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from et_core.interfaces import Tokenizer


def joined(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Tokenizer, max_length: int, truncation: str
) -> list[dict[str, np.ndarray]]:
    encoded = tokenizer.encode(texts, pairs, max_length=max_length, truncation=truncation)
    if pairs is None:
        return [{"texts.0.ids": np.asarray(ids, np.int32)} for ids in encoded.ids]
    return [
        {"texts.0.ids": np.asarray(ids, np.int32), "texts.0.segments": np.asarray(segments, np.int8)}
        for ids, segments in zip(encoded.ids, encoded.segments, strict=True)
    ]


def separate(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Tokenizer, max_length: int, truncation: str
) -> list[dict[str, np.ndarray]]:
    first = tokenizer.encode(texts, max_length=max_length, truncation=truncation)
    arrays = [{"texts.0.ids": np.asarray(ids, np.int32)} for ids in first.ids]
    if pairs is not None:
        second = tokenizer.encode(pairs, max_length=max_length, truncation=truncation)
        for row, ids in zip(arrays, second.ids, strict=True):
            row["texts.1.ids"] = np.asarray(ids, np.int32)
    return arrays
