from __future__ import annotations

from abc import ABC, abstractmethod


class Segmenter(ABC):
    """Finds the words of a text; built without arguments, by its registered name.

    It is pickled with the tokenizer that uses it, and gives the same words for the same text in every process. Where
    it needs a package that is missing, building it raises ConfigError with what to install.
    """

    @abstractmethod
    def spans(self, text: str) -> list[tuple[int, int]]:
        """The words of *text* as [start, end) in characters, in order; none is empty, overlaps another or is blank."""
