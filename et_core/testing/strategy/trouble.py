"""A worker that fails, in a module of its own: the processes that run it import little."""

from __future__ import annotations

from et_core.interfaces import Strategy

TROUBLE = "this process was told to fail"


def fail(strategy: Strategy) -> None:
    """Raise in the last process, while the others wait for it."""
    if strategy.rank == strategy.processes - 1:
        raise ValueError(TROUBLE)
    strategy.barrier()
