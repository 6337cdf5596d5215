from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence

from et_core.errors import EtError
from et_core.interfaces import Tracker
from et_core.runfolder import RunFolder
from et_core.training.progress import Progress

log = logging.getLogger("et")


class Recorder:
    """Where the figures of a run go: metrics.jsonl, the trackers that the run names, and the progress display.

    Exists on the main process alone; the loop waits for none of it.
    """

    def __init__(self, folder: RunFolder, *, trackers: Sequence[Tracker], progress: Progress) -> None:
        self._folder = folder
        self._trackers = trackers
        self._progress = progress
        self._last = time.perf_counter()
        self._tokens = 0
        self._rows = 0
        self.seconds = 0.0
        """Time spent in training steps, evaluation and saving left out."""
        self.rows = 0
        self.tokens = 0

    def count(self, *, rows: int, tokens: int) -> None:
        """Add a step's rows and real tokens to the throughput."""
        self._tokens += tokens
        self._rows += rows

    def step(
        self,
        step: int,
        *,
        epoch: float,
        loss: float,
        lr: float,
        grad_norm: float | None,
        terms: Mapping[str, float],
        readings: Mapping[str, float],
    ) -> None:
        """Log a training line; *terms* are shown where there are several, *readings* are the objective's own."""
        elapsed = self._lap()
        values: dict[str, float] = {"loss": loss, "lr": lr}
        if grad_norm is not None:
            values["grad_norm"] = grad_norm
        values["tokens_per_second"] = round(self._tokens / elapsed, 1)
        values["rows_per_second"] = round(self._rows / elapsed, 2)
        if len(terms) > 1:
            values |= {f"loss/{name}": value for name, value in terms.items()}
        values |= readings
        self._tokens = self._rows = 0
        self._write(step, epoch, values)
        self._progress.update(step, loss=loss, tokens_per_second=values["tokens_per_second"])

    def evaluation(self, step: int, *, epoch: float, metrics: Mapping[str, float], is_best: bool, status: str) -> None:
        self._write(step, epoch, {f"dev/{name}": value for name, value in metrics.items()})
        self._progress.evaluation(step, epoch=epoch, metrics=metrics, is_best=is_best)
        if status:
            self._progress.say(status)

    def pause(self) -> None:
        """Stop the clock of the throughput: an evaluation or a save begins."""
        self._lap()

    def resume(self) -> None:
        self._last = time.perf_counter()

    def close(self) -> None:
        self._progress.close()
        for tracker in self._trackers:
            tracker.close()

    def _lap(self) -> float:
        now = time.perf_counter()
        elapsed = max(now - self._last, 1e-9)
        self.seconds += elapsed
        self.rows += self._rows
        self.tokens += self._tokens
        self._last = now
        return elapsed

    def _write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        self._folder.append_metrics({"step": step, "epoch": round(epoch, 4), **values})
        for tracker in self._trackers:
            tracker.log(step, values)


def check_finite(name: str, value: float, step: int) -> None:
    if not math.isfinite(value):
        raise EtError(
            f"the {name} is {value} at step {step}. Lower train.lr, raise train.warmup, or set train.precision=fp32; "
            "the last checkpoint is intact."
        )
