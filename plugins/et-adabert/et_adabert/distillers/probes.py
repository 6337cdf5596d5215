from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from et_adabert.distillers.base import RowDistiller, check_temperature, half
from et_adabert.distillers.divergences import Answer, answer_of, divergence, error, logits_of
from et_adabert.distillers.layers import depth, layers_of, teacher_layers
from et_adabert.distillers.probing import fit_probe
from et_core.errors import ConfigError
from et_core.interfaces import Batch, Model, Observed, Ramp, value_at


class Probes(RowDistiller):
    """A classifier on each layer of the student follows a probe of the teacher: L_KD of Chen et al. 2020 (AdaBERT).

    A probe is a classifier on one layer of the finished teacher: softmax, sigmoid for several labels, or linear for
    numbers; on the mean of the embeddings for layer 0, on the first token's state for the others. They are fitted on
    *fit_rows* training rows, with *l2* on the weights of standardised states. Per row m, the loss is the sum over the
    student's layers i of w_im * KL(softmax(z_j(i) / T) || softmax(s_i / T)), of probe logits z and those s of the
    student's classifiers, which are trained with it and then left behind. The paper has the cross-entropy, from which
    this differs by the teacher's entropy, and T = 1; at a higher one gradients shrink by T^2, which is not made up for.
    Numbers are compared by squared differences.

    *layers* says what j is: "adabert" is ceil(i * J / K), "last" the topmost layers, a list names each, 0 being the
    embeddings. *weighting* "example" is the paper's: w_im is the softmax over i of minus the error of probe j(i) on the
    label of row m, so that layers which know the answer weigh more. "none" is 1 / K. *pooling* is what the student's
    classifiers read: the "first" token of a layer or the "mean" of its real tokens.

    Public codes differ: that of the authors weighs layers by the error of a whole batch, in which rows depend on each
    other and no split is exact; EasyTransfer has no weights and takes layer m * (12 // (1 + l)) for m = 0 to l. Both
    fit probes by Adam in a few epochs, here the minimum of a convex loss is found.
    """

    wants = frozenset({"layers"})
    forward_options = frozenset({"layers", "temperature", "weighting", "pooling"})

    def __init__(
        self,
        *,
        student: Model,
        teacher: Model,
        layers: Literal["adabert", "last"] | list[int] = "adabert",
        temperature: float | Ramp = 1.0,
        weighting: Literal["example", "none"] = "example",
        pooling: Literal["first", "mean"] = "first",
        fit_rows: int = 20_000,
        l2: float = 0.01,
    ) -> None:
        super().__init__()
        check_temperature("probes", temperature)
        if fit_rows < 1 or l2 <= 0:
            raise ConfigError(f"probes: fit_rows is {fit_rows} and l2 is {l2:g}. Give numbers above 0.")
        own = depth(student)
        self.fit_rows = fit_rows
        self._map, self._depth = layers, depth(teacher)
        self._teacher_layers(own)
        self._temperature, self._weighting, self._pooling, self._l2 = temperature, weighting, pooling, l2
        if not own:
            raise ConfigError("probes teach the student's layers, and it has none. Leave the term out.")
        self._num_outputs = outputs_of(teacher)
        self.classifiers = nn.ModuleList(nn.Linear(student.backbone.hidden_size, self._num_outputs) for _ in range(own))
        self.weights: Tensor | None
        self.biases: Tensor | None
        for name in ("weights", "biases"):
            self.register_buffer(name, None, persistent=False)

    def fit(self, observed: Iterable[tuple[Observed, Batch]]) -> None:
        """Fit a probe on each layer of the teacher, in double precision on the CPU."""
        states, labels = [], []
        answer: Answer = "single-label"
        device = torch.device("cpu")
        for seen, batch in observed:
            answer = self._answer(seen, batch)
            found = _states(seen)
            device = found.device
            states.append(half(found).cpu())
            labels.append(_label(batch, "Use pkd, which needs none.").cpu())
        if not states:
            raise ConfigError("probes: there is no training row to fit them on.")
        every, wanted = torch.cat(states), torch.cat(labels)
        probes = [
            fit_probe(every[:, layer].float(), wanted, answer, self._num_outputs, self._l2)
            for layer in range(every.shape[1])
        ]
        self.weights = torch.stack([weights for weights, _ in probes]).to(device)
        self.biases = torch.stack([biases for _, biases in probes]).to(device)

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        """``{"logits": [B, J + 1, C]}``: those of the probes on the embeddings and all layers, in fp32."""
        if self.weights is None or self.biases is None:
            raise RuntimeError("probes are recorded once they are fitted")
        states = _states(teacher)
        with torch.autocast(states.device.type, enabled=False):
            return {"logits": torch.einsum("blh,lch->blc", states, self.weights.float()) + self.biases.float()}

    def compare(self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, progress: float) -> Tensor:
        pooled = [self._pool(states, student) for states in layers_of(student)[1:]]
        goal = recorded["logits"].float()[:, self._teacher_layers(len(pooled))]
        # A search runs some of its layers, the lowest, whose classifiers are the first.
        mine = torch.stack([own(states) for own, states in zip(self.classifiers, pooled, strict=False)], 1)
        answer = answer_of(batch.targets, self._num_outputs)
        apart = divergence(mine, goal, answer, value_at(self._temperature, progress))
        if self._weighting == "none":
            return apart.mean(1)
        label = _label(batch, "Set weighting: none, which reads none.")
        return (layer_weights(goal, label, answer) * apart).sum(1)

    def _teacher_layers(self, own: int) -> list[int]:
        """The teacher's layer for each of the student's *own* layers."""
        listed = self._map if isinstance(self._map, str) else self._map[:own]
        return teacher_layers("probes", listed, compared=own, student=own, teacher=self._depth, lowest=0)

    def _pool(self, states: Tensor, student: Observed) -> Tensor:
        return states[:, 0].float() if self._pooling == "first" else _mean(states, student)

    def _answer(self, seen: Observed, batch: Batch) -> Answer:
        """What the teacher's logits stand for; ConfigError where they are not as many as its head seemed to give."""
        found = logits_of("probes", seen).shape[-1]
        if found != self._num_outputs:
            raise ConfigError(
                f"probes: the teacher gives {found} logits, and the last linear layer of its head {self._num_outputs}. "
                "Probes are for heads that end in a linear layer."
            )
        return answer_of(batch.targets, found)


def layer_weights(probes: Tensor, label: Tensor, answer: Answer) -> Tensor:
    """w_im [B, K] of probe logits [B, K, C] and the rows' labels: the softmax over layers of minus their errors."""
    return (-error(probes, label, answer)).softmax(1)


def outputs_of(model: Model) -> int:
    """The number of logits that the head of *model* gives: the outputs of its last linear layer; else ConfigError."""
    heads = list(model.heads_by_task.values())
    if len(heads) != 1:
        raise ConfigError(
            f"probes are for one task, and the teacher has {len(heads)}: {', '.join(model.heads_by_task)}."
        )
    linear = [module for module in heads[0].modules() if isinstance(module, nn.Linear)]
    if not linear:
        name = type(heads[0]).__name__
        raise ConfigError(f"probes need the number of labels, and the teacher's head, {name}, has no linear layer.")
    return linear[-1].out_features


def _label(batch: Batch, remedy: str) -> Tensor:
    if "label" not in batch.targets:
        raise ConfigError(f"probes read labels, and the rows have none. {remedy}")
    return batch.targets["label"]


def _states(observed: Observed) -> Tensor:
    """What the teacher's probes read, in fp32 [B, J + 1, H]."""
    embeddings, *layers = layers_of(observed)
    return torch.stack([_mean(embeddings, observed), *(layer[:, 0].float() for layer in layers)], 1)


def _mean(states: Tensor, observed: Observed) -> Tensor:
    """The mean over real tokens, in fp32 [B, H]."""
    mask: Any = observed.features.mask
    real = mask.unsqueeze(-1)
    mean: Tensor = (states.float() * real).sum(1) / real.sum(1).clamp(min=1)
    return mean
