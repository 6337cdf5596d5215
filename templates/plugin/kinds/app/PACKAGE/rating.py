from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from et_core.errors import ConfigError
from et_core.interfaces import (
    App,
    Evaluation,
    Example,
    Figure,
    HeadSpec,
    LossSpec,
    Matrix,
    Metric,
    Processor,
    Role,
    Row,
    Tokenizer,
)
from et_core.registry import registry

# With their distributions, so that no plugin that registers the same name stands in the way.
_HEAD = "et-appzoo/pooled-linear"
_LOSS = "et-core/binary-cross-entropy"
_METRICS = ("et-appzoo/mae", "et-appzoo/spearman")


@dataclass(frozen=True)
class Rated:
    """*prediction* is a number of the scale, *mean* the one that is expected, with all that lies between."""

    prediction: int
    mean: float


class Rating(App):
    """How many stars a text gives, as one question for each step of the scale: is it more? (Frank and Hall 2001)

    A prediction is the lowest number and one for each yes, so that to be off by one costs less than to be off by four.
    """

    roles: ClassVar[Mapping[str, Role]] = {
        "text": Role(str, "the text"),
        "label": Role(int, "a whole number", target=True),
    }
    prediction: ClassVar[type] = Rated
    view: ClassVar[str] = "number"

    def __init__(self, *, lowest: int | None = None, highest: int | None = None) -> None:
        """The ends of the scale; those of the training data by default."""
        if lowest is not None and highest is not None and lowest >= highest:
            raise ConfigError(f"app.lowest is {lowest} and app.highest {highest}: a scale has two numbers at least.")
        self._lowest, self._highest = lowest, highest

    @property
    def needs(self) -> frozenset[str]:
        needs: frozenset[str] = registry("heads").get(_HEAD).needs
        return needs

    def fit(self, rows: Iterable[Row]) -> None:
        numbers = [self._number(row) for row in rows]
        if not numbers:
            raise ConfigError("no row of the training data has a number. Check data.columns.label.")
        if self._lowest is None:
            self._lowest = min(numbers)
        if self._highest is None:
            self._highest = max(numbers)
        if self.steps < 1:
            raise ConfigError(f"the training data holds only the number {self._lowest}: a scale has two at least.")

    @property
    def lowest(self) -> int:
        return self._lowest or 0

    @property
    def steps(self) -> int:
        """How many steps it is from the lowest number to the highest."""
        return (self._highest or 0) - self.lowest

    def check(self, row: Row) -> None:
        self._number(row)

    def describe(self) -> str:
        return f"a number from {self.lowest} to {self.lowest + self.steps}"

    def state(self) -> dict[str, Any]:
        return {"lowest": self._lowest, "highest": self._highest}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._lowest, self._highest = state["lowest"], state["highest"]

    def head(self) -> HeadSpec:
        return HeadSpec("", _HEAD, {"num_outputs": self.steps})

    def loss(self) -> LossSpec:
        return LossSpec(_LOSS)

    def encode(
        self,
        rows: Sequence[Row],
        tokenizer: Tokenizer,
        *,
        max_length: int,
        accepts: frozenset[str],
        truncation: str = "right",
        processor: Processor | None = None,
    ) -> list[Example]:
        encoded = tokenizer.encode([row["text"] for row in rows], max_length=max_length, truncation=truncation)
        return [
            Example({"texts.0.ids": np.asarray(ids, np.int32)}, self._targets(row), row.index)
            for row, ids in zip(rows, encoded.ids, strict=True)
        ]

    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Rated]:
        means, numbers = self.read(outputs)
        return [Rated(number, mean) for number, mean in zip(numbers.tolist(), means.round(6).tolist(), strict=True)]

    def read(self, outputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The expected number and the predicted one of each row, both [N]."""
        more = 0.5 * (1 + np.tanh(0.5 * np.asarray(outputs["logits"], np.float64)))
        return self.lowest + more.sum(1), self.lowest + (more >= 0.5).sum(1)

    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        return RatingEvaluation(self, _METRICS if metrics is None else metrics)

    def _targets(self, row: Row) -> dict[str, np.ndarray]:
        """For each step of the scale 1 where the row's number is beyond it, else 0."""
        if "label" not in row:
            return {}
        number = self._number(row)
        return {"label": (np.arange(self.steps) < number - self.lowest).astype(np.float32)}

    def _number(self, row: Row) -> int:
        value = row["label"]
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not number.is_integer():
            raise row.error("label", f"holds {value!r}, which is no whole number.")
        if (self._lowest is not None and number < self._lowest) or (
            self._highest is not None and number > self._highest
        ):
            raise row.error("label", f"holds {value!r}, which is not on the scale: {self.describe()}.")
        return int(number)


class RatingEvaluation(Evaluation):
    """Registered metrics of numbers, and how often each number was taken for which."""

    def __init__(self, app: Rating, metrics: Sequence[str]) -> None:
        self._app = app
        self._metrics: dict[str, Metric] = {}
        self._counts = np.zeros((app.steps + 1, app.steps + 1), np.int64)
        found = registry("metrics")
        for name in metrics:
            if "regression" not in found.get(name).modes:
                raise ConfigError(f"metrics: {found.find(name).name} is not defined for numbers; mae and pearson are.")
            self._metrics[found.find(name).name] = found.create(name)

    def update(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> None:
        means, numbers = self._app.read(outputs)
        targets = self._app.lowest + np.asarray([example.targets["label"].sum() for example in examples])
        for metric in self._metrics.values():
            metric.update(predictions=numbers.astype(np.float64), targets=targets, scores=means)
        np.add.at(self._counts, (targets.astype(np.int64) - self._app.lowest, numbers - self._app.lowest), 1)

    def metrics(self) -> dict[str, float]:
        return {name: metric.compute() for name, metric in self._metrics.items()}

    def higher_is_better(self, name: str) -> bool:
        return name in self._metrics and self._metrics[name].higher_is_better

    def figures(self, read: Callable[[Sequence[int]], list[Row]]) -> list[Figure]:
        labels = [str(self._app.lowest + step) for step in range(self._app.steps + 1)]
        return [Matrix("Numbers", labels, self._counts.tolist())]
