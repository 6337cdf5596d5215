"""What a run has to do with its teachers, between its data and its objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from et_core.config import RunConfig
from et_core.data import ExampleStore, JoinedStore, Rows
from et_core.interfaces import App, Model, Strategy, Tokenizer
from et_core.training.augmentation import labelled, new_rows
from et_core.training.distillation import Lesson
from et_core.training.recordings import Recordings
from et_core.training.teachers import Teacher, check_size, check_teacher, make_lessons, open_teachers


class Teaching:
    """The teachers of a run: compared with its app, asked for lessons, and recorded on its rows."""

    def __init__(self, config: RunConfig, app: App, train_rows: Rows, strategy: Strategy) -> None:
        """ConfigError where a teacher has learned another task than *app*, which knows its labels."""
        self._config = config
        self._train_rows = train_rows
        self._strategy = strategy
        with torch.random.fork_rng(devices=[]):  # a student starts from the same weights whoever teaches it
            self.teachers: list[Teacher] = open_teachers(config)
            for teacher in self.teachers:
                check_teacher(teacher, app)
            self.more_rows = new_rows(config, self.teachers[0], app, train_rows, strategy)
            """New training rows, where the config asks for augmentation."""

        self._app = app
        self._recordings: list[Recordings] = []
        self.lessons: list[Lesson] = []

    @property
    def digest(self) -> str:
        """A hash of all teachers."""
        return " ".join(teacher.digest for teacher in self.teachers)

    def begin(self, student: Model, tokenizer: Tokenizer, *, is_fresh: bool) -> None:
        """Make the lessons for *student*, which with fresh weights starts from what the first teacher knows."""
        first = self.teachers[0]
        if is_fresh and first.tokenizer.fingerprint() == tokenizer.fingerprint():
            student.backbone.inherit(first.model, tokenizer)
        by_teacher = make_lessons(self._config, self.teachers, student, tokenizer)
        self.lessons = [lesson for lessons in by_teacher.values() for lesson in lessons]
        self._recordings = [
            Recordings(
                teacher,
                lessons,
                strategy=self._strategy,
                skip_bad=self._config.data.on_bad_row == "skip",
                fit_rows=self._train_rows,
                seed=self._config.train.seed,
            )
            for teacher, lessons in by_teacher.items()
        ]

    def taught(self, store: ExampleStore, encode: Callable[[Rows], ExampleStore]) -> ExampleStore:
        """The training rows, which are in *store*, and the new ones, with what is recorded of all teachers.

        New rows are labelled by the first teacher: what it says is read off what is recorded of it.
        """
        old = store
        for recordings in self._recordings:
            old = recordings.beside(old, self._train_rows, recordings.of(self._train_rows))
        if self.more_rows is None:
            return old
        rows, first = self.more_rows.rows, self._recordings[0]
        recorded = [
            recordings.of(rows, outputs=recordings is first)  # the teacher runs once for both
            for recordings in self._recordings
        ]
        new_labelled = labelled(rows, self.teachers[0].app, recorded[0], first.key(rows, outputs=True), self._strategy)
        new = encode(new_labelled)
        for recordings, found in zip(self._recordings, recorded, strict=True):
            new = recordings.beside(new, rows, found)
        origins = np.concatenate([old.origins, self.more_rows.made_of[new.origins]])
        return JoinedStore([old, new], origins=origins)

    def check_size(self, student: Model) -> None:
        """ConfigError where *student*, as it will be saved, is larger than a teacher."""
        check_size(student, self.teachers)

    def notes(self) -> list[str]:
        """What to know about the teachers before their figures on the dev set are read."""
        mine = self._config
        return [
            f"the teacher in {teacher.run.path} held out other rows of data.train than this run, and has learned from "
            f"most of its dev set: its figures there are too good. Set data.dev={teacher.run.config.data.dev} and "
            f"train.seed={teacher.run.config.train.seed} as it did, or name a file as data.dev."
            for teacher in self.teachers
            if _holds_out_others(teacher.run.config, mine)
        ]

    def metrics(self, rows: Rows, names: Sequence[str] | None) -> dict[str, dict[str, float]]:
        """The metrics of each teacher on *rows*, by its name."""
        skip = self._config.data.on_bad_row == "skip"
        return {teacher.name: teacher.run.measure(rows, names, skip_bad=skip).metrics() for teacher in self.teachers}


def _holds_out_others(theirs: RunConfig, mine: RunConfig) -> bool:
    """Whether a dev set is held out of the same file, by another share or seed."""
    held_out = not any(config.data.dev is None or isinstance(config.data.dev, str) for config in (theirs, mine))
    same_file = all(isinstance(config.data.train, str) for config in (theirs, mine)) and (
        Path(str(theirs.data.train)).resolve() == Path(str(mine.data.train)).resolve()
    )
    differs = (theirs.data.dev, theirs.train.seed) != (mine.data.dev, mine.train.seed)
    return held_out and same_file and differs
