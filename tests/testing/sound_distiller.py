"""The sound distiller that the broken ones of mutants_distiller.py differ from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from et_core.interfaces import Batch, Distiller, Model, Observed, Term


class Sound(Distiller):
    """Logits by divergence at a temperature, layers by squared distance, the student's brought to another width.

    Rows whose logits are near the teacher's mean weigh more.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"layers"})
    per_token: ClassVar[frozenset[str]] = frozenset({"states"})
    fit_rows = 12

    def __init__(self, *, student: Model, teacher: Model, temperature: float = 2.0) -> None:
        super().__init__()
        widths = student.backbone.hidden_size, teacher.backbone.hidden_size
        self.project: nn.Module = nn.Identity() if widths[0] == widths[1] else nn.Linear(*widths, bias=False)
        self.temperature = temperature
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(()), persistent=False)

    def fit(self, observed: Iterable[tuple[Observed, Batch]]) -> None:
        self.centre = torch.cat([seen.outputs["logits"].float() for seen, _ in observed]).mean(0)

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        logits = teacher.outputs["logits"].float()
        weights = (self.centre - logits).square().mean(-1).neg().exp()
        return {"logits": logits, "weights": weights, "states": self.top(teacher).half()}

    def count(self, batch: Batch) -> Tensor:
        return batch.inputs.texts[0].mask.sum().float()

    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        mask = batch.inputs.texts[0].mask
        logits = self.logits(student, recorded) * recorded["weights"].float()[:, None]
        return Term(logits.sum() + self.layers(student, recorded, mask).sum(), self.count(batch))

    def logits(self, student: Observed, recorded: Mapping[str, Tensor]) -> Tensor:
        mine, goal = (self.log_softmax(seen["logits"].float()) for seen in (student.outputs, recorded))
        return functional.kl_div(mine, goal, reduction="none", log_target=True)

    def log_softmax(self, logits: Tensor) -> Tensor:
        return (logits / self.temperature).log_softmax(-1)

    def layers(self, student: Observed, recorded: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        return self.compare(self.project(self.top(student).float()), recorded["states"].float(), mask)

    def top(self, seen: Observed) -> Tensor:
        layers: Any = seen.features.extra["layers"]
        top: Tensor = layers[-1]
        return top

    def compare(self, mine: Tensor, goal: Tensor, mask: Tensor) -> Tensor:
        return (mine - goal).square().mean(-1) * mask
