from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any


class Progress(ABC):
    """How a person follows a run."""

    @abstractmethod
    def start(self, *, total_steps: int, done: int) -> None: ...

    @abstractmethod
    def update(self, step: int, *, loss: float, tokens_per_second: float) -> None: ...

    @abstractmethod
    def evaluation(self, step: int, *, epoch: float, metrics: Mapping[str, float], is_best: bool) -> None: ...

    @abstractmethod
    def say(self, text: str) -> None:
        """Show *text* in a line of its own."""

    @abstractmethod
    def close(self) -> None: ...


class Silent(Progress):
    def start(self, *, total_steps: int, done: int) -> None:
        return

    def update(self, step: int, *, loss: float, tokens_per_second: float) -> None:
        return

    def evaluation(self, step: int, *, epoch: float, metrics: Mapping[str, float], is_best: bool) -> None:
        return

    def say(self, text: str) -> None:
        return

    def close(self) -> None:
        return


class RichProgress(Progress):
    """A bar with loss, tokens per second and time left on a terminal; a line for each evaluation anywhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[speed]:,.0f} tokens/s"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: Any = None

    def start(self, *, total_steps: int, done: int) -> None:
        self._bar.start()
        self._task = self._bar.add_task("train", total=total_steps, completed=done, loss=float("nan"), speed=0.0)

    def update(self, step: int, *, loss: float, tokens_per_second: float) -> None:
        self._bar.update(self._task, completed=step, loss=loss, speed=tokens_per_second)

    def evaluation(self, step: int, *, epoch: float, metrics: Mapping[str, float], is_best: bool) -> None:
        figures = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._bar.update(self._task, completed=step)
        line = f"epoch {epoch:.2f}  step {step}  dev: {figures}{'  (best)' if is_best else ''}"
        self.say(line)

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()
