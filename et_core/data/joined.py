from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from et_core.data.store import ExampleStore
from et_core.interfaces import Example


class JoinedStore(ExampleStore):
    """The examples of several stores, one after another; the rows of each count on from those before it."""

    def __init__(self, stores: Sequence[ExampleStore], *, origins: np.ndarray | None = None) -> None:
        """*origins* [rows] says which row each was made of, where some were."""
        self._stores = list(stores)
        self._firsts = np.cumsum([0, *(len(store) for store in stores)])
        self._rows_before = np.cumsum([0, *(store.rows_seen for store in stores)])
        self.lengths = np.concatenate([store.lengths for store in stores])
        own = [store.origins + before for store, before in zip(stores, self._rows_before[:-1], strict=True)]
        self.origins = np.concatenate(own) if origins is None else origins
        self.starts = np.concatenate(
            [store.starts + first for store, first in zip(stores, self._firsts[:-1], strict=True)]
        )

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"no example {index} among {len(self)}")
        place = int(np.searchsorted(self._firsts, index, side="right")) - 1
        example = self._stores[place][index - int(self._firsts[place])]
        row = example.row + int(self._rows_before[place])
        return Example(example.inputs, example.targets, row, example.extra)

    @property
    def rows_seen(self) -> int:
        return int(self._rows_before[-1])

    def used_ids(self) -> np.ndarray:
        return np.unique(np.concatenate([store.used_ids() for store in self._stores]))
