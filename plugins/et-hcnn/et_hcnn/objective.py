from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from et_core.errors import ConfigError
from et_core.interfaces import Batch, Features, Loss, Model, Objective, Step, Term
from et_hcnn.drss import DOMAIN, DOMAINS, DrssHead

_EPS = 1e-6
"""Added to the eigenvalues of W W^T, which are about 1: matrices that depend on each other have an inverse then."""


class Drss(Objective):
    """An app's loss, and what relates the output matrices of two domains (Yu et al. 2018).

    *covariance_weight* weighs tr(W^T Omega^-1 W): W [4, C * H] has the matrices as rows, and Omega [4, 4] is what
    minimises it, (W W^T)^(1/2) over its trace, computed anew each *update_every* steps. With *adversarial* > 0 a
    classifier of the domain learns from the shared network, which learns against it with that weight.
    """

    def __init__(
        self,
        model: Model,
        losses: Mapping[str, Loss],
        *,
        covariance_weight: Annotated[float, Field(ge=0)] = 0.01,
        update_every: Annotated[int, Field(gt=0)] = 1,
        adversarial: Annotated[float, Field(ge=0)] = 0.0,
        **rest: Any,
    ) -> None:
        super().__init__()
        self.model = model
        self.losses = nn.ModuleDict(losses)
        self._covariance_weight = covariance_weight
        self._update_every = update_every
        self._adversarial = adversarial
        self._updated_at: int | None = None
        head = self._head("main")
        self.omega: Tensor
        self.register_buffer("omega", covariance(head.matrices()))
        self.domain_classifier = nn.Linear(head.shared.shape[-1], len(DOMAINS)) if adversarial else None

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        rows = torch.tensor(float(len(batch)))
        counts = {batch.task: self._loss(batch.task).count(batch.targets), "covariance": rows}
        return counts if self.domain_classifier is None else {**counts, DOMAIN: rows}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        head = self._head(batch.task)
        features = self.model.features(batch, want=head.needs - {"pooled"})
        loss, count = self._loss(batch.task)(head(features), batch.targets)
        rows = torch.tensor(float(len(batch)), device=loss.device)
        matrices = head.matrices()
        self._update(matrices, step)
        # A mean over rows, so that the parts of a step add up to one penalty.
        terms = {
            batch.task: Term(loss, count),
            "covariance": Term(penalty(matrices, self.omega) * rows, rows, self._covariance_weight),
        }
        if self.domain_classifier is not None:
            terms[DOMAIN] = Term(self._confusion(self.domain_classifier, features), rows, self._adversarial)
        return terms

    def result(self) -> Model:
        return self.model

    def _confusion(self, classifier: nn.Linear, features: Features) -> Tensor:
        """The summed loss of *classifier* on the shared network, which gets its gradient with the other sign."""
        pooled: Any = features.pooled
        domain: Any = features.extra[DOMAIN]
        shared = pooled.chunk(2, -1)[1]
        # The same values with their gradient turned round (Ganin & Lempitsky 2015).
        turned = 2 * shared.detach() - shared
        return functional.cross_entropy(classifier(turned).float(), domain, reduction="sum")

    def _head(self, task: str) -> DrssHead:
        head = self.model.heads[task]
        if not isinstance(head, DrssHead):
            raise ConfigError(
                "objective=drss relates the output matrices of two domains, which the head 'drss' has and "
                f"{type(head).__name__} has not. Take model=hcnn-drss@init and app.domains=[source, target]."
            )
        return head

    def _loss(self, task: str) -> Loss:
        loss = self.losses[task]
        if not isinstance(loss, Loss):
            raise TypeError(f"the loss of task {task!r} is a {type(loss).__name__}, not a Loss")
        return loss

    def _update(self, matrices: Tensor, step: Step) -> None:
        # Once a step: its parts have to share one penalty.
        if step.index % self._update_every == 0 and step.index != self._updated_at:
            self.omega.copy_(covariance(matrices))
            self._updated_at = step.index


def covariance(matrices: Tensor) -> Tensor:
    """The Omega [k, k] >= 0 of trace 1 that minimises ``penalty`` of *matrices* [k, d], in fp64: Zhang & Yeung 2010."""
    rows = matrices.detach().double()
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    roots = (values.clamp(min=0) + _EPS).sqrt()
    omega: Tensor = (vectors * (roots / roots.sum())) @ vectors.T
    return omega


def penalty(matrices: Tensor, omega: Tensor) -> Tensor:
    """tr(W^T Omega^-1 W) of the rows W [k, d], a scalar in fp32."""
    with torch.autocast(matrices.device.type, enabled=False):
        rows = matrices.double()
        found: Tensor = (rows * torch.linalg.solve(omega, rows)).sum().float()
        return found
