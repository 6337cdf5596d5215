from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from et_adabert.augmenters.settings import check_rate
from et_adabert.augmenters.words import Span, draw_some, find_words
from et_core.interfaces import Augmenter, Texts

_HYPHEN_BEFORE = re.compile(r"(?<=\w)-\Z")
_HYPHEN_AFTER = re.compile(r"-(?=\w)")


class RandomDeletion(Augmenter):
    """Words are left out, as in Wei and Zou 2019 (EDA): each with probability *rate*, at least one of a row.

    A text keeps one of its words, so that one of a single word stays as it is, as does one without words (a text in a
    script without spaces). With a word goes the space beside it, or the hyphen that joined it.
    """

    def __init__(self, *, rate: float = 0.15) -> None:
        self._rate = check_rate("rate", rate)

    def augment(self, rows: Sequence[Texts], rng: np.random.Generator) -> list[Texts]:
        words = [[find_words(text) for text in row] for row in rows]
        candidates = [
            [(number, span) for number, spans in enumerate(of_row) for span in spans if len(spans) > 1]
            for of_row in words
        ]
        drawn = draw_some([len(places) for places in candidates], self._rate, rng)
        augmented = []
        for row, of_row, places, chosen in zip(rows, words, candidates, drawn, strict=True):
            doomed: list[list[Span]] = [[] for _ in row]
            for index in chosen:
                number, span = places[index]
                doomed[number].append(span)
            for spans, left_out in zip(of_row, doomed, strict=True):
                if left_out and len(left_out) == len(spans):
                    del left_out[int(rng.integers(len(left_out)))]
            augmented.append(tuple(_without(text, spans) for text, spans in zip(row, doomed, strict=True)))
        return augmented


def _without(text: str, spans: Sequence[Span]) -> str:
    made, position = "", 0
    for start, end in spans:
        made += text[position:start]
        position = end
        if _HYPHEN_BEFORE.search(made):
            made = made[:-1]
        elif _HYPHEN_AFTER.match(text, end):
            position += 1
        elif text[end : end + 1].isspace() and (not made or made[-1].isspace()):
            position += len(text[end:]) - len(text[end:].lstrip())
        else:
            made = made.rstrip()
    return made + text[position:]
