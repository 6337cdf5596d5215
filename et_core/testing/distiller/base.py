"""How a suite comes to a distiller, and to observations for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch

from et_core.config import ComponentConfig
from et_core.interfaces import Batch, Distiller, Model, Observed, build_distiller
from et_core.testing.distiller.observed import LARGE, SMALL, Case, Sizes, features_of, model_of, observed, text_batch
from et_core.testing.suite import CheckFailed, Conformance
from et_core.testing.tensors import Tensors, generator

ROWS = 8
"""How many rows a case has where a check does not ask for others."""

_FIT_ROWS = 64


class DistillerSuite(Conformance):
    """What a suite of a distiller may set, and how its checks come to what they check."""

    kind: ClassVar[str] = "distillers"

    num_outputs: int = 4
    """C of the logits [B, C], where ``outputs`` is not a suite's own."""

    other_sizes: bool = False
    """Whether the student may be of another width and depth than the teacher."""

    splits: bool = True
    """False where the rows of a batch depend on each other, as with distances between rows."""

    supports_bf16: bool = True
    """Whether observations may come in bfloat16, as they do under autocast."""

    def make_batch(self, rows: int, rng: torch.Generator) -> Batch:
        """A batch of *rows* with texts, and targets where the distiller reads them."""
        return text_batch(rows, self.num_outputs, rng)

    def outputs(self, batch: Batch, rng: torch.Generator) -> Tensors:
        """Made-up outputs of a head over *batch*, by name: [B, ...], or [B, L, ...] for outputs per token."""
        return {"logits": torch.randn(len(batch), self.num_outputs, generator=rng)}

    def case(self, rows: int = ROWS, seed: int = 0, *, bridged: bool | None = None) -> Case:
        """What a check works on, the distiller fitted; with *bridged*, by default where it can, of two sizes."""
        teacher = LARGE if (self.other_sizes if bridged is None else bridged) else SMALL
        distiller, models = self.built(teacher)
        self.fit(distiller, teacher)
        rng = generator(seed)
        batch = self.make_batch(rows, rng)
        student, taught = (self._made_up(batch, sizes, distiller, rng) for sizes in (SMALL, teacher))
        return Case(distiller, student, taught, batch, models)

    def built(self, teacher: Sizes) -> tuple[Distiller, tuple[Model, Model]]:
        """The distiller as it is before it is fitted, with the student and the teacher that it was built for."""
        models = (model_of(SMALL, self.num_outputs), model_of(teacher, self.num_outputs))
        config = ComponentConfig(name=self.name, options=dict(self.config))
        return build_distiller(config, where="distiller", student=models[0], teacher=models[1]), models

    def fit(self, distiller: Distiller, teacher: Sizes) -> None:
        """Show *distiller* the rows that it wants of a teacher of these sizes, up to 64 of them."""
        if distiller.fit_rows:
            with complaining(distiller):
                distiller.fit(self._shown(distiller, teacher))

    def _shown(self, distiller: Distiller, teacher: Sizes) -> Iterator[tuple[Observed, Batch]]:
        rng = generator(1)
        left = min(distiller.fit_rows, _FIT_ROWS)
        while left:
            batch = self.make_batch(min(left, ROWS), rng)
            left -= len(batch)
            yield observed(self._made_up(batch, teacher, distiller, rng), batch), batch

    def _made_up(self, batch: Batch, sizes: Sizes, distiller: Distiller, rng: torch.Generator) -> Tensors:
        outputs = {f"outputs.{name}": value for name, value in self.outputs(batch, rng).items()}
        return {**features_of(batch, sizes, distiller.wants, rng), **outputs}


@contextmanager
def complaining(distiller: Distiller) -> Iterator[None]:
    """CheckFailed, with what the features hold, where *distiller* reads what is not there."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        given = ", ".join(sorted(distiller.wants)) or "no extras"
        raise CheckFailed(f"it fails where the features hold {given}: {type(error).__name__}: {error}") from error
