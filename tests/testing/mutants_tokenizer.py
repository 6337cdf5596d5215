"""A sound tokenizer, and for every check of tokenizers one that is broken in just that way."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from et_core.errors import ArtifactError
from et_core.hooks import Register, hookimpl
from et_core.interfaces import Encoded, Tokenizer
from et_core.testing import TokenizerConformance

ET_API = 1
_PAD, _UNK, _CLS, _SEP = range(4)
_SPECIAL = ("[pad]", "[unk]", "[cls]", "[sep]")
_WORD = re.compile(r"\w+")


@hookimpl
def et_register_tokenizers(register: Register) -> None:
    for name in ("sound", *BROKEN):
        register(f"{name}-tokenizer", f"mutants_tokenizer:TOKENIZERS[{name}]", summary=f"The tokenizer called {name}")


class Piece(NamedTuple):
    id: int
    start: int
    end: int
    word: int | None


class Sound(Tokenizer):
    """Words, by what a regular expression takes for one."""

    trainable: ClassVar[bool] = True
    special = 1
    """How many special tokens there are beside those that close a text."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.ids = {word: index for index, word in enumerate(words)}

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    @property
    def pad_id(self) -> int:
        return _PAD

    @property
    def special_ids(self) -> Mapping[str, int]:
        return {"pad": _PAD, "unk": _UNK, "cls": _CLS, "sep": _SEP}

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
        encoded = Encoded([], [], [])
        for source, text in enumerate(texts):
            parts = [self.pieces(text)] + ([] if pairs is None else [self.pieces(pairs[source])])
            room = max_length - self.special - len(parts)
            for window in self.windows(parts, room, stride) if stride else [self.cut(parts, room, truncation)]:
                self.add(encoded, window, source, offsets)
        return encoded

    def pieces(self, text: str) -> list[Piece]:
        found = enumerate(_WORD.finditer(text))
        return [Piece(self.ids.get(m[0].casefold(), _UNK), m.start(), m.end(), word) for word, m in found]

    def cut(self, parts: list[list[Piece]], room: int, side: str) -> list[list[Piece]]:
        sizes = [len(part) for part in parts]
        while sum(sizes) > room:
            sizes[sizes.index(max(sizes))] -= 1
        return [
            part[:size] if side == "right" else part[len(part) - size :]
            for part, size in zip(parts, sizes, strict=True)
        ]

    def windows(self, parts: list[list[Piece]], room: int, stride: int) -> Iterator[list[list[Piece]]]:
        *before, last = parts
        width = room - sum(map(len, before))
        start = 0
        while True:
            yield [*before, last[start : start + width]]
            if start + width >= len(last):
                return
            start += width - stride

    def add(self, encoded: Encoded, window: list[list[Piece]], source: int, offsets: bool) -> None:
        pieces, segments = [Piece(_CLS, 0, 0, None)], [0]
        for segment, part in enumerate(window):
            pieces += [*part, Piece(_SEP, 0, 0, None)]
            segments += [segment] * (len(part) + 1)
        encoded.ids.append([piece.id for piece in pieces])
        encoded.segments.append(segments)
        encoded.sources.append(source)
        if offsets:
            encoded.offsets.append([(piece.start, piece.end) for piece in pieces])
            encoded.words.append([piece.word for piece in pieces])

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [" ".join(self.words[index] for index in row if index >= len(_SPECIAL)) for row in ids]

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.words).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        (path / "words.json").write_text(json.dumps(self.words), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        try:
            return cls(cls.read(path))
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path / 'words.json'} cannot be read: {error}") from error

    @classmethod
    def read(cls, path: Path) -> list[str]:
        words: list[str] = json.loads((path / "words.json").read_text("utf-8"))
        return words

    @classmethod
    def fit(cls, texts: Iterable[str], *, vocab_size: int = 8000, **options: Any) -> Tokenizer:
        counts = Counter(word.casefold() for text in texts for word in _WORD.findall(text))
        return cls([*_SPECIAL, *cls.ranked(counts)][:vocab_size])

    @classmethod
    def ranked(cls, counts: Mapping[str, int]) -> list[str]:
        return sorted(counts, key=lambda word: (-counts[word], word))


class CountsOneLess(Sound):
    @property
    def vocab_size(self) -> int:
        return len(self.words) - 1


class MaskBeyond(Sound):
    @property
    def special_ids(self) -> Mapping[str, int]:
        return {**super().special_ids, "mask": self.vocab_size}


class OffsetsInUtf16(Sound):
    """As JavaScript counts: an emoji is two."""

    def pieces(self, text: str) -> list[Piece]:
        def place(index: int) -> int:
            return len(text[:index].encode("utf-16-le")) // 2

        return [Piece(p.id, place(p.start), place(p.end), p.word) for p in super().pieces(text)]


class OffsetsFromOne(Sound):
    def pieces(self, text: str) -> list[Piece]:
        return [piece._replace(start=piece.start + 1, end=piece.end + 1) for piece in super().pieces(text)]


class OneWord(Sound):
    def pieces(self, text: str) -> list[Piece]:
        return [piece._replace(word=0) for piece in super().pieces(text)]


class AlwaysGivesOffsets(Sound):
    def add(self, encoded: Encoded, window: list[list[Piece]], source: int, offsets: bool) -> None:
        super().add(encoded, window, source, True)


class FailsOnBlanks(Sound):
    def pieces(self, text: str) -> list[Piece]:
        if not text.strip():
            raise ValueError("nothing to encode")
        return super().pieces(text)


class CountsNoSpecial(Sound):
    special = -1


class CutsRightAlways(Sound):
    def cut(self, parts: list[list[Piece]], room: int, side: str) -> list[list[Piece]]:
        return super().cut(parts, room, "right")


class CutsSecond(Sound):
    """What the first of a pair leaves is for the second."""

    def cut(self, parts: list[list[Piece]], room: int, side: str) -> list[list[Piece]]:
        if len(parts) == 1:
            return super().cut(parts, room, side)
        first = super().cut(parts[:1], room, side)[0]
        return [first, *super().cut(parts[1:], room - len(first), side)]


class NoOverlap(Sound):
    def windows(self, parts: list[list[Piece]], room: int, stride: int) -> Iterator[list[list[Piece]]]:
        return super().windows(parts, room, 0)


class NoSegments(Sound):
    def add(self, encoded: Encoded, window: list[list[Piece]], source: int, offsets: bool) -> None:
        super().add(encoded, window, source, offsets)
        encoded.segments[-1] = [0] * len(encoded.ids[-1])


class OffsetsThroughBoth(Sound):
    """In a pair, those of the second text go on where the first ends."""

    def add(self, encoded: Encoded, window: list[list[Piece]], source: int, offsets: bool) -> None:
        first, *second = window
        shift = first[-1].end if first else 0
        moved = [[p._replace(start=p.start + shift, end=p.end + shift) for p in part] for part in second]
        super().add(encoded, [first, *moved], source, offsets)


class Pads(Sound):
    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, **arguments: Any) -> Encoded:
        encoded = super().encode(texts, pairs, **arguments)
        longest = max(map(len, encoded.ids), default=0)
        for row in encoded.ids:
            row += [_PAD] * (longest - len(row))
        return encoded


class NumbersOn(Sound):
    """Words are numbered through all texts of a call."""

    def add(self, encoded: Encoded, window: list[list[Piece]], source: int, offsets: bool) -> None:
        super().add(encoded, window, source, offsets)
        if offsets:
            start = sum(map(len, encoded.words[:-1]))
            encoded.words[-1] = [None if word is None else start + word for word in encoded.words[-1]]


class NumbersSegments(Sound):
    """The segments of each text of a call are one more than those before."""

    def add(self, encoded: Encoded, window: list[list[Piece]], source: int, offsets: bool) -> None:
        super().add(encoded, window, source, offsets)
        encoded.segments[-1] = [source + segment for segment in encoded.segments[-1]]


class Remembers(Sound):
    """Never gives more than it was once told to."""

    limit = 100_000

    def cut(self, parts: list[list[Piece]], room: int, side: str) -> list[list[Piece]]:
        self.limit = min(self.limit, room)
        return super().cut(parts, self.limit, side)


class SharesRoom(Sound):
    """Keeps what a call is told in the tokenizer itself."""

    def cut(self, parts: list[list[Piece]], room: int, side: str) -> list[list[Piece]]:
        self.room = room
        time.sleep(0)
        return super().cut(parts, self.room, side)


class WritesSpecialTokens(Sound):
    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [" ".join(self.words[index] for index in row) for row in ids]


class SavesSet(Sound):
    @classmethod
    def read(cls, path: Path) -> list[str]:
        return list(set(super().read(path)))


class HoldsLock(Sound):
    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(words)
        self.lock = threading.Lock()


class LoadsBlindly(Sound):
    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        return cls(cls.read(path))


class TakesWhatIsThere(Sound):
    """Reads the words of half a file too."""

    @classmethod
    def read(cls, path: Path) -> list[str]:
        return [json.loads(word) for word in re.findall('"[^"]*"', (path / "words.json").read_text("utf-8"))]


class RanksSet(Sound):
    """Of words with one count, the first is what the hash table says."""

    @classmethod
    def ranked(cls, counts: Mapping[str, int]) -> list[str]:
        return sorted(set(counts), key=lambda word: -counts[word])


class ReadsTwice(Sound):
    @classmethod
    def fit(cls, texts: Iterable[str], *, vocab_size: int = 8000, **options: Any) -> Tokenizer:
        total = sum(len(text) for text in texts)
        return super().fit(texts, vocab_size=min(vocab_size, total))


class SpecialOnTop(Sound):
    @classmethod
    def fit(cls, texts: Iterable[str], *, vocab_size: int = 8000, **options: Any) -> Tokenizer:
        return super().fit(texts, vocab_size=vocab_size + len(_SPECIAL))


class NamesItself(Sound):
    def fingerprint(self) -> str:
        return "words-1"


BROKEN: dict[str, type[Tokenizer]] = {
    re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower(): cls for cls in Sound.__subclasses__()
}
TOKENIZERS = {"sound": Sound, **BROKEN}


class SOUND(TokenizerConformance):
    name = "sound-tokenizer"


def broken(name: str) -> type[TokenizerConformance]:
    return type("Broken", (SOUND,), {"name": f"{name}-tokenizer"})


MUTANTS: dict[str, tuple[type[TokenizerConformance], str]] = {
    "ids_lie_in_the_vocabulary": (broken("counts-one-less"), "in a vocabulary of"),
    "special_ids_lie_in_the_vocabulary": (broken("mask-beyond"), "the id of 'mask' is"),
    "offsets_lie_in_the_text": (broken("offsets-from-one"), "no token stands for 'T', character 0"),
    "offsets_cut_out_their_token": (broken("offsets-in-utf16"), "but the token is 'the'"),
    "words_are_in_order": (broken("one-word"), "which is several words"),
    "asking_for_offsets_changes_no_ids": (
        broken("always-gives-offsets"),
        "offsets or words are given without being asked for",
    ),
    "odd_texts_give_tokens": (broken("fails-on-blanks"), "'' fails: ValueError: nothing to encode"),
    "no_window_is_longer_than_max_length": (
        broken("counts-no-special"),
        "a window of 10 tokens where max_length is 8, cut right",
    ),
    "the_end_that_is_asked_for_is_cut": (broken("cuts-right-always"), "cut left to 16 tokens, it keeps"),
    "the_longer_of_a_pair_is_cut_first": (broken("cuts-second"), "text 1 of a pair keeps nothing of"),
    "windows_overlap_and_cover_the_text": (broken("no-overlap"), "with stride=4,"),
    "pairs_have_segments_0_then_1": (broken("no-segments"), "a pair has the segments [0, 0, 0"),
    "one_by_one_equals_a_batch": (broken("pads"), "alone and among 30 texts, the ids differ"),
    "a_call_leaves_nothing_to_the_next": (broken("remembers"), "the ids differ after calls with other lengths"),
    "threads_do_not_disturb_each_other": (broken("shares-room"), "two threads that encode at once: with max_length="),
    "decoding_gives_the_words_back": (broken("writes-special-tokens"), "comes back as '[cls] the kettle"),
    "saved_files_give_the_same_elsewhere": (
        broken("saves-set"),
        "what save wrote and load read in another process has other fingerprint",
    ),
    "a_pickle_gives_the_same_elsewhere": (
        broken("holds-lock"),
        "its pickle in another process fails: PicklingError: TypeError",
    ),
    "missing_and_broken_files_are_refused": (broken("loads-blindly"), "an empty folder gives FileNotFoundError"),
    "fitting_gives_the_same_elsewhere": (
        broken("ranks-set"),
        "what is fitted on the same texts in another process has other fingerprint",
    ),
    "fitting_takes_texts_that_are_read_once": (broken("reads-twice"), "fitted on an iterator, it is another tokenizer"),
    "fitting_keeps_to_vocab_size": (broken("special-on-top"), "gives a vocabulary of"),
    "the_fingerprint_changes_with_the_vocabulary": (
        broken("names-itself"),
        "two tokenizers that give other ids have one fingerprint, 'words-1'",
    ),
}
