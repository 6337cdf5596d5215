from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from et_core.data import ExampleStore, LengthBatches, collate, split_by_budget
from et_core.interfaces import Batch

_AHEAD = 3


@dataclass(frozen=True)
class Turn:
    """One step's worth of a split: this rank's *parts*, and what the batch holds over all ranks."""

    parts: list[Batch]
    rows: int
    tokens: int


class Split(Protocol):
    """Where the batches of training come from, such as the rows of one task, or of several in turn."""

    @property
    def steps_per_epoch(self) -> int: ...

    def turns(self, step: int) -> Generator[Turn]:
        """Endlessly, from the step number *step* on: the same for the same step, whenever training began.

        Closed when training ends, so that what works ahead can stop.
        """


def share_out(origins: np.ndarray, shares: Mapping[str, float], *, seed: int) -> dict[str, np.ndarray]:
    """Deal rows out at random by *shares* [0, 1], which add up to 1: the positions of each, ascending.

    Rows of the same *origins* [rows] stay together: a row and those that augmentation made of it.
    """
    distinct = np.unique(origins)
    order = np.random.default_rng((seed, 2)).permutation(len(distinct))
    cuts = np.rint(np.cumsum(list(shares.values()))[:-1] * len(distinct)).astype(int)
    dealt = zip(shares, np.split(order, cuts), strict=True)
    return {name: np.flatnonzero(np.isin(origins, distinct[chosen])) for name, chosen in dealt}


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
        examples: np.ndarray | None = None,
    ) -> None:
        """*examples* are the positions in *store* that belong to the split; None takes all."""
        self._store = store
        self._examples = np.arange(len(store)) if examples is None else examples
        self._order = LengthBatches(
            store.lengths[self._examples], batch_size=batch_size, seed=seed, processes=processes
        )
        self._pad_id = pad_id
        self._token_budget = token_budget
        self._parts = parts
        self._rank = rank
        self._processes = processes
        self._task = task

    @property
    def steps_per_epoch(self) -> int:
        return len(self._order)

    def turns(self, step: int) -> Generator[Turn]:
        # Collated a few steps ahead in a thread, so that the device never waits for padding.
        with ThreadPoolExecutor(1, thread_name_prefix="collate") as pool:
            ahead: deque[Future[Turn]] = deque()
            for positions in self._order.from_step(step):
                ahead.append(pool.submit(self._collate, self._examples[positions]))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft().result()

    def _collate(self, rows: np.ndarray) -> Turn:
        lengths = self._store.lengths
        # Cut before it is shared out, so that all ranks have equally many parts and can meet in each.
        groups = split_by_budget(
            rows, lengths, token_budget=self._token_budget, parts=self._parts, processes=self._processes
        )
        shares = [group[self._rank :: self._processes] for group in groups]
        parts = [collate(self._store.take(share), pad_id=self._pad_id, task=self._task) for share in shares]
        return Turn(parts, len(rows), int(lengths[rows].sum()))
