from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from et_core.errors import ConfigError, DataError

_POOL = 100
"""Batches that are shuffled together before they are sorted by length: enough to keep padding under 5 %."""


class LengthBatches:
    """The order of training: shuffled batches of rows of similar length, the same for the same seed.

    *lengths* [n] are tokens per example. Every example comes once an epoch; the last batch is smaller, or where fewer
    than *processes* examples would be left for it, joins the one before.
    """

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int, processes: int = 1) -> None:
        if len(lengths) < processes:
            raise DataError(f"{len(lengths)} training rows cannot be shared by {processes} processes.")
        if batch_size < processes:
            raise ConfigError(
                f"train.batch_size is {batch_size}: at least one row for each of {processes} processes is needed."
            )
        self._lengths = lengths
        self._seed = seed
        starts = np.arange(0, len(lengths), batch_size)
        self._cuts = starts[1:-1] if len(starts) > 1 and len(lengths) - starts[-1] < processes else starts[1:]

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

    def from_step(self, step: int) -> Iterator[np.ndarray]:
        """Endlessly, from *step* on: the batches."""
        epoch, position = divmod(step, len(self))
        while True:
            yield from self.epoch(epoch)[position:]
            epoch, position = epoch + 1, 0


def split_by_budget(
    rows: np.ndarray, lengths: np.ndarray, *, token_budget: int, parts: int = 1, processes: int = 1
) -> list[np.ndarray]:
    """Split *rows* into groups, longest rows first, of which each of *processes* takes every so-many-th row.

    What one process pads stays under *token_budget* tokens; a single row over it is a share of its own. There are at
    least *parts* groups where there are so many rows, and each has a row for every process.
    """
    ranked = rows[np.argsort(-lengths[rows], kind="stable")]
    rounds = max(1, len(ranked) // processes)
    groups: list[np.ndarray] = []
    start = 0
    while start < rounds and len(ranked):
        # An even share for the groups that are still owed, which never leaves them too few rows.
        most = -(-(rounds - start) // max(1, parts - len(groups)))
        size = max(1, min(most, token_budget // max(1, int(lengths[ranked[start * processes]]))))
        # The last group takes the rows, the shortest, that do not go round.
        end = (start + size) * processes if start + size < rounds else len(ranked)
        groups.append(ranked[start * processes : end])
        start += size
    return groups
