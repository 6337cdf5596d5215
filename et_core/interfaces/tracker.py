from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path


class Tracker(ABC):
    """Where figures go besides metrics.jsonl. Built with the run's folder and its resolved config.

    In a run that goes on from a checkpoint, metrics.jsonl already ends at its step when the tracker is built: what
    the tracker was given after that step will come again.
    """

    @abstractmethod
    def __init__(self, *, folder: Path, config: Mapping[str, object]) -> None: ...

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record *values* of the step number *step*. Must return at once: it is called from the training loop."""

    @abstractmethod
    def close(self) -> None: ...
