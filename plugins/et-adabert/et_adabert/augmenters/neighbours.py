from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch.nn import functional

from et_adabert.augmenters.settings import check_count, check_rate
from et_adabert.augmenters.vocabulary import WordPieces
from et_adabert.augmenters.words import draw_some, find_places, match_case, substitute
from et_core.errors import ConfigError
from et_core.interfaces import Augmenter, Model, Texts, Tokenizer

_ENGLISH = """
a an the this that these those and or but nor if so as than of to in on at by for with from into out up off over under
after before while because though although until when where why how who whom whose which what there
i me my you your he him his she her it its we us our they them their
am is are was were be been being has have had having do does did will would can could shall should may might must not no
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split())
"""English words whose neighbours are others of this kind, but of another grammar: "of" for "the", "are" for "and"."""

_CHUNK = 256
"""Words whose similarities to all others are held at once."""


class EmbeddingNeighbours(Augmenter):
    """Words give way to words near to them in the teacher's table of token embeddings, by cosine from its mean.

    The counterpart of the GloVe neighbours in TinyBERT's augmentation (Jiao et al. 2020, algorithm 1), from the table
    that is at hand. A word is replaced with probability *rate*, by any of its nearest *neighbours* of which the cosine
    is at least *min_similarity*, all as likely; at least one word of a row is, where any can be. Neither replaced nor
    put in are words of several pieces or of one letter, and those to *keep*: FUNCTION_WORDS, unless others are named.
    What stands between words is not touched, and where the tokenizer knows no capitals, a new word takes those of the
    old. Texts in a script without spaces stay as they are.
    """

    def __init__(
        self,
        teacher: Model,
        tokenizer: Tokenizer,
        *,
        rate: float = 0.3,
        neighbours: int = 15,
        min_similarity: float = 0.35,
        keep: Sequence[str] | None = None,
    ) -> None:
        self._rate = check_rate("rate", rate)
        self._count = check_count("neighbours", neighbours)
        if not 0 <= min_similarity < 1:
            raise ConfigError(f"min_similarity is {min_similarity:g}. It is a cosine: at least 0 and below 1.")
        self._min_similarity = min_similarity
        table = teacher.backbone.token_table()
        if table is None:
            raise ConfigError(
                f"the teacher's family {teacher.backbone.family!r} has no table of token embeddings, in which "
                "embedding-neighbours looks for words. Take another augmenter, such as random-deletion."
            )
        self._pieces = WordPieces(tokenizer)
        kept = FUNCTION_WORDS if keep is None else frozenset(word.casefold() for word in keep)
        self._barred = torch.tensor([len(word) < 2 or word.casefold() in kept for word in self._pieces.words])
        rows = table.weight.detach().cpu()[torch.from_numpy(self._pieces.ids)].float()
        self._directions = functional.normalize(rows - rows.mean(0), dim=-1)
        self._choices: dict[str, tuple[str, ...]] = {}
        self._neighbours: dict[int, tuple[str, ...]] = {}

    def augment(self, rows: Sequence[Texts], rng: np.random.Generator) -> list[Texts]:
        words = [[(place, row[place[0]][place[1] : place[2]]) for place in find_places(row)] for row in rows]
        self._learn({word for of_row in words for _, word in of_row})
        choices = self._choices
        candidates = [[(place, word) for place, word in of_row if choices[word]] for of_row in words]
        drawn = draw_some([len(of_row) for of_row in candidates], self._rate, rng)
        luck = iter(rng.random(sum(map(len, drawn))).tolist())
        augmented = []
        for row, of_row, chosen in zip(rows, candidates, drawn, strict=True):
            taken = [(of_row[index], next(luck)) for index in chosen]
            augmented.append(substitute(row, [(place, self._pick(word, share)) for (place, word), share in taken]))
        return augmented

    def _pick(self, word: str, share: float) -> str:
        choices = self._choices[word]
        chosen = choices[int(share * len(choices))]
        return match_case(chosen, word) if self._pieces.uncased else chosen

    def _learn(self, words: Collection[str]) -> None:
        """Find what each of *words* may give way to, where that is not known yet."""
        new = sorted(word for word in words if word not in self._choices)
        places = self._pieces.find(new)
        barred = self._barred
        wanted = [place for place in dict.fromkeys(places) if place is not None and not barred[place]]
        self._compare([place for place in wanted if place not in self._neighbours])
        for word, place in zip(new, places, strict=True):
            self._choices[word] = () if place is None else self._neighbours.get(place, ())

    def _compare(self, places: Sequence[int]) -> None:
        words = self._pieces.words
        count = min(self._count, len(words))
        for start in range(0, len(places), _CHUNK):
            chunk = list(places[start : start + _CHUNK])
            scores = self._directions[chunk] @ self._directions.T
            scores[:, self._barred] = -1.0
            for row, place in enumerate(chunk):
                scores[row, self._pieces.variants(words[place])] = -1.0
            best = scores.topk(count)
            for place, values, found in zip(chunk, best.values.tolist(), best.indices.tolist(), strict=True):
                near = [
                    words[other] for value, other in zip(values, found, strict=True) if value >= self._min_similarity
                ]
                self._neighbours[place] = tuple(near)
