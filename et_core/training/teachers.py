"""The finished runs that a model learns from: opened, compared with the model, and what each is to teach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

from et_core.config import ComponentConfig, DistillConfig, Ramp, RunConfig, TokenizerConfig, check_value
from et_core.errors import ConfigError, RunFolderError
from et_core.inference import Run
from et_core.interfaces import App, Backbone, Model, Tokenizer, build_distiller, check_options
from et_core.registry import ModelRef, registry
from et_core.runfolder import current, file_sha256, saved_tokenizer
from et_core.sources import resolve
from et_core.training.distillation import Lesson

_GIVEN = ("student", "teacher")


@dataclass(frozen=True)
class Teacher:
    """A finished run that teaches, and the *name* that its lessons go by where there are several."""

    name: str
    run: Run

    @property
    def model(self) -> Model:
        return self.run.bundle.model

    @property
    def app(self) -> App:
        return self.run.bundle.apps["main"]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.run.bundle.tokenizer

    def __str__(self) -> str:
        return f"{self.run.path} ({_parameters(self.model) / 1e6:.1f} M parameters)"

    @cached_property
    def digest(self) -> str:
        """A hash of its model folder."""
        folder = current(self.run.folder.model)
        return " ".join(file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file())


def check_distill(config: RunConfig) -> None:
    """Everything about ``distill`` that can be known before data is read; names components with their distribution."""
    distill = config.distill
    if not distill.teachers:
        if distill != DistillConfig():
            raise ConfigError("distill.teacher is not set. Write distill.teacher=./runs/NAME@local, a finished run.")
        return
    for ref in distill.teachers:
        _parsed(ref)
    if not distill.terms:
        raise ConfigError(
            "distill.terms is empty: nothing would be learned from the teacher. "
            "Write {DISTILLER: WEIGHT}, such as {vanilla-kd: 1.0}; et list distillers shows all."
        )
    names = registry("distillers")
    distill.terms = {names.find(name).qualified: term for name, term in distill.terms.items()}
    for name, term in distill.terms.items():
        _, component = _term(name, term)
        check_options("distillers", component, where=_where(name), given=_GIVEN)


def check_taught(config: RunConfig, objective: str) -> None:
    """ConfigError where the registered *objective* has no use for the teachers of *config*, or cannot do without."""
    lessons = signature(registry("objectives").get(objective)).parameters.get("lessons")
    if config.distill.teachers and lessons is None:
        raise ConfigError(
            f"objective={objective} learns from labels alone, but distill.teacher is set. Leave out one of them."
        )
    if not config.distill.teachers and lessons is not None and lessons.default is lessons.empty:
        raise ConfigError(
            f"objective={objective} learns from a teacher, and distill.teacher is not set. "
            "Leave the objective out, or set distill.teacher and run et distill."
        )


def take_tokenizer(config: RunConfig) -> None:
    """Let a student with fresh weights read as its first teacher does, unless *config* says otherwise or it cannot.

    ConfigError where a teacher is no finished run.
    """
    paths = [teacher_path(ref) for ref in config.distill.teachers]
    if not paths or config.model.tokenizer != TokenizerConfig():
        return
    artifact = resolve(config.model.ref)
    if artifact.tokenizer is not None:
        return
    family = registry("backbones").get(config.model.family or artifact.family)
    folder = current(paths[0] / "model")
    if saved_tokenizer(folder) == registry("tokenizers").find(family.tokenizer).qualified:
        config.model.tokenizer.ref = f"{folder}@local"


def teacher_path(ref: str) -> Path:
    """The run folder that *ref* names; ConfigError where it is no finished run."""
    path = Path(_parsed(ref).target).expanduser()
    if not (path / "results.json").is_file():
        hint = " It was stopped: go on with it by --resume." if (path / "config.yaml").is_file() else ""
        if (path.parent / "results.json").is_file():
            hint = f" Did you mean {path.parent}@local?"
        raise ConfigError(f"distill.teacher is {ref!r}: {path} is no finished run.{hint}")
    return path


def _parsed(ref: str) -> ModelRef:
    parsed = ModelRef.parse(ref)
    if parsed.source != "local":
        raise ConfigError(
            f"distill.teacher is {ref!r}, which has not learned this task. A teacher is a finished run: "
            "train one with et train, and write ./runs/NAME@local."
        )
    return parsed


def open_teachers(config: RunConfig) -> list[Teacher]:
    """The teachers that *config* names, frozen."""
    found = []
    for number, ref in enumerate(config.distill.teachers, start=1):
        path = teacher_path(ref)
        try:
            run = Run.load(path)
        except RunFolderError as error:
            raise ConfigError(f"distill.teacher is {ref!r}: {error}") from error
        run.bundle.model.requires_grad_(False).eval()
        found.append(Teacher(f"{path.name}" if len(config.distill.teachers) == 1 else f"{number}-{path.name}", run))
    return found


def check_teacher(teacher: Teacher, app: App) -> None:
    """ConfigError where *teacher* answers another question than *app*, which has learned its labels."""
    path, taught = teacher.run.path, teacher.app
    if type(taught) is not type(app):
        names = [teacher.run.bundle.app_configs["main"].name.rpartition("/")[2], type(app).__name__.lower()]
        raise ConfigError(
            f"the teacher in {path} does another task (app={names[0]}) than the student ({names[1]}). "
            "Let both have the same app, or choose another teacher."
        )
    if taught.reads_pairs != app.reads_pairs:
        read, has = (("pairs of texts" if both else "single texts") for both in (taught.reads_pairs, app.reads_pairs))
        raise ConfigError(
            f"the teacher in {path} reads {read}; the student's data has {has}. "
            "Choose a teacher that was trained on rows of the same kind."
        )
    if taught.answers() != app.answers():
        raise ConfigError(
            f"the teacher in {path} predicts {taught.describe()}; the student's data has {app.describe()}. "
            "Choose a teacher that was trained on the same labels."
        )


def check_size(student: Model, teachers: Sequence[Teacher]) -> None:
    """ConfigError where *student* has more parameters than a teacher."""
    size = _parameters(student)
    for teacher in teachers:
        if size > (most := _parameters(teacher.model)):
            raise ConfigError(
                f"the student has {size:,} parameters, its teacher in {teacher.run.path} {most:,}. "
                "A student is at most as large: choose smaller sizes under model, or a larger teacher."
            )


def make_lessons(
    config: RunConfig, teachers: Sequence[Teacher], student: Model, tokenizer: Tokenizer
) -> dict[Teacher, list[Lesson]]:
    """What each of *teachers* teaches: every term once, at an equal share of its weight."""
    lessons: dict[Teacher, list[Lesson]] = {}
    for teacher in teachers:
        lessons[teacher] = []
        for name, term in config.distill.terms.items():
            weight, component = _term(name, term)
            models = {"student": student, "teacher": teacher.model}
            _check_wants(name, registry("distillers").get(name).wants, models)
            distiller = build_distiller(component, where=_where(name), **models)
            _check_wants(name, distiller.wants, models)  # which options may have changed
            if distiller.per_token:
                _check_same_tokens(name, teacher, student.backbone, tokenizer)
                _check_same_side(name, teacher, config.data.truncation)
            label = _label(name, config.distill.terms)
            if len(teachers) > 1:
                label = f"{label}@{teacher.name}"
            lessons[teacher].append(Lesson(label, _share(weight, len(teachers)), distiller, component.options))
    return lessons


def _label(name: str, terms: Iterable[str]) -> str:
    """What the term *name* goes by: without its distribution, unless another of *terms* has the same short name.

    A ``/`` parts a lesson's name from that of what it recorded.
    """
    short = name.rpartition("/")[2]
    alone = sum(term.rpartition("/")[2] == short for term in terms) == 1
    return short if alone else name.replace("/", ".")


def _term(name: str, term: Any) -> tuple[float | Ramp, ComponentConfig]:
    """The weight of a term and its distiller, of how it is written under ``distill.terms``."""
    is_options = isinstance(term, dict) and not {"start", "end"} <= term.keys()
    written = dict(term) if is_options else {"weight": term}
    weight = check_value(float | Ramp, written.pop("weight", 1.0), f"{_where(name)}.weight")
    return weight, ComponentConfig(name=name, options=written)


def _where(name: str) -> str:
    return f"distill.terms.{name.rpartition('/')[2]}"


def _share(weight: float | Ramp, count: int) -> float | Ramp:
    if isinstance(weight, Ramp):
        return replace(weight, start=weight.start / count, end=weight.end / count)
    return weight / count


def _check_wants(name: str, wants: frozenset[str], models: Mapping[str, Model]) -> None:
    for who, model in models.items():
        if missing := sorted(wants - model.backbone.provides):
            raise ConfigError(
                f"{_where(name)} needs {', '.join(missing)} of the {who}, whose family {model.backbone.family!r} "
                f"provides {', '.join(sorted(model.backbone.provides))}. Leave the term out, or choose another {who}."
            )


def _check_same_tokens(name: str, teacher: Teacher, student: Backbone, tokenizer: Tokenizer) -> None:
    path = teacher.run.path
    if teacher.tokenizer.fingerprint() != tokenizer.fingerprint():
        raise ConfigError(
            f"{_where(name)} compares token by token, but the teacher in {path} has another tokenizer than the "
            f"student. Let the student use it: model.tokenizer={path}/model@local"
        )
    if ("text" in teacher.model.backbone.accepts) != ("text" in student.accepts):
        raise ConfigError(
            f"{_where(name)} compares token by token, but of the teacher in {path} and the student one reads a pair as "
            "one text, the other as two. Leave the term out, or choose a student of another family."
        )


def _check_same_side(name: str, teacher: Teacher, side: str) -> None:
    if (taught := teacher.run.bundle.encoding["truncation"]) != side:
        raise ConfigError(
            f"{_where(name)} compares token by token, but the teacher in {teacher.run.path} cuts long texts at the "
            f"{taught} and the student at the {side}. Set data.truncation={taught}."
        )


def _parameters(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
