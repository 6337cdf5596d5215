"""Texts of many scripts and of odd kinds, and what the checks of tokenizers ask of tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

from et_core.interfaces import Encoded
from et_core.testing.suite import CheckFailed

TEXTS = (
    "The kettle boils, and nobody gets up.",
    "Two trains left the station at 7.45; one came back.",
    "Don't re-use the co-operators' e-mail addresses!",
    "Der Fluss führt im März so viel Wasser wie noch nie.",
    "Où est passée la clé que j'avais laissée ici ?",
    "El niño contó hasta diez y abrió los ojos.",
    "Поезд опоздал на три часа, и мы пошли пешком.",
    "Η θάλασσα ήταν ήρεμη όλο το πρωί.",
    "كان البيت صغيرا لكنه قريب من البحر",
    "बारिश के बाद सड़क पर पानी भर गया",
    "今天的天气很好，我们去公园走走。",
    "電車が遅れたので、歩いて帰りました。",
    "비가 그치자 아이들이 밖으로 나왔다.",
    "The end of the story is that the kettle boils again and again, and the trains come back to the station.",
)
"""Plain sentences of several scripts, of which no two are alike."""

ODD_TEXTS = (
    "",
    " ",
    "\t\n\r\n",
    "\u3000\u2003",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd",
    "e\u0301\u0323\u0302 a\u0308 \u0301",
    "Z" + "\u0351" * 40,
    "\u200b\u200d\ufeff",
    "\u202eabc\u202c",
    "a\x00b\x07",
    "\ufffd\ue000\U0010fffd",
    "\ufb01 \u00bd \u2460 \u01c4",
    "x" * 3000,
    "... --- !!!",
    "<pad> [MASK] </s> [CLS]",
)
"""What real data holds besides: nothing, blanks, emoji, accents on their own, control characters, very long words."""


@dataclass(frozen=True)
class Token:
    """One token that stands for a span of a text."""

    id: int
    segment: int
    start: int
    end: int


def tokens_of(encoded: Encoded, window: int) -> list[Token]:
    """The tokens of *window* that stand for something in a text: no special ones.

    CheckFailed where there are no offsets, or not one for each token.
    """
    if len(encoded.offsets) != len(encoded.ids):
        raise CheckFailed(f"encode gives offsets for {len(encoded.offsets)} of {len(encoded.ids)} windows.")
    ids, spans, segments = encoded.ids[window], encoded.offsets[window], encoded.segments[window]
    if len(spans) != len(ids) or len(segments) != len(ids):
        raise CheckFailed(f"a window of {len(ids)} tokens has {len(spans)} offsets and {len(segments)} segments.")
    rows = zip(ids, segments, spans, strict=True)
    return [Token(found, segment, start, end) for found, segment, (start, end) in rows if end > start]


def alone(encoded: Encoded, place: int) -> Encoded:
    """The window at *place* as the only one of a result."""
    only = slice(place, place + 1)
    return Encoded(encoded.ids[only], encoded.segments[only], [0], encoded.offsets[only], encoded.words[only])


def of_segment(tokens: list[Token], segment: int) -> list[Token]:
    """The tokens of *segment*, as they are where its text stands alone."""
    return [replace(token, segment=0) for token in tokens if token.segment == segment]


def fold(text: str) -> str:
    """The letters and digits of *text* without case and accents: what a tokenizer may not lose."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(character for character in decomposed if character.isalnum())


def uncovered(text: str, tokens: list[Token]) -> Iterator[int]:
    """Where *text* has a letter or digit that no token stands for."""
    covered = {place for token in tokens for place in range(token.start, token.end)}
    return (place for place, character in enumerate(text) if character.isalnum() and place not in covered)


def differing(first: Encoded, second: Encoded) -> str:
    """In which part two results differ, in words; the empty string where they are equal."""
    for part in ("ids", "segments", "sources", "offsets", "words"):
        if getattr(first, part) != getattr(second, part):
            return f"the {part} differ"
    return ""
