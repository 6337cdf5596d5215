from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from et_core.interfaces.evaluation import Evaluation
from et_core.interfaces.example import Example, Row
from et_core.interfaces.tokenizer import Tokenizer
from et_core.registry import registry

if TYPE_CHECKING:
    from torch import Tensor

    from et_core.interfaces.backbone import Backbone, Processor
    from et_core.interfaces.head import Head
    from et_core.interfaces.inputs import Batch
    from et_core.interfaces.loss import Loss
    from et_core.interfaces.model import Model

_WINDOW = 4096
"""Rows that are encoded and run together in a prediction."""


@dataclass(frozen=True)
class Role:
    """A column that an app reads, of *type*; a *target* is needed only to train or evaluate."""

    type: type
    help: str
    required: bool = True
    target: bool = False


@dataclass(frozen=True)
class HeadSpec:
    """The head an app needs: the family's own for *task* where it has one, else the registered head *name*."""

    task: str
    name: str
    spec: Mapping[str, Any] = field(default_factory=dict)

    def build(self, backbone: Backbone) -> Head:
        """The head on top of *backbone*."""
        head = backbone.native_head(self.task, **self.spec) if self.task else None
        if head is None:
            head = registry("heads").create(self.name, hidden_size=backbone.hidden_size, **self.spec)
        return head


@dataclass(frozen=True)
class LossSpec:
    """A registered loss with its arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Loss:
        loss: Loss = registry("losses").create(self.name, **self.arguments)
        return loss


RunModel = Callable[[Sequence[Example]], Mapping[str, np.ndarray]]
"""Runs the model over examples and gives its outputs [N, ...] by name, in their order."""


class App(ABC):
    """What a user wants done. Works with any backbone that provides what its head needs.

    The keyword arguments of the class are the settings that may stand beside ``app:`` in a config.
    """

    roles: ClassVar[Mapping[str, Role]]
    prediction: ClassVar[type]
    """A dataclass: the fields of one predicted row."""

    view: ClassVar[str]
    """How a page shows a prediction, such as "classes"."""

    pipeline_tag: ClassVar[str | None] = None
    """The Hub's word for what this app does, such as "text-classification"."""

    kept_together: ClassVar[str | None] = None
    """A role whose rows of equal value belong together, such as the candidates of a query: a share of the training rows
    that is held out as dev is drawn by whole groups."""

    objective: ClassVar[str] = "et-core/supervised"
    """The registered objective that trains it."""

    tokenizer: Tokenizer
    """The run's tokenizer, for ``decode`` and ``evaluation``: set before any row is encoded or decoded."""

    @property
    def marks(self) -> Mapping[str, int]:
        """The per-token side inputs that ``encode`` gives: how many values each takes, by name."""
        return {}

    @property
    def reads_pairs(self) -> bool:
        """Whether a row has two texts; known once it has learned its labels."""
        return False

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """What its head needs of a backbone (``Head.needs``); checked before data is read."""

    @property
    def text_roles(self) -> tuple[str, ...]:
        """The roles whose texts are read: the columns of text that are no target, in their order."""
        return tuple(name for name, role in self.roles.items() if role.type is str and not role.target)

    def texts(self, row: Row) -> Iterable[str]:
        """What of *row* a tokenizer is fitted on, where there is none: the texts that are read."""
        return (row[name] for name in self.text_roles if name in row)

    @abstractmethod
    def fit(self, rows: Iterable[Row]) -> None:
        """Learn label names or ranges from training rows, which may be read more than once."""

    @abstractmethod
    def describe(self) -> str:
        """What is predicted, in a few words for a report, such as "2 labels: negative, positive"."""

    def check(self, row: Row) -> None:
        """Raise ``Row.error`` if *row* cannot be learned from; called before ``fit`` where bad rows are skipped."""
        return

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What ``fit`` and ``calibrate`` learned, as plain JSON values."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state`` gave, in place of ``fit``."""

    def answers(self) -> Any:
        """What its predictions speak of, such as the names of its labels: equal where one model can teach another."""
        return self.state()

    def target_of(self, prediction: Any) -> dict[str, Any]:
        """The target columns of a row for which *prediction* would be right: how a teacher labels new rows.

        TypeError where a prediction does not say them.
        """
        raise TypeError(f"{type(self).__name__} makes no labels of predictions, so a teacher cannot label new rows")

    @abstractmethod
    def head(self) -> HeadSpec:
        """The head for the labels that were learned."""

    @abstractmethod
    def loss(self) -> LossSpec:
        """The loss for the labels that were learned."""

    @abstractmethod
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
        """Turn rows into examples, with targets where the rows have them. One row may give several windows.

        *accepts* is the backbone's own: of "text" and "texts" it says whether a pair is joined. *max_length* is in
        tokens, for each text; *truncation* the side that is cut. *processor* is the backbone's, for images. A row that
        cannot be used raises ``Row.error``, which names file, line and column.

        What is kept on the app here is lost: encoded rows come from a cache where they can, and ranks share one.
        """

    def outputs(self, model: Model, batch: Batch) -> Mapping[str, Tensor]:
        """What ``decode`` and ``evaluation`` get of *batch*: tensors [B, ...] by name, the head's unless overridden.

        Called without gradients. Generation calls ``model.backbone.generate`` here; an app that scores few of many
        positions asks the head for these alone.
        """
        found: Mapping[str, Tensor] = model(batch)
        return found

    @abstractmethod
    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Any]:
        """One ``prediction`` a row, in row order, from ``outputs`` [N, ...] over *examples*, a row's windows merged.

        NumPy alone, so that exported models share it.
        """

    @abstractmethod
    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        """A fresh accumulator; *metrics* by registered name ("distribution/name"), or None for those that fit."""

    def calibrate(self, evaluation: Evaluation) -> bool:
        """Tune on a dev set what is tuned after training; return whether anything changed."""
        return False

    def predict(
        self, rows: Iterable[Row], encode: Callable[[Sequence[Row]], list[Example]], run: RunModel
    ) -> Iterator[Any]:
        """One prediction a row, in order, as *rows* stream by; tasks where one answer feeds the next override this.

        Where a user wants bad rows left out, *encode* gives no example of such a row, and it has no prediction.
        """
        source = iter(rows)
        while window := list(islice(source, _WINDOW)):
            if examples := encode(window):
                yield from self.decode(run(examples), examples)
