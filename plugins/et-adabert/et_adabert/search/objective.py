from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from et_adabert.search.candidates import (
    Candidate,
    candidates,
    cells,
    collapse,
    finalists,
    front,
    measured,
    pick,
)
from et_adabert.search.efficiency import Efficiency, read_target
from et_adabert.search.measure import latency_ms
from et_adabert.search.scores import Chosen, best, draw, entropy, without_none
from et_adabert.search.supernet import Supernet
from et_adabert.student.backbone import AdaBert
from et_adabert.student.base import Layers
from et_adabert.student.cell import OPERATIONS
from et_core.errors import ConfigError
from et_core.interfaces import (
    App,
    Batch,
    Figure,
    Loss,
    Model,
    Observed,
    Phase,
    Ramp,
    Share,
    Step,
    Term,
    Tokenizer,
    build_backbone,
    value_at,
)
from et_core.training import Distillation, Lesson

_SCORES = ("operation_scores", "depth_scores")
_NONE = OPERATIONS.index("none")
_ARCHITECTURE = "architecture"


class AdaBertSearch(Distillation):
    """The differentiable search for a cell and a depth, with L = (1 - gamma) L_CE + gamma L_KD + beta L_E.

    That is the loss of Chen et al. 2020; the terms of the distillation and ``distill.labels`` are L_KD and L_CE with
    their weights, *efficiency* is beta. Each step draws one network by Gumbel noise at *temperature* and runs only that
    one. Scores have an optimiser of their own, with *architecture_lr* and *architecture_weight_decay*, and learn from
    the share *held_out* of the rows, which the weights do not see; 0 lets both learn from the same batch, as the public
    codes do. For the share *weights_first* of the steps scores rest: as long as no convolution has learned anything, to
    leave it out is the best choice. Over the other steps *temperature* and *efficiency* change, and the learning rate
    of the scores rises and falls. With *edges* "two" each draw is a network as it may be derived, two edges a node, and
    "none" is no choice; "all" is the paper's, where a draw has all nine.

    *target* ``{speedup: 20}``, ``{latency_ms: 5}`` or ``{params: 5M}`` asks for the best student inside it: at one row
    of *length* tokens, measured on this machine. At the end the derived cell at each depth, and *sampled* others, are
    compared on dev with the weights they share; the best at each depth are the finalists.
    """

    static_graph = False

    def __init__(
        self,
        *,
        model: Model,
        losses: Mapping[str, Loss],
        lessons: Sequence[Lesson],
        apps: Mapping[str, App],
        tokenizer: Tokenizer,
        teachers: Sequence[Model],
        label_weight: float | Ramp = 1.0,
        efficiency: float | Ramp = 4.0,
        temperature: float | Ramp = Ramp(1.0, 0.2, "exponential"),  # noqa: B008 - frozen
        architecture_lr: float = 3e-2,
        architecture_weight_decay: float = 1e-3,
        weights_first: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        held_out: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        edges: Literal["two", "all"] = "two",
        target: dict[str, float | str] | None = None,
        length: Annotated[int, Field(gt=0)] = 128,
        sampled: Annotated[int, Field(ge=0)] = 24,
        **rest: Any,
    ) -> None:
        super().__init__(model=model, losses=losses, lessons=lessons, label_weight=label_weight)
        _check(model, lessons)
        self._tokenizer = tokenizer
        self._texts = 1 + apps["main"].reads_pairs
        self._beta, self._temperature, self._all_edges = efficiency, temperature, edges == "all"
        self._optimisation = (architecture_lr, architecture_weight_decay)
        self._weights_first = weights_first
        self._held_out, self._length, self._sampled = held_out, length, sampled
        self._asked = target or {}
        # In a tuple: a teacher is no part of what is saved.
        self._peer = tuple(teachers[:1]) if "speedup" in self._asked else ()
        teacher_ms = sum(latency_ms(teacher, length=length) for teacher in self._peer)
        self._target = read_target(self._asked, teacher_ms) if self._asked else None
        self.efficiency = Efficiency(model, self._target, length=length, texts=self._texts)
        self._picked: Candidate | None = None
        self._measured: list[Candidate] = []
        self._said: list[str] = []
        self._share: Tensor | None = None

    @property
    def supernet(self) -> Supernet:
        backbone = self.model.backbone
        if not isinstance(backbone, Supernet):
            raise TypeError("the model is no longer a Supernet")
        return backbone

    def phases(self) -> list[Phase]:
        scores = tuple(f"model.backbone.{name}" for name in _SCORES)
        weights = tuple(name for name, _ in self.named_parameters() if name not in scores)
        lr, weight_decay = self._optimisation
        split = _ARCHITECTURE if self._held_out else "train"
        return [
            Phase("weights", weights),
            Phase(
                _ARCHITECTURE,
                scores,
                optimizer="et-adabert/score-adam",
                lr=lr,
                weight_decay=weight_decay,
                after=self._weights_first,
                split=split,
            ),
        ]

    def splits(self) -> dict[str, float]:
        if not self._held_out:
            return {"train": 1.0}
        return {"train": 1 - self._held_out, _ARCHITECTURE: self._held_out}

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        rows = torch.tensor(float(len(batch)))
        extra = ("efficiency", "depth") if phase == _ARCHITECTURE else ("efficiency",)
        return {**super().counts(batch, phase), **dict.fromkeys(extra, rows)}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        progress = self._progress(step)
        net, operations = self.supernet, self._operations()
        temperature = value_at(self._temperature, progress)
        chosen = draw(operations, net.depth_scores, temperature=temperature, all_edges=self._all_edges)
        layers = net.layers_of(batch.inputs, chosen)
        terms = self.terms(self._seen(layers, batch), batch, step)
        rows = torch.tensor(float(len(batch)))
        learned = _total(terms)
        cost = self.efficiency(operations, net.depth_scores)
        terms["efficiency"] = Term(cost * len(batch), rows, value_at(self._beta, progress))
        if step.phase == _ARCHITECTURE:
            terms["depth"] = Term(self._depth_gradient(layers, batch, step, chosen, learned) * len(batch), rows)
        paid = (value_at(self._beta, progress) * cost).detach()
        self._share = paid / (paid + learned).clamp(min=1e-12)
        return terms

    def _progress(self, step: Step) -> float:
        """From 0, as long as scores rest, to 1."""
        first = math.ceil(self._weights_first * step.total)
        return max(0, step.index - first) / max(1, step.total - first)

    def _operations(self) -> Tensor:
        """The scores [9, 10] of what an edge may be."""
        scores: Tensor = self.supernet.operation_scores
        return scores if self._all_edges else without_none(scores)

    def _choice(self) -> Chosen:
        """What would be derived of the scores as they are."""
        return best(self._operations(), self.supernet.depth_scores)

    def _depth_gradient(self, layers: Layers, batch: Batch, step: Step, chosen: Chosen, learned: Tensor) -> Tensor:
        """0, with the straight-through gradient of the loss over depths up to the one that was drawn.

        The lower classifiers are there for nothing more than their layers, which were computed. Depths beyond were not,
        and count as no better than the one drawn.
        """
        total = torch.zeros((), device=learned.device)
        if chosen.depth_soft is None:
            return total
        for depth in range(1, chosen.depth):
            with torch.no_grad():
                shallower = replace(layers, states=layers.states[: depth + 1])
                apart = _total(self.terms(self._seen(shallower, batch), batch, step)) - learned
            soft = chosen.depth_soft[depth - 1]
            total = total + apart * (soft - soft.detach())
        return total

    def _seen(self, layers: Layers, batch: Batch) -> Observed:
        head = self.model.heads_by_task[batch.task]
        features = self.supernet.features(layers, want=self.wants | head.needs)
        return Observed(features, head(features))

    def result(self) -> Model:
        """The derived network with the weights it was searched with, which it shares."""
        return self._derived(self._choice() if self._picked is None else self._picked.chosen)

    def finalists(self) -> list[Model]:
        found = finalists(self._measured, self._picked, self._target)
        return [self._derived(row.chosen) for row in found]

    def conclude(self, score: Callable[[Model], float] | None, share: Share) -> None:
        net, operations = self.supernet, self._operations().detach()
        derived, bag = self._choice(), None
        if score is not None:
            found = candidates(operations, net.depth_scores, depths=net.depths, sampled=self._sampled)
            peer = self._peer[0] if self._peer else None
            sizes = {"length": self._length, "texts": self._texts}
            self._measured, peer_ms = share(measured(found, self._derived, score, **sizes, peer=peer))
            self._target = read_target(self._asked, peer_ms) if self._asked else None
            self._picked = pick(self._measured, derived, self._target)
            bag = score(self._derived(Chosen(derived.nodes, 0)))
        chosen = derived if self._picked is None else self._picked.chosen
        none = float(operations.softmax(-1)[:, _NONE].mean())
        picked = None if self._picked is None else self._picked.score
        paid = float(self.efficiency(operations, net.depth_scores.detach())) > 0
        self._said = collapse(chosen.cell, none, bag, picked, paid=paid)
        if self._target is not None and self._picked is None:
            self._said.append(self._missed(score is None))

    def _missed(self, unmeasured: bool) -> str:
        if unmeasured:
            return (
                "without a dev set search.target could not be checked, and the derived network was taken: set data.dev"
            )
        fastest = min(self._measured, key=lambda row: row.latency_ms)
        return (
            f"no network keeps search.target; the fastest takes {fastest.latency_ms:.2f} ms with "
            f"{fastest.params / 1e6:.2f} M parameters. The derived one was taken. Lower model.hidden_size and "
            "model.embedding_size, or ask for less."
        )

    def status(self) -> str:
        chosen = self._choice()
        return f"{cells(chosen.depth)} of {'; '.join(chosen.cell.written())}"

    def readings(self) -> dict[str, float]:
        net = self.supernet
        found = {
            "search/operation_entropy": entropy(self._operations()),
            "search/depth_entropy": entropy(net.depth_scores),
            "search/cells": float(self._choice().depth),
        }
        return found if self._share is None else {**found, "search/efficiency_share": float(self._share)}

    def figures(self) -> list[Figure]:
        return [front(self._measured, self._picked, self._length)] if self._measured else []

    def notes(self) -> list[str]:
        return list(self._said)

    def _derived(self, chosen: Chosen) -> Model:
        options = {
            **{name: value for name, value in self.supernet.options.items() if name not in ("num_cells", "max_cells")},
            "cell": chosen.cell.written(),
            "num_cells": chosen.depth,
        }
        backbone = build_backbone("et-adabert/adabert", options, tokenizer=self._tokenizer)
        if not isinstance(backbone, AdaBert):
            raise TypeError(f"et-adabert/adabert is a {type(backbone).__name__}")
        self.supernet.derive(chosen, backbone)
        return Model(backbone, self.model.heads_by_task).train(self.training)


def _check(model: Model, lessons: Sequence[Lesson]) -> None:
    """ConfigError where *model* is no Supernet, or a lesson is for a student of a fixed depth."""
    if not isinstance(model.backbone, Supernet):
        raise ConfigError(
            f"the objective adabert-search searches in adabert-supernet@init, not in {model.backbone.family!r}. "
            "Let et distill call it: model=adabert@init."
        )
    for lesson in lessons:
        if lesson.distiller.recorded_layers:
            raise ConfigError(
                f"distill.terms.{lesson.name} teaches a student of a fixed depth, and a search has none yet. "
                "Use vanilla-kd and probes, or say model.cell and model.num_cells."
            )


def _total(terms: Mapping[str, Term]) -> Tensor:
    """The weighted loss of *terms* over their own counts, without a gradient."""
    values = [term.weight * term.sum.detach() / term.count.to(term.sum.device) for term in terms.values()]
    return torch.stack(values).sum()
