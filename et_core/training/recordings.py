"""What is kept of a teacher for each row, computed once and kept beside the encoded rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from et_core.data import ExampleStore, Rows, cached_store, code_fingerprint, collate, encode_rows, split_by_budget
from et_core.errors import ConfigError, DataError
from et_core.inference.engine import TOKEN_BUDGET, TOKEN_BUDGETS, Engine
from et_core.inference.precision import autocast, same_precision
from et_core.interfaces import Batch, Example, Model, Observed, Strategy
from et_core.training.distillation import Lesson, wanted
from et_core.training.teachers import Teacher

log = logging.getLogger("et")
OUTPUTS = "outputs/"
"""What the names of the teacher's own outputs begin with, where they are recorded too, to read labels off them."""

_TELL_SECONDS = 15.0
_WINDOW = 256
"""Rows of which something is held for each token at a time; of others as many as are encoded together."""


class Recordings:
    """Records one teacher for its lessons: the main process computes and keeps, the others wait and read."""

    def __init__(
        self,
        teacher: Teacher,
        lessons: Sequence[Lesson],
        *,
        strategy: Strategy,
        skip_bad: bool,
        fit_rows: Rows,
        seed: int,
    ) -> None:
        """*fit_rows* are the training rows that distillers may learn from first."""
        self._teacher = teacher
        self._lessons = lessons
        self._strategy = strategy
        self._skip_bad = skip_bad
        self._fit_rows = fit_rows
        self._seed = seed
        self._fitted = False
        self._precision = same_precision(teacher.run.bundle.precision, strategy.device)
        fits = any(lesson.distiller.fit_rows for lesson in lessons)
        self._key = {
            "teacher": teacher.digest,
            "lessons": [
                [
                    lesson.name,
                    _recording_options(lesson),
                    lesson.distiller.recorded_layers,
                    code_fingerprint(type(lesson.distiller)),
                ]
                for lesson in lessons
            ],
            "code": [
                code_fingerprint(type(part))
                for part in (teacher.app, teacher.model.backbone, *teacher.model.heads_by_task.values())
            ],
            "precision": self._precision,
            "fit": [fit_rows.fingerprint(), seed] if fits else None,
        }

    def beside(self, store: ExampleStore, rows: Rows, recorded: ExampleStore) -> ExampleStore:
        """*store*, which holds *rows* as the student reads them, with what is *recorded* of the teacher on each.

        ConfigError where teacher and student do not cut the rows in the same way.
        """
        try:
            joined = store.beside(recorded, leave_out=(OUTPUTS,))
        except DataError as error:
            raise ConfigError(
                f"the teacher in {self._teacher.run.path} reads {rows.description} in other pieces than the student: "
                f"{error} Give both the same data.max_length."
            ) from error
        self._check_tokens(store, recorded)
        return joined

    def key(self, rows: Rows, *, outputs: bool = False) -> dict[str, Any]:
        """All that what is recorded on *rows* depends on, as JSON values."""
        return {**self._key, "rows": rows.fingerprint(), "outputs": outputs}

    def of(self, rows: Rows, *, outputs: bool = False) -> ExampleStore:
        """What is recorded of the teacher on each of *rows*, which need no labels; with *outputs* its own too."""
        key = self.key(rows, outputs=outputs)
        if not self._strategy.is_main:
            self._strategy.barrier()
            return cached_store(key, lambda: self._build(rows, outputs))
        store = cached_store(key, lambda: self._build(rows, outputs))
        self._strategy.barrier()
        return store

    def _build(self, rows: Rows, outputs: bool) -> Iterator[list[Example]]:
        self._fit()
        engine = Engine(
            self._model(),
            pad_id=self._teacher.tokenizer.pad_id,
            device=self._strategy.device,
            outputs=self._record_all if outputs else self._record,
            context=autocast(self._precision, self._strategy.device),
        )
        seen, told = 0, time.monotonic()
        log.info("the teacher in %s reads %s rows, once", self._teacher.run.path, f"{len(rows):,}")
        for chunk in self._encoded(rows):
            window = _WINDOW if self._per_token else max(1, len(chunk))
            yield [
                example
                for start in range(0, len(chunk), window)
                for example in self._examples(engine, chunk[start : start + window])
            ]
            seen += len(chunk)
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                log.info("the teacher has read %s of %s rows", f"{seen:,}", f"{len(rows):,}")

    def _examples(self, engine: Engine, examples: Sequence[Example]) -> list[Example]:
        arrays = engine(examples)
        per_token = self._per_token
        return [
            Example(
                {},
                {
                    name: array[index, : example.length] if name in per_token else array[index]
                    for name, array in arrays.items()
                },
                example.row,
            )
            for index, example in enumerate(examples)
        ]

    def _record(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        return self._recorded(self._observe(model, batch), batch)

    def _recorded(self, seen: Observed, batch: Batch) -> dict[str, Tensor]:
        return {
            f"{lesson.name}/{name}": tensor
            for lesson in self._lessons
            for name, tensor in lesson.distiller.record(seen, batch).items()
        }

    def _record_all(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        seen = self._observe(model, batch)
        return {**self._recorded(seen, batch), **{f"{OUTPUTS}{name}": part for name, part in seen.outputs.items()}}

    def _observe(self, model: Model, batch: Batch) -> Observed:
        return model.observe(batch, want=wanted(self._lessons))

    def _fit(self) -> None:
        """Let each distiller learn what it has to know of the teacher, from rows that are drawn with the seed."""
        if self._fitted:
            return
        self._fitted = True
        for number, lesson in enumerate(self._lessons):
            if wanted := min(lesson.distiller.fit_rows, len(self._fit_rows)):
                rng = np.random.default_rng((self._seed, 2, number))
                chosen = np.sort(rng.choice(len(self._fit_rows), wanted, replace=False))
                lesson.distiller.to(self._strategy.device).fit(self._observed(self._fit_rows.select(chosen)))

    def _observed(self, rows: Rows) -> Iterator[tuple[Observed, Batch]]:
        device, model = self._strategy.device, self._model()
        budget = TOKEN_BUDGETS.get(device.type, TOKEN_BUDGET)
        for chunk in self._encoded(rows):
            lengths = np.asarray([example.length for example in chunk])
            for part in split_by_budget(np.arange(len(chunk)), lengths, token_budget=budget):
                batch = collate([chunk[index] for index in part], pad_id=self._teacher.tokenizer.pad_id).to(device)
                with torch.no_grad(), autocast(self._precision, device):
                    seen = self._observe(model, batch)
                yield seen, batch

    def _encoded(self, rows: Rows) -> Iterator[list[Example]]:
        owner = type(self._teacher.app).__name__
        return encode_rows(rows, self._teacher.run.encode, skip_bad=self._skip_bad, owner=owner)

    def _model(self) -> Model:
        return self._teacher.model.to(self._strategy.device).eval()

    @property
    def _per_token(self) -> frozenset[str]:
        return frozenset(f"{lesson.name}/{name}" for lesson in self._lessons for name in lesson.distiller.per_token)

    def _check_tokens(self, store: ExampleStore, recorded: ExampleStore) -> None:
        """ConfigError where a row has another number of tokens for the teacher than for the student."""
        if not self._per_token or not len(store):
            return
        name = sorted(self._per_token)[0]
        for index in np.argsort(store.lengths)[[0, -1]]:
            if len(recorded[int(index)].targets[name]) != store.lengths[index]:
                raise ConfigError(
                    f"{name.partition('/')[0]} compares token by token, but the teacher in {self._teacher.run.path} "
                    "cuts texts at another length. Set data.max_length and data.truncation as in its config.yaml."
                )


def _recording_options(lesson: Lesson) -> str:
    chosen = lesson.options.items()
    return repr({name: value for name, value in chosen if name not in lesson.distiller.forward_options})
