"""Words in a text, found by regular expression, and the draw of some of them.

A word is a run of letters, with apostrophes inside it ("don't") or before a short ending ("'s"); the parts of a
hyphenated word are words. What has a digit or an underscore in it is none. Nor are letters of a script that is written
without spaces, such as Chinese, Japanese or Thai: a text in one of these has no words here.
"""

from __future__ import annotations

import itertools
import re
import sys
import unicodedata
from collections.abc import Sequence

import numpy as np

from et_core.interfaces import Texts

Span = tuple[int, int]
"""Where a word starts and ends in its text, in characters."""

Place = tuple[int, int, int]
"""A word of a row: which of its texts, and where the word starts and ends there."""

_SPACELESS = (
    "\u0e00-\u109f\u1780-\u17ff"  # Thai to Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    f"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-{chr(sys.maxunicode)}"  # Han
)
# What \w takes in besides letters and decimal digits: superscripts, fractions, numbers in circles.
_NUMERALS = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070\u2074-\u2089\u2150-\u2189\u2460-\u249b\u24ea-\u24ff\u2776-\u2793"
# Accents and vowel signs: parts of a word that \w leaves out.
_MARKS = "".join(sign for sign in map(chr, range(0x300, 0x2000)) if unicodedata.category(sign).startswith("M"))
_LETTER = rf"[^\W\d_{_NUMERALS}{_SPACELESS}]"
_RUN = rf"{_LETTER}++(?:[{_MARKS}]++{_LETTER}*+)*+"
_APOSTROPHE = "['\u2019]"
_ENDING = rf"{_APOSTROPHE}{_LETTER}{{1,3}}+(?![{_MARKS}\w'\u2019])"
# A letter, digit or mark next to a run is a part of something that is no word; one of a spaceless script is another's.
_STARTS = rf"(?<![^\W{_SPACELESS}])(?<![{_MARKS}])"
_ENDS = rf"(?![^\W{_SPACELESS}])"
_WORD = re.compile(rf"{_ENDING}|{_STARTS}{_RUN}(?:{_APOSTROPHE}{_RUN})*+{_ENDS}")
_LETTERS = re.compile(_RUN)


def find_words(text: str) -> list[Span]:
    """The spans of the words of *text*, in its order."""
    return [match.span() for match in _WORD.finditer(text)]


def find_places(row: Texts) -> list[Place]:
    """The words of all texts of *row*, in its order."""
    return [(number, start, end) for number, text in enumerate(row) for start, end in find_words(text)]


def has_letters_only(word: str) -> bool:
    """Whether *word* is one whole word without an apostrophe."""
    return _LETTERS.fullmatch(word) is not None


def match_case(word: str, like: str) -> str:
    """A lower-cased *word* with the capitals of *like*: none, the first letter or all."""
    if not like[0].isupper():
        return word
    return word.upper() if len(like) > 1 and like.isupper() else word[0].upper() + word[1:]


def substitute(row: Texts, replacements: Sequence[tuple[Place, str]]) -> Texts:
    """*row* with a new string at each of these places, in order within a text; all else stays as it is."""
    parts: list[list[str]] = [[] for _ in row]
    positions = [0] * len(row)
    for (number, start, end), new in replacements:
        parts[number] += (row[number][positions[number] : start], new)
        positions[number] = end
    ends = (text[position:] for text, position in zip(row, positions, strict=True))
    return tuple("".join((*made, rest)) for made, rest in zip(parts, ends, strict=True))


def draw_some(sizes: Sequence[int], rate: float, rng: np.random.Generator) -> list[list[int]]:
    """For groups of so many items, the indices in each of those drawn: with probability *rate*, at least one a group.

    Where the draw takes none of a group, every item of it is as likely to be the one.
    """
    starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    drawn = rng.random(int(starts[-1])) < rate
    counts = np.diff(np.concatenate(([0], np.cumsum(drawn)))[starts])
    luck = rng.random(len(sizes))
    bare = (counts == 0) & (np.diff(starts) > 0)
    drawn[(starts[:-1] + (luck * np.diff(starts)).astype(np.int64))[bare]] = True
    places = np.flatnonzero(drawn)
    bounds = np.searchsorted(places, starts).tolist()
    owner = np.repeat(starts[:-1], np.diff(starts))
    inner = (places - owner[places]).tolist()
    return [inner[first:last] for first, last in itertools.pairwise(bounds)]
