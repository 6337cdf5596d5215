from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from et_core.config.ramp import Ramp


def also(*names: str, default: Any) -> Any:
    """A field with its *default* that knows what other tools call it, for the message about an unknown key."""
    if isinstance(default, (list, dict)) or dataclasses.is_dataclass(default):
        return field(default_factory=lambda: copy.deepcopy(default), metadata={"also": names})
    return field(default=default, metadata={"also": names})


Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(kw_only=True)
class ComponentConfig:
    """A registered component by *name*; all other keys are its own arguments. A plain string is short for the name."""

    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class StrategyConfig(ComponentConfig):
    """How the processes of a run share the work."""

    name: str = "single"


@dataclass(kw_only=True)
class ObjectiveConfig(ComponentConfig):
    """What training minimises; auto is the app's own objective."""

    name: str = "auto"


@dataclass(kw_only=True)
class OptimizerConfig(ComponentConfig):
    """How parameters are moved along their gradients."""

    name: str = "adamw"


@dataclass(kw_only=True)
class ScheduleConfig(ComponentConfig):
    """The learning rate after the warm-up."""

    name: str = "linear"


@dataclass(kw_only=True)
class TokenizerConfig:
    """Where a model's tokenizer comes from: *ref* takes that of another reference; a plain string is short for it.

    *name* is the registered tokenizer, where it is not the family's own. Other keys are how it learns a vocabulary.
    """

    ref: str | None = None
    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class ModelConfig:
    """A model reference; other keys are the family's own settings. A plain string is short for ``ref``.

    *tokenizer* is for fresh weights (``@init``), which bring none. *family* chooses the registered family, where
    config.json does not say which of two is meant.
    """

    ref: str = also("name", "path", "model_name", "pretrained", default="")
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    family: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class DataConfig:
    """Where the rows are and how they are read. *columns* maps the app's roles to columns of the file."""

    train: Any = also("train_file", "training", default=None)
    dev: Any = also("validation", "valid", "eval", "dev_file", default=None)
    """A file as for *train*, or a fraction of *train* to hold out, drawn with the seed."""

    columns: dict[str, str] = also("fields", "schema", default={})
    max_length: Positive = also("max_seq_length", "sequence_length", "max_len", default=128)
    truncation: Literal["right", "left"] = "right"
    """The side at which a text longer than *max_length* tokens is cut."""

    limit: Positive | None = also("max_train_samples", "num_samples", default=None)
    on_bad_row: Literal["stop", "skip"] = "stop"
    header: bool = True
    column_names: list[str] = also("names", default=[])
    """Names for the columns of a file without a header."""

    separator: str | None = also("sep", "delimiter", default=None)


@dataclass(kw_only=True)
class TrainConfig:
    """How the run is trained. *batch_size* is rows per optimiser step over all processes."""

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = also("num_epochs", "num_train_epochs", default=3.0)
    max_steps: Positive | None = also("steps", "num_steps", default=None)
    """Stop after so many optimiser steps; the schedule ends there too."""

    batch_size: Positive = also("per_device_train_batch_size", "train_batch_size", "bs", default=32)
    token_budget: Positive = also("max_tokens", default=16384)
    """The most padded tokens that one forward pass takes. A larger batch is computed in parts, with the same result."""

    accumulate: Positive = also("gradient_accumulation_steps", default=1)
    """Compute each batch in at least so many parts, to save memory. The result is the same."""

    optimizer: OptimizerConfig = also("optim", default=OptimizerConfig())
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = also("learning_rate", default=5.0e-5)
    layer_decay: Share = also("llrd", "layerwise_lr_decay", default=1.0)
    """Each layer below the top learns at this fraction of the rate of the one above it."""

    warmup: Rate = also("warmup_ratio", "warmup_steps", "warmup_proportion", default=0.1)
    """Below 1 a fraction of all steps, else a number of steps."""

    schedule: ScheduleConfig = also("lr_scheduler_type", "lr_decay", "scheduler", default=ScheduleConfig())
    weight_decay: Rate = also("weight_decay_ratio", default=0.01)
    clip_norm: Annotated[float, Field(gt=0)] | None = also("max_grad_norm", "gradient_clip", default=1.0)
    precision: Literal["auto", "fp32", "bf16"] = also("bf16", "fp16", "amp", "dtype", default="auto")
    seed: Count = 42
    eval_every: Literal["epoch"] | Positive | None = also(
        "eval_strategy", "evaluation_strategy", "eval_steps", default="epoch"
    )
    """Evaluate on dev after each epoch, or each so many steps; null only at the end."""

    keep_best: str | None = also("metric_for_best_model", "load_best_model_at_end", default="auto")
    """The dev metric that picks the weights to keep; auto is the app's main one, null keeps the last weights."""

    patience: Positive | None = also("early_stopping_patience", "early_stopping", default=None)
    """Stop after so many evaluations without a better one."""

    checkpoint_every: Positive | None = also("save_steps", "save_strategy", default=None)
    """Also save a checkpoint each so many steps; one is saved at each evaluation in any case."""

    keep_checkpoints: Positive = also("save_total_limit", default=2)
    log_every: Positive = also("logging_steps", default=10)
    freeze: list[str] = also("frozen", "freeze_layers", default=[])
    """Parameters that stay as they are: shell patterns over names, or prefixes such as ``backbone`` or ``blocks.0``."""

    trackers: list[str] = also("report_to", "logger", default=[])


@dataclass(kw_only=True)
class DistillConfig:
    """What the model learns from others: *teacher* is a finished run, ``runs/sst2@local``, or a list of several.

    *terms* are distillers by registered name: a weight, or keys with ``weight`` and the distiller's own options.
    *labels* is the weight of the loss on the labels. *augment* are augmenters by registered name, with ``copies``, how
    many new rows each makes of a training row, and their own options. A weight is a number, or goes from ``start`` to
    ``end``.
    """

    teacher: str | list[str] = also("teachers", "teacher_model", default="")
    terms: dict[str, float | dict[str, Any]] = also("distillers", "losses", default={})
    labels: Rate | Ramp = also("alpha", "label_weight", default=1.0)
    augment: dict[str, dict[str, Any]] = also("augmenters", "augmentation", default={})

    @property
    def teachers(self) -> list[str]:
        """The references of all teachers; none where nothing is distilled."""
        return [self.teacher] if isinstance(self.teacher, str) and self.teacher else list(self.teacher)


@dataclass(kw_only=True)
class SearchConfig(ComponentConfig):
    """How a student is searched for, where the model leaves its architecture open; other keys are the search's own.

    *train* are settings of ``train`` that differ while it searches. *name* is the registered objective, where it is not
    the model family's own. Of what it finds, *trials* networks are trained alone for *trial_steps*, to take the best.
    """

    name: str = "auto"
    train: dict[str, Any] = field(default_factory=dict)
    trials: Count = 6
    trial_steps: Positive = 300


@dataclass(kw_only=True)
class PluginsConfig:
    """What the run needs installed (``et-bert>=0.1``), and single Python files with hooks to load besides."""

    required: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class RunConfig:
    """All settings of a run, as they stand in its config.yaml."""

    app: ComponentConfig = also("task", default=ComponentConfig())
    model: ModelConfig = also("backbone", default=ModelConfig())
    data: DataConfig = also("dataset", default=DataConfig())
    objective: ObjectiveConfig = also("loss", default=ObjectiveConfig())
    distill: DistillConfig = also("distillation", "kd", default=DistillConfig())
    search: SearchConfig = also("nas", default=SearchConfig())
    train: TrainConfig = also("training", "trainer", default=TrainConfig())
    metrics: list[str] | Literal["auto"] = also("metric", default="auto")
    strategy: StrategyConfig = also("distributed", default=StrategyConfig())
    plugins: PluginsConfig = field(default_factory=PluginsConfig)
    output: str | None = also("output_dir", "out", default=None)


SHORT_FORMS = {
    **dict.fromkeys(("app", "strategy", "objective", "search", "train.optimizer", "train.schedule"), "name"),
    # Before the section that it stands in, which may be written as text once this is.
    "model.tokenizer": "ref",
    "model": "ref",
}
"""Sections that may be written as a string, and the key that the string is."""


IN_MEMORY = ("train", "dev")
"""The settings of ``data`` that may be rows in memory instead of a path."""


def is_rows(value: Any) -> bool:
    """Whether *value* is data held in memory instead of a path, a list of paths or a fraction."""
    if isinstance(value, (list, tuple)):
        return any(not isinstance(item, (str, Path)) for item in value)
    return not isinstance(value, (str, Path, int, float, type(None)))


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Plain values as they would be written in a file; ``load_config`` reads them back to an equal config.

    Data held in memory is only mentioned.
    """
    data = dataclasses.replace(config.data)
    for name in IN_MEMORY:
        if is_rows(getattr(data, name)):
            setattr(data, name, "(in memory)")
    values = dataclasses.asdict(dataclasses.replace(config, data=data))
    model = values["model"]
    for section, names in ((model["tokenizer"], ("ref", "name")), (model, ("family",))):
        for name in names:
            if section[name] is None:
                del section[name]
    if not values["search"]["train"]:
        del values["search"]["train"]
    for path, short in SHORT_FORMS.items():
        section, _, name = path.rpartition(".")
        holder = values[section] if section else values
        component = holder[name]
        component |= component.pop("options")
        holder[name] = component[short] if set(component) == {short} else component
        if not component:
            del holder[name]
    for name, nothing in _UNUSED.items():
        if values[name] == nothing:
            del values[name]
    return values


_UNUSED = {"distill": dataclasses.asdict(DistillConfig()), "search": "auto"}
"""Sections that most runs have no use for, as they are then: they are not written."""


def spell_out(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The same settings with ``model: bert@zoo`` and its like written as ``model: {ref: bert@zoo}``."""
    return {key: _spelt_out(value, f"{path}.{key}" if path else str(key)) for key, value in values.items()}


def _spelt_out(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return spell_out(value, path)
    return {SHORT_FORMS[path]: value} if path in SHORT_FORMS else value


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Each setting by its path: ``train.lr``, ``model.ref``. A section without keys (``data.columns: {}``) stays."""
    return dict(_leaves(spell_out(values), ""))


def _leaves(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here, value
