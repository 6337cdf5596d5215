from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from et_core.data.store import ExampleStore
from et_core.interfaces import Evaluation, Example, Strategy

_WINDOW = 4096


def evaluate(
    engine: Callable[[Sequence[Example]], Mapping[str, np.ndarray]],
    store: ExampleStore,
    evaluation: Evaluation,
    *,
    strategy: Strategy | None = None,
) -> Evaluation:
    """Run over *store* window by window and add each to *evaluation*; several processes share the windows.

    Every rank sees all outputs in the same order, so that all arrive at the same figures.
    """
    processes = strategy.processes if strategy else 1
    windows = _windows(store, processes)
    for first in range(0, len(windows), processes):
        turn = windows[first : first + processes]
        mine = turn[strategy.rank] if strategy and strategy.rank < len(turn) else turn[0]
        outputs = engine(store.take(mine)) if not strategy or strategy.rank < len(turn) else {}
        gathered = strategy.gather(outputs) if strategy else [outputs]
        for window, found in zip(turn, gathered, strict=False):
            evaluation.update(found, store.take(window))
    return evaluation


def _windows(store: ExampleStore, processes: int) -> list[range]:
    """Runs of examples, cut only where a row begins, so that an evaluation gets all windows of a row together."""
    size = max(1, min(_WINDOW, -(-len(store) // processes)))
    cuts = store.starts[np.searchsorted(store.starts, np.arange(0, len(store), size), side="right") - 1]
    return [range(start, end) for start, end in pairwise([*np.unique(cuts).tolist(), len(store)])]
