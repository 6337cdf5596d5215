from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Texts = tuple[str, ...]
"""The texts of a row, in the order of the app's roles: one, or two of a pair."""


class Augmenter(ABC):
    """Makes new texts from those of the training rows; the teacher then labels them.

    Keyword arguments are options in a config. Where the constructor names *teacher* or *tokenizer*, it gets the first
    teacher's Model and its Tokenizer besides, such as for the table of its token embeddings.
    """

    @classmethod
    def reads(cls, options: Mapping[str, Any]) -> Any:
        """What it reads besides its *options* and the teacher, such as the hash of a model's files, as JSON values.

        New rows are kept, and made anew where this is another.
        """
        return None

    @abstractmethod
    def augment(self, rows: Sequence[Texts], rng: np.random.Generator) -> list[Texts]:
        """One new row for each of *rows*, with as many texts; the same for the same *rng*.

        A row of which nothing new can be made is given back as it is: it is then left out.
        """
