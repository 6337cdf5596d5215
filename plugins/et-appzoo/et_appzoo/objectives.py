from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from et_core.errors import ConfigError
from et_core.interfaces import App, Batch, Model, Objective, Step, Term


class InBatchNegatives(Objective):
    """Multiple-negatives ranking (Henderson et al. 2017, section 4.4), the InfoNCE of Oord et al. 2018 (equation 4).

    The first text of each pair with the positive label has to find its second text among those of all rows of the
    batch, by softmax over *scale* times the cosine. Rows with the other label are nobody's answer; their second texts
    are wrong answers, and hard ones where the data chose them so. With *symmetric* each second text has to find its
    first one too, and the loss is the mean of both.

    An equal text is no wrong answer: left out of a row's choice are texts that the batch gives as a right answer to the
    same text, and that text itself.

    The choice is among what is computed together: where ``train.token_budget`` or ``train.accumulate`` cuts a batch
    into parts, among the rows of a part, over all processes.
    """

    compares_rows: ClassVar[bool] = True

    def __init__(
        self,
        *,
        model: Model,
        apps: Mapping[str, App],
        scale: Annotated[float, Field(gt=0)] = 20.0,
        symmetric: bool = False,
        **rest: Any,
    ) -> None:
        super().__init__()
        for app in apps.values():
            if not getattr(app, "gives_positives", False):
                raise ConfigError(
                    "objective=in-batch-negatives compares vectors of texts that one of two labels calls a match: "
                    "it is for app=matching with app.towers=2 and app.mode=single-label, and this run predicts "
                    f"{app.describe()}. Change that, or leave objective out."
                )
            for name in getattr(app, "loss_settings", ()):
                raise ConfigError(
                    f"app.{name} has no effect with objective=in-batch-negatives, which has a loss of its own. "
                    "Leave one of them out."
                )
        self.model = model
        self._scale = scale
        self._symmetric = symmetric

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {batch.task: batch.targets["positive"].sum().float()}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        outputs, targets = self.model(batch), batch.targets
        places = batch.rows.to(outputs["first"].device)
        keys = torch.stack([places, targets["positive"], targets["first"], targets["second"]], 1)
        everyone = step.all_gather(keys)
        first, second = outputs["first"], outputs["second"]
        rows = _Rows(keys[targets["positive"].bool()], everyone)
        with torch.autocast(first.device.type, enabled=False):
            losses = [self._loss(first, step.all_gather(second), rows, targets["positive"].bool())]
            if self._symmetric:
                losses.append(self._loss(second, step.all_gather(first), rows.swapped(), targets["positive"].bool()))
            return {batch.task: Term(torch.stack(losses).mean(), self.counts(batch, step.phase)[batch.task])}

    def result(self) -> Model:
        return self.model

    def _loss(self, asking: Tensor, answers: Tensor, rows: _Rows, positive: Tensor) -> Tensor:
        scores = self._scale * asking[positive].float() @ answers.float().T
        scores = scores.masked_fill(rows.equal(), float("-inf"))
        return functional.cross_entropy(scores, rows.own(), reduction="sum")


@dataclass(frozen=True)
class _Rows:
    """Who asks [P, 4] and whose answers there are to choose from [B, 4].

    The columns are a row's place in the data, whether it is a match, and the hashes of the asking and the answering
    text.
    """

    asking: Tensor
    answering: Tensor

    def swapped(self) -> _Rows:
        order = [0, 1, 3, 2]
        return _Rows(self.asking[:, order], self.answering[:, order])

    def own(self) -> Tensor:
        """Which of the answers is each asking row's own: [P]."""
        return self._is_own().int().argmax(1)

    def equal(self) -> Tensor:
        """Which answers equal a right one, or the question, without being the row's own: [P, B]."""
        question, answer = self.asking[:, 2:3], self.answering[:, 3]
        right = (question == self.answering[:, 2]) & self.answering[:, 1].bool()
        same = answer[:, None] == answer
        known = (right.float() @ same.float() > 0) | (answer == question)
        return known & ~self._is_own()

    def _is_own(self) -> Tensor:
        return self.asking[:, :1] == self.answering[:, 0]
