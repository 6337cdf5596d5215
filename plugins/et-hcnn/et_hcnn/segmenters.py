from __future__ import annotations

import importlib.util
from typing import Annotated, ClassVar

from pydantic import AfterValidator
from tokenizers import Regex
from tokenizers.pre_tokenizers import PreTokenizer, Split

from et_core.errors import ConfigError
from et_core.interfaces import Segmenter
from et_core.registry import registry

_BY_CHARACTER = r"\p{Han}\p{Hiragana}\p{Katakana}"
"""Scripts without spaces, in which each character is a word where no dictionary is at hand."""

_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]&&[^{_BY_CHARACTER}]]"
_NOT = rf"(?i:n['’]t)(?!{_LETTER})"

_WORD = "|".join(
    (
        rf"[{_BY_CHARACTER}]\p{{M}}*",
        r"(?:\p{L}\.){2,}",  # U.S.
        r"\p{N}+(?:[.,:]\p{N}+)+",  # 2,000.50
        # English clitics are words of their own, as in the published vectors of GloVe: it 's, do n't.
        _NOT,
        rf"['’](?i:s|m|d|re|ve|ll)(?!{_LETTER})",
        rf"{_LETTER}+?(?={_NOT})",
        rf"{_LETTER}+",
        r"(?!\s)\X",
    )
)


class PatternSegmenter(Segmenter):
    """Words as the matches of *pattern*, in the syntax of Oniguruma, which the tokenizers library runs in Rust."""

    pattern: ClassVar[str]

    def __init__(self) -> None:
        self.splitter: PreTokenizer = Split(Regex(self.pattern), behavior="removed", invert=True)

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [span for _, span in self.splitter.pre_tokenize_str(text)]


class Words(PatternSegmenter):
    """Letters, digits and marks in a row; numbers and abbreviations whole; Chinese and Japanese by character."""

    pattern: ClassVar[str] = _WORD


class Characters(PatternSegmenter):
    """Each grapheme (UAX #29) that is not white space: a letter with its accents, an emoji with its modifiers."""

    pattern: ClassVar[str] = r"(?!\s)\X"


class Jieba(Segmenter):
    """Chinese words by the dictionary of jieba, and a hidden Markov model for those that it lacks, in Rust (rjieba)."""

    def __init__(self) -> None:
        if importlib.util.find_spec("rjieba") is None:
            raise ConfigError(
                "the segmenter 'jieba' needs the package rjieba, which is not installed: pip install 'et-hcnn[jieba]'"
            )

    def spans(self, text: str) -> list[tuple[int, int]]:
        import rjieba  # loads its dictionary

        return [(start, end) for word, start, end in rjieba.tokenize(text, "default", True) if not word.isspace()]


def _registered(name: str) -> str:
    registry("segmenters").create(name)
    return name


SegmenterName = Annotated[str, AfterValidator(_registered)]
"""The name of a segmenter that is registered and has what it needs, which is checked with the config."""
