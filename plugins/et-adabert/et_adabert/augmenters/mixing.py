from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from et_adabert.augmenters.settings import check_rate
from et_adabert.augmenters.words import Span, find_words
from et_core.interfaces import Augmenter, Texts


class SpanMixing(Augmenter):
    """A run of words of a text gives way to one of as many words, or nearly, from another of the given rows.

    The run is *share* of the text's words, at least one and never all. The other row is any that has words in the text
    of the same position: first texts mix with first ones, second with second ones. Of a pair one text is changed. What
    stands between the words of a run comes with it. A text of one word or none (or in a script without spaces) stays.
    """

    def __init__(self, *, share: float = 0.3) -> None:
        self._share = check_rate("share", share)

    def augment(self, rows: Sequence[Texts], rng: np.random.Generator) -> list[Texts]:
        words = [[find_words(text) for text in row] for row in rows]
        width = max(map(len, rows), default=0)
        givers = [
            [index for index, of_row in enumerate(words) if of_row[number:] and of_row[number]]
            for number in range(width)
        ]
        augmented = []
        for index, (row, of_row) in enumerate(zip(rows, words, strict=True)):
            open_ = [number for number, spans in enumerate(of_row) if len(spans) > 1 and len(givers[number]) > 1]
            if not open_:
                augmented.append(row)
                continue
            number = open_[_below(len(open_), rng)]
            giver = index
            while giver == index:
                giver = givers[number][_below(len(givers[number]), rng)]
            mixed = self._mix(row[number], of_row[number], rows[giver][number], words[giver][number], rng)
            augmented.append((*row[:number], mixed, *row[number + 1 :]))
        return augmented

    def _mix(
        self, text: str, spans: Sequence[Span], other: str, others: Sequence[Span], rng: np.random.Generator
    ) -> str:
        count = min(max(1, round(self._share * len(spans))), len(spans) - 1)
        start, end = _run(spans, count, rng)
        first, last = _run(others, min(count, len(others)), rng)
        return text[:start] + other[first:last] + text[end:]


def _run(spans: Sequence[Span], count: int, rng: np.random.Generator) -> Span:
    """From the start of a word to the end of the one *count* words on, of those where it fits."""
    first = _below(len(spans) - count + 1, rng)
    return spans[first][0], spans[first + count - 1][1]


def _below(bound: int, rng: np.random.Generator) -> int:
    return int(rng.random() * bound)  # several times faster than rng.integers for one number
