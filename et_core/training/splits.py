from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from et_core.data import ExampleStore, LengthBatches, collate, share, split_by_budget
from et_core.interfaces import Batch

_AHEAD = 3


@dataclass(frozen=True)
class Turn:
    """One step's worth of a split: this rank's *parts*, and what the batch holds over all ranks."""

    epoch: int
    parts: list[Batch]
    rows: int
    tokens: int


class Split(Protocol):
    """Where the batches of training come from, such as the rows of one task, or of several in turn."""

    @property
    def steps_per_epoch(self) -> int: ...

    def turns(self, step: int) -> Iterator[Turn]:
        """Endlessly, from the step number *step* on: the same for the same step, whenever training began."""


class StoreSplit:
    """Encoded rows in shuffled batches of similar length, shared out over the ranks and cut to the token budget."""

    def __init__(
        self,
        store: ExampleStore,
        *,
        batch_size: int,
        seed: int,
        pad_id: int,
        token_budget: int,
        parts: int = 1,
        rank: int = 0,
        processes: int = 1,
        task: str = "main",
    ) -> None:
        self._store = store
        self._order = LengthBatches(store.lengths, batch_size=batch_size, seed=seed, least=processes)
        self._pad_id = pad_id
        self._token_budget = token_budget
        self._parts = parts
        self._rank = rank
        self._processes = processes
        self._task = task

    @property
    def steps_per_epoch(self) -> int:
        return len(self._order)

    def turns(self, step: int) -> Iterator[Turn]:
        # Collated a few steps ahead in a thread, so that the device never waits for padding.
        with ThreadPoolExecutor(1, thread_name_prefix="collate") as pool:
            ahead: deque[Future[Turn]] = deque()
            for epoch, rows in self._order.from_step(step):
                ahead.append(pool.submit(self._collate, epoch, rows))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()

    def _collate(self, epoch: int, rows: np.ndarray) -> Turn:
        lengths = self._store.lengths
        mine = share(rows, lengths, rank=self._rank, processes=self._processes)
        groups = split_by_budget(mine, lengths, token_budget=self._token_budget, parts=self._parts)
        parts = [collate(self._store.take(group), pad_id=self._pad_id, task=self._task) for group in groups]
        return Turn(epoch, parts, len(rows), int(lengths[rows].sum()))
