"""A plugin of one file: an objective to train distillers with, on the rows of a run.

It is for the author of a distiller, who wants to see it teach before it is published. Train a teacher with ``et
train``, then a student, with the path of this file (``et_core.testing.distilling.__file__``) under ``plugins.files``:

    et train student.yaml plugins.files=[.../distilling.py] \\
        objective='{name: stand-in-distillation, teacher: runs/teacher, terms: {acme-layers: 1.0}}'

It is a stand-in: users will distil with ``et distill``. Distillers that are fitted first are not for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from et_core.config import ComponentConfig
from et_core.errors import ConfigError
from et_core.hooks import Register, hookimpl
from et_core.inference import Run
from et_core.interfaces import (
    App,
    Batch,
    Distiller,
    Loss,
    Model,
    Objective,
    Observed,
    Step,
    Term,
    Tokenizer,
    build_distiller,
)

ET_API = 1
_ALWAYS = frozenset({"tokens", "pooled"})
"""Features that need not be asked for."""


@hookimpl
def et_register_objectives(register: Register) -> None:
    register("stand-in-distillation", "distilling:Distillation", summary="A finished run teaches the run's model")


class Distillation(Objective):
    """The run's model learns from its labelled rows and, by weighted terms, from the model of a finished run.

    *teacher* is that run's folder. *terms* are distillers by registered name with their weights, *options* their
    options by the same name. *loss_weight* is that of the loss on the labels.
    """

    def __init__(
        self,
        *,
        model: Model,
        losses: Mapping[str, Loss],
        apps: Mapping[str, App],
        tokenizer: Tokenizer,
        teacher: str,
        terms: dict[str, float],
        options: dict[str, dict[str, Any]] | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not terms:
            raise ConfigError("objective.terms is empty: nothing would be distilled. Write {DISTILLER: WEIGHT}.")
        if strange := sorted((options or {}).keys() - terms.keys()):
            raise ConfigError(f"objective.options has {strange[0]!r}, which is none of the terms: {', '.join(terms)}.")
        self.model = model
        self.losses = nn.ModuleDict(losses)
        self.teacher = _teacher(teacher, apps, tokenizer)
        self.distillers = nn.ModuleList(self._build(name, (options or {}).get(name, {})) for name in terms)
        self._weights = dict(terms)
        self._loss_weight = loss_weight

    def _build(self, name: str, options: Mapping[str, Any]) -> Distiller:
        config = ComponentConfig(name=name, options=dict(options))
        where = f"objective.options.{name}"
        distiller = build_distiller(config, where=where, student=self.model, teacher=self.teacher)
        for who, model in (("student", self.model), ("teacher", self.teacher)):
            if missing := sorted(distiller.wants - model.backbone.provides):
                raise ConfigError(
                    f"the distiller {name!r} wants {', '.join(missing)} of the {who}, whose family "
                    f"{model.backbone.family!r} provides {', '.join(sorted(model.backbone.provides))}."
                )
        return distiller

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        loss: Any = self.losses[batch.task]
        return {batch.task: loss.count(batch.targets), **{name: each.count(batch) for name, each in self._terms()}}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        student = self._observe(self.model, batch)
        with torch.no_grad():
            teacher = self._observe(self.teacher, batch)
            recorded = {name: distiller.record(teacher, batch) for name, distiller in self._terms()}
        total, count = self.losses[batch.task](student.outputs, batch.targets)
        found = {batch.task: Term(total, count, self._loss_weight)}
        for name, distiller in self._terms():
            term = distiller(student, recorded[name], batch, progress=step.index / step.total)
            found[name] = Term(term.sum, term.count, term.weight * self._weights[name])
        return found

    def result(self) -> Model:
        return self.model

    def _terms(self) -> list[tuple[str, Any]]:
        return list(zip(self._weights, self.distillers, strict=True))

    def _observe(self, model: Model, batch: Batch) -> Observed:
        head = model.heads_by_task[batch.task]
        wants = frozenset[str]().union(*(distiller.wants for _, distiller in self._terms()))
        features = model.features(batch, want=(wants | head.needs) - _ALWAYS)
        return Observed(features, head(features))


def _teacher(path: str, apps: Mapping[str, App], tokenizer: Tokenizer) -> Model:
    """The model of the run at *path*, frozen; ConfigError where it reads or answers in other terms than the student."""
    bundle = Run.load(path).bundle
    if bundle.tokenizer.fingerprint() != tokenizer.fingerprint():
        raise ConfigError(
            f"the teacher in {path} reads other tokens than the student, and both are given the same rows. "
            f"Let the student use its tokenizer: model.tokenizer={path}/model@local"
        )
    for task, app in apps.items():
        taught = bundle.apps.get(task)
        if taught is None or taught.state() != app.state():
            known = "no such task" if taught is None else taught.describe()
            raise ConfigError(f"the teacher in {path} learned {known}; the student learns {app.describe()}.")
    return bundle.model.requires_grad_(False).eval()
