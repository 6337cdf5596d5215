"""The whole words among the pieces of a tokenizer, of whatever kind it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from et_adabert.augmenters.words import has_letters_only
from et_core.errors import ConfigError
from et_core.interfaces import Tokenizer


class WordPieces:
    """The pieces that stand for a word of letters by themselves.

    Such a piece is what its own text is encoded as: "film" is, but not "##ing", "[CLS]", a digit or punctuation.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        (frame,) = tokenizer.encode([""], max_length=8).ids
        self._frame = {*frame, *tokenizer.special_ids.values()}
        try:
            texts = tokenizer.decode([[piece] for piece in range(tokenizer.vocab_size)])
        except TypeError as error:
            raise ConfigError(f"no words can be replaced by pieces of the tokenizer: {error}.") from error
        pieces = [(piece, text.strip()) for piece, text in enumerate(texts) if has_letters_only(text.strip())]
        found = self._encode([word for _, word in pieces])
        whole = [(piece, word) for (piece, word), ids in zip(pieces, found, strict=True) if ids == [piece]]
        if len(whole) < 2:
            raise ConfigError("the tokenizer has no pieces that are whole words, so none can give way to another.")
        self.ids = np.array([piece for piece, _ in whole], np.int64)
        """Their ids [n], ascending, and"""
        self.words = [word for _, word in whole]
        """their texts; a place is an index of both."""
        self.uncased = all(word == word.lower() for word in self.words)
        """Whether upper case is lost in them."""
        self._places = {piece: place for place, (piece, _) in enumerate(whole)}
        self._variants: dict[str, list[int]] = {}
        for place, word in enumerate(self.words):
            self._variants.setdefault(word.casefold(), []).append(place)

    def find(self, words: Sequence[str]) -> list[int | None]:
        """The place of the piece that each of *words* is; None for one of several pieces or of none."""
        return [self._places.get(ids[0]) if len(ids) == 1 else None for ids in self._encode(words)]

    def variants(self, word: str) -> list[int]:
        """The places of all pieces that are *word*, in upper or lower case."""
        return self._variants.get(word.casefold(), [])

    def _encode(self, words: Sequence[str]) -> list[list[int]]:
        # With a space in front it is a word inside a text, which byte-level pieces tell from the start of a text. Room
        # for two pieces is enough to see whether there is more than one.
        room = 2 + len(self._frame)
        encoded = self._tokenizer.encode([f" {word}" for word in words], max_length=room).ids
        return [[piece for piece in ids if piece not in self._frame] for ids in encoded]
