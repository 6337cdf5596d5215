"""Pre-trained word vectors from files, read line by line and kept only for the words of a vocabulary."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from et_core.errors import ConfigError, DataError
from et_core.interfaces import Tokenizer

log = logging.getLogger("et")

_WORD_LISTS = (".vocab", ".txt")
_BINARY = (".bin", ".gz", ".zip", ".magnitude")
_SAMPLE = 1000
"""Words from the beginning of a file that are looked at where none is in the vocabulary."""

_SHOWN = 3


@dataclass(frozen=True)
class _Found:
    """The rows of a vocabulary that a file has: *vectors* [n, D] for the token *ids* [n].

    *words* are the first ones of the file, and *listed* is the list that they were read from, where there is one.
    """

    ids: np.ndarray
    vectors: np.ndarray
    words: Sequence[str]
    listed: Path | None = None


def load_vectors(path: str, tokenizer: Tokenizer, *, size: int | None = None) -> Tensor:
    """A table [V, D] for the words of *tokenizer*: those of the file *path*, the others random of the same scale.

    ConfigError where the file is missing, is not of the wanted *size* or knows none of the words; DataError with file
    and line where it is broken.
    """
    vocabulary = getattr(tokenizer, "vocabulary", None)
    if vocabulary is None:
        raise ConfigError(
            f"model.vectors is {path}, but a {type(tokenizer).__name__} has no whole words to look up in it. "
            "Leave it out, or leave out model.tokenizer."
        )
    file = Path(path).expanduser()
    _check_file(file)
    read = _read_matrix if file.suffix == ".npy" else _read_text
    found = read(file, vocabulary, lambda there: _check_size(file, there, size))
    special = set(tokenizer.special_ids.values())
    words = [word for word in sorted(vocabulary, key=vocabulary.__getitem__) if vocabulary[word] not in special]
    if not len(found.ids):
        raise ConfigError(
            f"model.vectors: {file} has none of the {len(words)} words of the vocabulary. The file begins with "
            f"{_shown(found.words)}, the vocabulary with {_shown(words)}. {_advice(found, words)}"
        )
    share = 100 * len(found.ids) / len(words)
    log.info("vectors: %d of %d words found in %s (%.1f %%)", len(found.ids), len(words), file, share)
    table = torch.randn(tokenizer.vocab_size, found.vectors.shape[1]) * float(found.vectors.std())
    table[torch.from_numpy(found.ids)] = torch.from_numpy(found.vectors)
    return table


def _shown(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words[:_SHOWN])) or "nothing"


def _advice(found: _Found, words: Sequence[str]) -> str:
    """What may be done where no word of the file is one of *words*, the vocabulary."""
    known = set(words)
    lower = {word.lower() for word in words}
    if found.listed and any(parts[1:] and parts[0].lower() in lower for parts in map(str.split, found.words)):
        return f"A line of {found.listed.name} has to hold a word alone."
    if any(word.lower() in known for word in found.words):
        return "Words as the file has them need model.tokenizer.lowercase=false."
    if any(word in lower for word in found.words):
        return "Words as the file has them need model.tokenizer.lowercase=true."
    return "Take vectors whose words are those of the training rows, split in the same way."


CheckSize = Callable[[int], None]
"""Called with the dimension that a file has, as soon as that is known."""


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise ConfigError(f"model.vectors: there is no file {file} (looked from {Path.cwd()}).")
    if file.suffix in _BINARY:
        raise ConfigError(
            f"model.vectors: {file} is packed or binary. Unpack it, or save it as text, a word and its numbers a line "
            "(gensim: save_word2vec_format(NAME, binary=False))."
        )


def _check_size(file: Path, there: int, wanted: int | None) -> None:
    if wanted is not None and there != wanted:
        raise ConfigError(
            f"model.embedding_size is {wanted}, but the vectors in {file} have {there} numbers. "
            f"Leave it out, or set model.embedding_size={there}."
        )


def _read_text(file: Path, vocabulary: Mapping[str, int], check_size: CheckSize) -> _Found:
    """A line is a word and its numbers; the first one may hold how many words and numbers there are."""
    rows: dict[int, np.ndarray] = {}
    first: list[str] = []
    size = 0
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1 and (stated := _header(line)):
                size = stated
                check_size(size)
                continue
            if not size:
                size = _dimension(file, number, line)
                check_size(size)
            word = _word(file, number, line, size)
            if word and number <= _SAMPLE:
                first.append(word)
            place = vocabulary.get(word)
            if place is not None and place not in rows:
                rows[place] = _numbers(file, number, line, size)
    if not size:
        raise DataError(f"{file} is empty: expected a word and its numbers a line.")
    vectors = np.stack([*rows.values()] or [np.zeros(size, np.float32)])
    return _Found(np.fromiter(rows, np.int64, len(rows)), vectors, first)


def _header(line: bytes) -> int:
    """The dimension that a first line of two whole numbers states; 0 for any other line."""
    parts = line.split()
    return int(parts[1]) if len(parts) == 2 and all(part.isdigit() for part in parts) else 0


def _dimension(file: Path, number: int, line: bytes) -> int:
    found = len(line.split()) - 1
    if found < 1:
        raise DataError(f"{file} line {number}: expected a word and its numbers.")
    return found


def _word(file: Path, number: int, line: bytes, size: int) -> str:
    """The word of *line*, which may hold blanks: some of GloVe's do."""
    # Of a well-formed line only the word is taken apart: files have millions of lines, and a vocabulary needs few.
    if line.count(b" ") == size:
        word = line.partition(b" ")[0]
    elif not line.strip():
        return ""
    else:
        parts = line.split()
        if len(parts) <= size or any(_is_number(part) for part in parts[1:-size]):
            raise DataError(f"{file} line {number}: {len(parts) - 1} numbers follow the word, where {size} are due.")
        word = b" ".join(parts[:-size])
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} line {number}: the word is not UTF-8: {error}") from error


def _numbers(file: Path, number: int, line: bytes, size: int) -> np.ndarray:
    parts = line.split()[-size:]
    for part in parts:
        if not _is_number(part):
            raise DataError(f"{file} line {number}: {part.decode(errors='replace')!r} is not a number.")
    numbers = _fp32(parts)
    if not np.isfinite(numbers).all():
        large = parts[int(np.isfinite(numbers).argmin())].decode()
        raise DataError(f"{file} line {number}: {large!r} is beyond the numbers that fp32 has, which end at 3.4e38.")
    return numbers


def _fp32(numbers: Any) -> np.ndarray:
    """*numbers* in fp32, infinite where they are too large for it."""
    with np.errstate(over="ignore"):
        return np.asarray(numbers, dtype=np.float32)


def _is_number(part: bytes) -> bool:
    try:
        return bool(np.isfinite(float(part)))
    except ValueError:
        return False


def _read_matrix(file: Path, vocabulary: Mapping[str, int], check_size: CheckSize) -> _Found:
    """A matrix [V, D], of which only the wanted rows are read, and a list of its words."""
    try:
        matrix = open_memmap(file, mode="r")
    except Exception as error:  # numpy takes a header for Python, and a broken one raises whatever Python does
        raise DataError(f"{file} cannot be read as a matrix that numpy.save wrote: {error}") from error
    if matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise DataError(f"{file} holds {matrix.dtype} of shape {list(matrix.shape)}: expected numbers [V, D].")
    check_size(matrix.shape[1])
    listed = _word_list(file)
    words = list(_lines(listed))
    if len(words) != len(matrix):
        raise DataError(f"{listed} has {len(words)} words, but {file} has {len(matrix)} rows.")
    rows: dict[int, int] = {}
    for row, word in enumerate(words):
        if (place := vocabulary.get(word)) is not None:
            rows.setdefault(place, row)
    vectors = _fp32(matrix[list(rows.values())])
    broken = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(broken):
        row = list(rows.values())[broken[0]]
        raise DataError(f"{file} row {row} ({words[row]!r}) holds what is no number, or none of fp32's.")
    return _Found(np.fromiter(rows, np.int64, len(rows)), vectors, words[:_SAMPLE], listed)


def _word_list(file: Path) -> Path:
    for suffix in _WORD_LISTS:
        if (listed := file.with_suffix(suffix)).is_file():
            return listed
    names = " or ".join(file.with_suffix(suffix).name for suffix in _WORD_LISTS)
    raise ConfigError(f"model.vectors: {file} needs the list of its words beside it, one a line: {names}.")


def _lines(file: Path) -> Iterator[str]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{file} line {number}: the word is not UTF-8: {error}") from error
