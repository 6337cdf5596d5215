from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from et_core.errors import ConfigError
from et_core.interfaces import Batch, Loss, Model, Objective, Step, Term


class Supervised(Objective):
    """Each task's loss on its labelled rows. With several tasks, a batch holds rows of one of them."""

    def __init__(self, model: Model, losses: Mapping[str, Loss], **rest: Any) -> None:
        super().__init__()
        self.model = model
        self.losses = nn.ModuleDict(losses)
        self.static_graph = type(self).static_graph and len(losses) == 1

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {batch.task: self._loss(batch.task).count(batch.targets)}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        return {batch.task: self.supervise(self.model(batch), batch)}

    def result(self) -> Model:
        return self.model

    def supervise(self, outputs: Mapping[str, Tensor], batch: Batch) -> Term:
        """The loss of *outputs* on the labels of *batch*; ConfigError where it reads what is not there."""
        loss = self._loss(batch.task)
        try:
            return Term(*loss(outputs, batch.targets))
        except KeyError as error:
            if (name := error.args[0]) in {**outputs, **batch.targets}:
                raise
            raise ConfigError(
                f"the loss {type(loss).__name__} reads {name!r}, which is neither among the outputs of the head "
                f"({', '.join(outputs)}) nor among the targets ({', '.join(batch.targets)}). "
                "Choose another loss: et list losses"
            ) from error

    def _loss(self, task: str) -> Loss:
        loss = self.losses[task]
        if not isinstance(loss, Loss):
            raise TypeError(f"the loss of task {task!r} is a {type(loss).__name__}, not a Loss")
        return loss
