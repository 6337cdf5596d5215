"""Made-up observations of a student and a teacher: free tensors, which a check may cut, pad, spoil and train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from et_core.interfaces import Batch, Distiller, Features, Inputs, Model, Observed, Term, Text, build_backbone
from et_core.registry import registry
from et_core.testing.parts import small_tokenizer, use_stand_ins
from et_core.testing.suite import CheckFailed
from et_core.testing.tensors import Tensors, pick

_TOKENS = 5
_KNOWN = ("layers", "attentions", "queries-keys-values")


@dataclass(frozen=True)
class Sizes:
    """The measures of a made-up model, with *layers* blocks."""

    width: int
    layers: int
    heads: int = 2

    def __str__(self) -> str:
        return f"{self.layers} layers of width {self.width}"


SMALL = Sizes(8, 2)
LARGE = Sizes(12, 4)


@dataclass
class Case:
    """A distiller with free tensors of a student and of a teacher over one batch."""

    distiller: Distiller
    student: Tensors
    teacher: Tensors
    batch: Batch
    models: tuple[Model, Model]

    def record(self) -> Tensors:
        """What the distiller keeps of the teacher; CheckFailed where that is anything but tensors by name."""
        with torch.no_grad():
            found = self.distiller.record(observed(self.teacher, self.batch), self.batch)
        if not isinstance(found, Mapping):
            raise CheckFailed(f"record returns a {type(found).__name__}, not tensors by name.")
        for name, value in found.items():
            if not isinstance(value, Tensor):
                raise CheckFailed(f"what is recorded as {name!r} is a {type(value).__name__}, not a tensor.")
        return dict(found)

    def term(self, *, progress: float = 0.0, recorded: Tensors | None = None) -> Term:
        """What the distiller gives for what it has *recorded*, by default of this case's teacher.

        CheckFailed where that is no term of a scalar sum and a scalar count.
        """
        kept = self.record() if recorded is None else recorded
        found = self.distiller(observed(self.student, self.batch), kept, self.batch, progress=progress)
        if not isinstance(found, Term):
            raise CheckFailed(f"forward returns a {type(found).__name__}, not a Term.")
        for what, value in (("sum", found.sum), ("count", found.count)):
            if not isinstance(value, Tensor) or value.ndim:
                shown = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise CheckFailed(f"the {what} is {shown}, not a scalar tensor.")
        return found

    def rows(self, rows: Tensor) -> Case:
        batch = batch_rows(self.batch, rows)
        return replace(self, student=pick(self.student, rows), teacher=pick(self.teacher, rows), batch=batch)


def model_of(sizes: Sizes, num_outputs: int) -> Model:
    """A model whose backbone has these *sizes*."""
    use_stand_ins()
    options = {"hidden_size": sizes.width, "num_layers": sizes.layers}
    backbone = build_backbone("stand-ins/stand-in-text", options, tokenizer=small_tokenizer())
    head = registry("heads").create("stand-ins/stand-in-pooled", hidden_size=sizes.width, num_outputs=num_outputs)
    return Model(backbone, {"main": head})


def text_batch(rows: int, num_outputs: int, rng: torch.Generator) -> Batch:
    """Rows of 2 to 5 tokens with a label each."""
    lengths = torch.randint(2, _TOKENS + 1, (rows,), generator=rng)
    lengths[0] = _TOKENS
    mask = torch.arange(_TOKENS) < lengths[:, None]
    ids = torch.randint(1, 50, mask.shape, generator=rng) * mask
    label = torch.randint(0, num_outputs, (rows,), generator=rng)
    return Batch(Inputs((Text(ids, mask),)), {"label": label}, torch.arange(rows))


def features_of(batch: Batch, sizes: Sizes, wants: frozenset[str], rng: torch.Generator) -> Tensors:
    """Free tensors for all that is seen of a backbone: "tokens", "pooled", "layers.0" and so on.

    What becomes attentions are scores, as they are before the softmax.
    """
    if unknown := sorted(wants - set(_KNOWN)):
        raise CheckFailed(f"it wants {', '.join(unknown)}, and backbones give {', '.join(_KNOWN)}.")
    rows, length = batch.inputs.texts[0].ids.shape
    states, maps = (rows, length, sizes.width), (rows, sizes.heads, length, length)
    per_head = (rows, sizes.heads, length, sizes.width // sizes.heads)
    shapes: dict[str, tuple[int, ...]] = {"tokens": states, "pooled": (rows, sizes.width)}
    if "layers" in wants:
        shapes |= {f"layers.{index}": states for index in range(sizes.layers + 1)}
    if "attentions" in wants:
        shapes |= {f"attentions.{index}": maps for index in range(sizes.layers)}
    if "queries-keys-values" in wants:
        shapes |= {f"queries-keys-values.{i}.{part}": per_head for i in range(sizes.layers) for part in range(3)}
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def observed(raw: Mapping[str, Tensor], batch: Batch) -> Observed:
    """The observation that the free tensors *raw* stand for."""
    mask = batch.inputs.texts[0].mask
    extra: dict[str, object] = {}
    if layers := _numbered(raw, "layers"):
        extra["layers"] = tuple(layers)
    if scores := _numbered(raw, "attentions"):
        hidden = ~mask[:, None, None, :]
        extra["attentions"] = tuple(score.masked_fill(hidden, -torch.inf).softmax(-1) for score in scores)
    if parts := _numbered(raw, "queries-keys-values"):
        extra["queries-keys-values"] = tuple(tuple(parts[at : at + 3]) for at in range(0, len(parts), 3))
    outputs = {name.removeprefix("outputs."): value for name, value in raw.items() if name.startswith("outputs.")}
    return Observed(Features(raw["tokens"], mask, raw["pooled"], extra), outputs)


def batch_rows(batch: Batch, rows: Tensor) -> Batch:
    """The *rows* of *batch*."""
    inputs = Inputs.unflatten(pick(batch.inputs.flatten(), rows))
    return Batch(inputs, pick(batch.targets, rows), batch.rows[rows], batch.task)


def pad_batch(batch: Batch, extra: int) -> Batch:
    """*batch* with so many more tokens of padding in each row."""
    longer = {name: functional.pad(tensor, (0, extra)) for name, tensor in batch.inputs.flatten().items()}
    return replace(batch, inputs=Inputs.unflatten(longer))


def pad(raw: Mapping[str, Tensor], batch: Batch, extra: int) -> Tensors:
    """The free tensors *raw* over *batch*, with so many more positions."""
    padded = {}
    for name, tensor in raw.items():
        amounts = [0, 0] * tensor.ndim
        for axis in _token_axes(name, tensor, batch):
            amounts[2 * (tensor.ndim - 1 - axis) + 1] = extra
        padded[name] = functional.pad(tensor, amounts, value=0.3)
    return padded


def spoil(raw: Mapping[str, Tensor], batch: Batch, rng: torch.Generator) -> Tensors:
    """*raw* with large other numbers wherever the mask of *batch* is False."""
    mask = batch.inputs.texts[0].mask
    spoilt = {}
    for name, tensor in raw.items():
        axes = _token_axes(name, tensor, batch)
        if not axes:
            spoilt[name] = tensor
            continue
        shape = [len(mask), *(mask.shape[1] if axis == axes[0] else 1 for axis in range(1, tensor.ndim))]
        garbage = 10 * torch.randn(tensor.shape, generator=rng)
        spoilt[name] = torch.where(mask.view(shape), tensor, garbage)
    return spoilt


def _token_axes(name: str, tensor: Tensor, batch: Batch) -> tuple[int, ...]:
    """Which axes of a free tensor run over tokens, a score's queries first."""
    kind = name.partition(".")[0]
    if kind == "outputs":
        return (1,) if tensor.ndim > 2 and tensor.shape[1] == batch.inputs.texts[0].ids.shape[1] else ()
    axes = {"tokens": (1,), "layers": (1,), "attentions": (2, 3), "queries-keys-values": (2,)}
    return axes.get(kind, ())


def _numbered(raw: Mapping[str, Tensor], kind: str) -> list[Tensor]:
    return [value for name, value in raw.items() if name.startswith(f"{kind}.")]
