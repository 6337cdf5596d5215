from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from et_core.errors import ArtifactError, DataError
from et_core.interfaces import Encoded, Tokenizer

_SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3}
_FILE = "characters.json"


class Characters(Tokenizer):
    """One token a character, between [CLS] and [SEP] as in BERT. All characters that were not learned share an id."""

    trainable: ClassVar[bool] = True

    def __init__(self, characters: Sequence[str]) -> None:
        self._characters = list(characters)
        self._ids = {character: number for number, character in enumerate(self._characters, start=len(_SPECIAL))}

    @property
    def vocab_size(self) -> int:
        return len(_SPECIAL) + len(self._characters)

    @property
    def pad_id(self) -> int:
        return _SPECIAL["pad"]

    @property
    def special_ids(self) -> Mapping[str, int]:
        return _SPECIAL

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int,
        stride: int = 0,
        truncation: str = "right",
        offsets: bool = False,
    ) -> Encoded:
        """As the interface says; with *stride* and *pairs* it is the pair that goes on in further windows."""
        encoded = Encoded([], [], [])
        for source, text in enumerate(texts):
            both = (text,) if pairs is None else (text, pairs[source])
            room = max_length - 1 - len(both)
            for places in _slide(both, room, stride) if stride else _cut(both, room, truncation):
                ids, segments, spans, words = zip(*self._tokens(both, places), strict=True)
                encoded.ids.append(list(ids))
                encoded.segments.append(list(segments))
                encoded.sources.append(source)
                if offsets:
                    encoded.offsets.append(list(spans))
                    encoded.words.append(list(words))
        return encoded

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        first = len(_SPECIAL)
        return ["".join(self._characters[number - first] for number in row if number >= first) for row in ids]

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self._characters).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        (path / _FILE).write_text(json.dumps(self._characters), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Characters:
        try:
            return cls(json.loads((path / _FILE).read_text("utf-8")))
        except FileNotFoundError as error:
            raise ArtifactError(f"{path} holds no {_FILE}, which a tokenizer of characters is read from.") from error
        except ValueError as error:
            raise ArtifactError(f"{path / _FILE} cannot be read: {error}") from error

    @classmethod
    def fit(cls, texts: Iterable[str], *, vocab_size: int = 8000, min_count: int = 1) -> Characters:
        """Learn the characters that occur at least *min_count* times; where they are too many, the most frequent."""
        counts = Counter(character for text in texts for character in text)
        known = sorted((c for c in counts if counts[c] >= min_count), key=lambda c: (-counts[c], c))
        return cls(known[: max(0, vocab_size - len(_SPECIAL))])

    def _tokens(
        self, texts: Sequence[str], places: Sequence[range]
    ) -> list[tuple[int, int, tuple[int, int], int | None]]:
        """Id, segment, offsets and word of each token of the characters at *places* of one text or two."""
        nothing = (0, 0)
        tokens: list[tuple[int, int, tuple[int, int], int | None]] = [(_SPECIAL["cls"], 0, nothing, None)]
        for segment, (text, chosen) in enumerate(zip(texts, places, strict=True)):
            words = _words(text)
            for place in chosen:
                number = self._ids.get(text[place], _SPECIAL["unk"])
                tokens.append((number, segment, (place, place + 1), words[place]))
            tokens.append((_SPECIAL["sep"], segment, nothing, None))
        return tokens


def _cut(texts: Sequence[str], room: int, side: str) -> list[list[range]]:
    """The characters of one text or two that fit into *room*: the longer text is cut first, at its *side*."""
    _check_room(room, 0)
    first = len(texts[0])
    second = len(texts[1]) if len(texts) > 1 else 0
    kept = min(first, max(room - second, (room + 1) // 2))
    lengths = (kept, min(second, room - kept))[: len(texts)]
    if side == "left":
        return [[range(len(text) - length, len(text)) for text, length in zip(texts, lengths, strict=True)]]
    return [[range(length) for length in lengths]]


def _slide(texts: Sequence[str], room: int, stride: int) -> list[list[range]]:
    """Windows over the last of *texts*, each beside the whole of the other, that overlap by *stride* characters."""
    *whole, last = map(len, texts)
    size = room - sum(whole)
    _check_room(size, stride)
    starts = range(0, max(1, last - stride), size - stride)
    return [[*map(range, whole), range(start, min(start + size, last))] for start in starts]


def _check_room(room: int, stride: int) -> None:
    if room <= stride:
        raise DataError(
            f"a text cannot be encoded with room for {max(0, room)} characters"
            + (f" in a window and a stride of {stride}" if stride else "")
            + ". Raise data.max_length."
        )


def _words(text: str) -> list[int | None]:
    """The number of the word that each character is of; None for what stands between words."""
    numbers: list[int | None] = []
    count, inside = -1, False
    for character in text:
        count += not inside and not character.isspace()
        inside = not character.isspace()
        numbers.append(count if inside else None)
    return numbers
