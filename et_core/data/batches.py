from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from et_core.errors import ConfigError, DataError

_POOL = 100
"""Batches that are shuffled together before they are sorted by length: enough to keep padding under 5 %."""


class LengthBatches:
    """The order of training: shuffled batches of rows of similar length, the same for the same seed.

    *lengths* [n] are tokens per example. Every example comes once an epoch; the last batch is smaller, or where fewer
    than *least* examples would be left for it, joins the one before.
    """

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int, least: int = 1) -> None:
        if len(lengths) < least:
            raise DataError(f"{len(lengths)} training rows cannot be shared by {least} processes.")
        if batch_size < least:
            raise ConfigError(
                f"train.batch_size is {batch_size}: at least one row for each of {least} processes is needed."
            )
        self._lengths = lengths
        self._seed = seed
        starts = np.arange(0, len(lengths), batch_size)
        self._cuts = starts[1:-1] if len(starts) > 1 and len(lengths) - starts[-1] < least else starts[1:]

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._cuts) + 1

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of epoch *number*, as positions of examples."""
        rng = np.random.default_rng((self._seed, number))
        order = rng.permutation(len(self._lengths))
        pools = np.array_split(order, max(1, round(len(self) / _POOL)))
        # Sorting the pools in turn up and down lets a batch that straddles two of them keep one length.
        ranked = [pool[np.argsort(self._lengths[pool], kind="stable")] for pool in pools]
        chain = np.concatenate([pool[::-1] if index % 2 else pool for index, pool in enumerate(ranked)])
        batches = np.split(chain, self._cuts)
        return [batches[index] for index in rng.permutation(len(batches))]

    def from_step(self, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """Endlessly, from *step* on: the epoch and the batch."""
        epoch, position = divmod(step, len(self))
        while True:
            for batch in self.epoch(epoch)[position:]:
                yield epoch, batch
            epoch, position = epoch + 1, 0


def share(batch: np.ndarray, lengths: np.ndarray, *, rank: int, processes: int) -> np.ndarray:
    """The part of a global *batch* that falls to *rank*, so that all ranks have about the same number of tokens."""
    ranked = batch[np.argsort(-lengths[batch], kind="stable")]
    return ranked[rank::processes]


def split_by_budget(rows: np.ndarray, lengths: np.ndarray, *, token_budget: int, parts: int = 1) -> list[np.ndarray]:
    """Split *rows* into groups whose padded size stays under *token_budget*, longest rows first.

    At least *parts* groups where there are so many rows; a single row over the budget is a group of its own.
    """
    ranked = rows[np.argsort(-lengths[rows], kind="stable")]
    groups: list[np.ndarray] = []
    start = 0
    while start < len(ranked):
        # An even share for the groups that are still owed, which never leaves them too few rows.
        most = -(-(len(ranked) - start) // max(1, parts - len(groups)))
        size = max(1, min(most, token_budget // max(1, int(lengths[ranked[start]]))))
        groups.append(ranked[start : start + size])
        start += size
    return groups
