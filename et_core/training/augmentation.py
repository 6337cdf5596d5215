"""More training rows than there are: new texts by augmenters, labelled by a teacher, made once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from et_core.config import ComponentConfig, RunConfig, check_value
from et_core.data import ExampleStore, ReadOptions, Rows, cached_file, code_fingerprint, open_rows
from et_core.errors import ConfigError
from et_core.interfaces import App, Augmenter, Role, Row, Strategy, Texts, build_augmenter, check_options
from et_core.registry import registry
from et_core.training.recordings import OUTPUTS
from et_core.training.teachers import Teacher

_CHUNK = 2000
_GIVEN = ("teacher", "tokenizer")
_MADE_OF = "made of"


def check_augment(config: RunConfig) -> None:
    """Everything about ``distill.augment`` that can be known before data is read; qualifies the names."""
    names = registry("augmenters")
    augment = config.distill.augment
    config.distill.augment = {names.find(name).qualified: options for name, options in augment.items()}
    for name, options in config.distill.augment.items():
        _, component = _augmenter(name, options)
        check_options("augmenters", component, where=_where(name), given=_GIVEN)


@dataclass(frozen=True)
class NewRows:
    """Rows that augmentation made, without labels, and the position of the training row that each was *made_of*."""

    rows: Rows
    made_of: np.ndarray


def new_rows(config: RunConfig, teacher: Teacher, app: App, rows: Rows, strategy: Strategy) -> NewRows | None:
    """The new rows of *rows* that ``distill.augment`` asks for; None where it asks for none.

    Each copy of a row that differs from it and from its other copies is a row. They are the same for the same seed.
    """
    wanted = [_augmenter(name, options) for name, options in config.distill.augment.items()]
    if not wanted:
        return None
    classes = [registry("augmenters").get(component.name) for _, component in wanted]
    key = {
        "rows": rows.fingerprint(),
        "teacher": teacher.digest,
        "augment": config.distill.augment,
        "seed": config.train.seed,
        "reads": [cls.reads(component.options) for cls, (_, component) in zip(classes, wanted, strict=True)],
        "code": [code_fingerprint(part) for part in (*classes, type(app), _Made)],
    }
    path = _kept("augmented", key, lambda: _Made(config, teacher, app, wanted)(rows), strategy)
    if path.stat().st_size == 0:
        raise ConfigError(
            f"distill.augment makes no new row of {rows.description}: no copy differs. Leave it out, or raise its rate."
        )
    with path.open(encoding="utf-8") as file:
        made_of = np.asarray([json.loads(line)[_MADE_OF] for line in file])
    found = open_rows(str(path), ReadOptions(), roles=_without_targets(app), need_targets=False)
    return NewRows(found, made_of)


def labelled(rows: Rows, app: App, recorded: ExampleStore, key: Mapping[str, Any], strategy: Strategy) -> Rows:
    """The new *rows* with the labels that *app* reads off its teacher's outputs, which are *recorded* under *key*.

    ConfigError where predictions of the app say no labels.
    """

    def label() -> Iterator[dict[str, Any]]:
        source = enumerate(rows)
        while chunk := list(islice(source, _CHUNK)):
            examples = recorded.take(index for index, _ in chunk)
            outputs = {
                name.removeprefix(OUTPUTS): np.stack([example.targets[name] for example in examples])
                for name in examples[0].targets
                if name.startswith(OUTPUTS)
            }
            for (_, row), prediction in zip(chunk, app.decode(outputs, examples), strict=True):
                try:
                    yield {**row, **app.target_of(prediction)}
                except TypeError as error:
                    raise ConfigError(f"distill.augment: {error}. Leave it out.") from error

    path = _kept("labelled", {"rows": rows.fingerprint(), "recorded": key, "app": app.state()}, label, strategy)
    return open_rows(str(path), ReadOptions(), roles=app.roles, need_targets=True)


def _kept(folder: str, key: Any, make: Callable[[], Iterator[Mapping[str, Any]]], strategy: Strategy) -> Path:
    """The jsonl file of what *make* gives, written once by the main process, for which the others wait."""

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for row in make():
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    if not strategy.is_main:
        strategy.barrier()
    path = cached_file(folder, ".jsonl", key, write, is_whole=Path.is_file)
    if strategy.is_main:
        strategy.barrier()
    return path


def _without_targets(app: App) -> dict[str, Role]:
    return {name: role for name, role in app.roles.items() if not role.target}


class _Made:
    """Makes the rows: chunk by chunk, so that memory does not grow with the data."""

    def __init__(
        self, config: RunConfig, teacher: Teacher, app: App, wanted: Sequence[tuple[int, ComponentConfig]]
    ) -> None:
        self._app = app
        self._seed = config.train.seed
        self._augmenters: list[tuple[int, Augmenter]] = [
            (
                copies,
                build_augmenter(
                    component, where=_where(component.name), teacher=teacher.model, tokenizer=teacher.tokenizer
                ),
            )
            for copies, component in wanted
        ]

    def __call__(self, rows: Rows) -> Iterator[dict[str, Any]]:
        source = iter(rows)
        for number in count():
            chunk = list(islice(source, _CHUNK))
            if not chunk:
                return
            yield from self._new(chunk, number)

    def _new(self, chunk: Sequence[Row], number: int) -> Iterator[dict[str, Any]]:
        """The new rows of the chunk *number*, those of a row one after another, with its position."""
        roles = self._app.text_roles
        texts: list[Texts] = [tuple(row[role] for role in roles if role in row) for row in chunk]
        seen = [{own} for own in texts]
        made: list[list[Texts]] = [[] for _ in chunk]
        for place, (copies, augmenter) in enumerate(self._augmenters):
            for copy in range(copies):
                rng = np.random.default_rng((self._seed, 3, number, place, copy))
                for index, new in enumerate(augmenter.augment(texts, rng)):
                    if new not in seen[index] and all(text.strip() for text in new):
                        seen[index].add(new)
                        made[index].append(new)
        for position, (row, found) in enumerate(zip(chunk, made, strict=True), start=number * _CHUNK):
            own = [role for role in roles if role in row]
            kept = {name: value for name, value in row.items() if not self._app.roles[name].target}
            for new in found:
                yield {**kept, **dict(zip(own, new, strict=True)), _MADE_OF: position}


def _augmenter(name: str, options: Mapping[str, Any]) -> tuple[int, ComponentConfig]:
    """How many copies an augmenter makes, and what it is, of how it is written under ``distill.augment``."""
    written = dict(options)
    copies = check_value(int, written.pop("copies", 1), f"{_where(name)}.copies")
    if copies < 1:
        raise ConfigError(f"{_where(name)}.copies is {copies}: expected a whole number above 0.")
    return copies, ComponentConfig(name=name, options=written)


def _where(name: str) -> str:
    return f"distill.augment.{name.rpartition('/')[2]}"
