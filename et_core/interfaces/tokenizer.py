from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Encoded:
    """Token windows of a list of texts; a long text gives several when a stride is set.

    *sources* says which text each window is of. *offsets* are character spans in the text that a token is of (segment
    0 or 1), *words* the word each token belongs to; both are empty unless they were asked for.
    """

    ids: list[list[int]]
    segments: list[list[int]]
    sources: list[int]
    offsets: list[list[tuple[int, int]]] = field(default_factory=list)
    words: list[list[int | None]] = field(default_factory=list)


class Tokenizer(ABC):
    """Text to token ids. Loaded from a model folder, or fitted on the training data where there is none."""

    trainable: ClassVar[bool] = False
    """Whether ``fit`` can learn a vocabulary."""

    default_vocab_size: ClassVar[int] = 8000
    """What ``fit`` is given where the user says nothing."""

    @property
    @abstractmethod
    def vocab_size(self) -> int: ...

    @property
    @abstractmethod
    def pad_id(self) -> int: ...

    @property
    def special_ids(self) -> Mapping[str, int]:
        """The ids of its special tokens by role, of "pad", "unk", "cls", "sep", "mask", "bos" and "eos"."""
        return {"pad": self.pad_id}

    @abstractmethod
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
        """Encode texts, each joined with its pair where *pairs* are given.

        At most *max_length* tokens a window, special tokens included; what does not fit is cut at the *truncation*
        side ("right" or "left", the longer text first), or with *stride* > 0 goes into further windows that overlap by
        so many tokens.
        """

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The texts that *ids* stand for, special tokens left out."""
        raise TypeError(f"{type(self).__name__} turns no ids into text")

    @abstractmethod
    def fingerprint(self) -> str:
        """A short hash that changes when the same text would give other ids."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write into the folder *path*, so that ``load`` gives an equal tokenizer."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read from the folder *path*; ArtifactError where its files are missing or broken."""

    @classmethod
    def fit(cls, texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
        """Learn a vocabulary of at most *vocab_size* from *texts*, which may be read more than once.

        Further keyword arguments of a class, with types and defaults, are settings that may stand under
        ``model.tokenizer`` in a config; they are checked against the signature before data is read.
        """
        raise TypeError(f"{cls.__name__} cannot be fitted on data")
