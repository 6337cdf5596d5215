from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from et_core.config import (
    ComponentConfig,
    ObjectiveConfig,
    RunConfig,
    SearchConfig,
    flatten,
    load_config,
    to_dict,
)
from et_core.data import ExampleStore, ReadOptions, Rows, open_rows
from et_core.errors import ConfigError, DataError
from et_core.interfaces import (
    App,
    Artifact,
    Backbone,
    Model,
    Objective,
    Row,
    Strategy,
    Tokenizer,
    build_backbone,
    build_component,
    build_model,
    check_backbone_options,
    check_options,
    provided_by,
)
from et_core.registry import ModelRef, plugins, registry
from et_core.registry.hints import ProviderHints
from et_core.runfolder import ModelBundle
from et_core.sources import resolve
from et_core.training.augmentation import check_augment
from et_core.training.checks import check_phases
from et_core.training.encoding import Encoder
from et_core.training.teachers import check_distill, check_taught
from et_core.training.teaching import Teaching
from et_core.training.vocabulary import TokenizerChoice

log = logging.getLogger("et")
_GIVEN_TO_OBJECTIVES = ("model", "losses", "apps", "tokenizer", "lessons", "label_weight", "teachers")
_DISTILLATION = "et-core/distillation"


def check_config(config: RunConfig) -> None:
    """Everything about *config* that can be known before data is read: names, settings, and that the parts fit."""
    for path in config.plugins.files:
        plugins().add_file(Path(path))
    plugins().require(config.plugins.required)
    for key, value, example in (
        ("app", config.app.name, "NAME, one of those that 'et list apps' shows"),
        ("model", config.model.ref, "REF, such as a name that 'et list presets' shows"),
        ("data.train", config.data.train, "train.tsv"),
    ):
        if value is None or (isinstance(value, str) and not value):
            raise ConfigError(f"{key} is not set. Write {key}={example}, or put it into the config file.")
    _qualify_names(config)
    for key, source in (("data.train", config.data.train), ("data.dev", config.data.dev)):
        if isinstance(source, Iterator) or (isinstance(source, str) and source == "-"):
            what = "standard input" if source == "-" else f"a {type(source).__name__}"
            raise DataError(
                f"{key} is {what}, which can be read only once, but training reads its rows several times. "
                "Pass a file, or a list of the rows."
            )
    ModelRef.parse(config.model.ref)
    check_distill(config)
    check_augment(config)
    objective = objective_config(config, build_app(config))
    check_taught(config, objective.name)
    check_options("objectives", objective, where="objective", given=_GIVEN_TO_OBJECTIVES)
    check_options("optimizers", config.train.optimizer, where="train.optimizer")
    check_options("schedules", config.train.schedule, where="train.schedule", given=("total_steps", "warmup_steps"))
    for kind, names in (
        ("trackers", config.train.trackers),
        ("metrics", metric_names(config) or []),
    ):
        for name in names:
            registry(kind).get(name)


def search_config(config: RunConfig) -> RunConfig | None:
    """The run that finds what the model of *config* leaves open about its architecture; None where nothing is open."""
    artifact = resolve(config.model.ref)
    family = config.model.family or artifact.family
    options = check_backbone_options(family, config.model.options)
    search = None if artifact.weights else registry("backbones").get(family).search(options)
    if search is None:
        if config.search != SearchConfig():
            raise ConfigError(
                f"search is set, but the model {config.model.ref} leaves nothing to search for. Leave out search."
            )
        return None
    # What a search has found is in its last weights, unless someone wants it otherwise.
    settings = {"train.keep_best": None, "train.patience": None} | {
        f"train.{key}": value for key, value in flatten(config.search.train).items()
    }
    name = search.objective if config.search.name == "auto" else config.search.name
    return replace(
        config,
        model=replace(config.model, ref=f"{search.family.rpartition('/')[2]}@init", family=search.family),
        objective=ObjectiveConfig(name=name, options=dict(config.search.options)),
        train=load_config({"train": to_dict(config)["train"]}, settings).config.train,
        search=SearchConfig(),
    )


def trial_config(config: RunConfig, options: Mapping[str, Any]) -> RunConfig:
    """The short run of a model that a search has found, built with *options*."""
    family = registry("backbones").find(config.model.family or resolve(config.model.ref).family).qualified
    settings = {
        "train.max_steps": config.search.trial_steps,
        "train.eval_every": None,
        "train.checkpoint_every": None,
        "train.keep_best": None,
        "train.patience": None,
    }
    return replace(
        config,
        model=replace(config.model, family=family, options=dict(options)),
        train=load_config({"train": to_dict(config)["train"]}, settings).config.train,
        search=SearchConfig(),
    )


def _qualify_names(config: RunConfig) -> None:
    """Name each component with its distribution, so that what is installed later cannot change what a run means."""
    for kind, component in (
        ("apps", config.app),
        ("strategies", config.strategy),
        ("objectives", config.objective),
        ("optimizers", config.train.optimizer),
        ("schedules", config.train.schedule),
    ):
        if component.name != "auto":
            component.name = registry(kind).find(component.name).qualified
    config.train.trackers = [registry("trackers").find(name).qualified for name in config.train.trackers]
    if config.metrics != "auto":
        config.metrics = [registry("metrics").find(name).qualified for name in config.metrics]


def build_app(config: RunConfig) -> App:
    app: App = build_component("apps", config.app, where="app")
    return app


def build_strategy(config: RunConfig) -> Strategy:
    strategy: Strategy = build_component("strategies", config.strategy, where="strategy")
    return strategy


def build_objective(
    config: RunConfig, app: App, model: Model, tokenizer: Tokenizer, *, teaching: Teaching | None = None
) -> Objective:
    """The objective of a run, over *model*."""
    given: dict[str, Any] = {
        "model": model,
        "losses": {"main": app.loss().build()},
        "apps": {"main": app},
        "tokenizer": tokenizer,
    }
    if teaching is not None:
        models = [teacher.model for teacher in teaching.teachers]
        given |= {"lessons": teaching.lessons, "label_weight": config.distill.labels, "teachers": models}
    objective: Objective = build_component("objectives", objective_config(config, app), where="objective", **given)
    check_phases(objective)
    return objective


def objective_config(config: RunConfig, app: App) -> ComponentConfig:
    if config.objective.name != "auto":
        return config.objective
    name = _DISTILLATION if config.distill.teachers else app.objective
    return ComponentConfig(name=name, options=config.objective.options)


def metric_names(config: RunConfig) -> list[str] | None:
    """The metrics that *config* asks for; None for the app's own choice."""
    return None if config.metrics == "auto" else list(config.metrics)


@dataclass
class Parts:
    """What a run is assembled from, before training."""

    bundle: ModelBundle
    app: App
    artifact: Artifact
    train_rows: Rows
    dev_rows: Rows | None
    train: ExampleStore
    dev: ExampleStore | None
    teaching: Teaching | None = None

    @property
    def backbone(self) -> Backbone:
        return self.bundle.model.backbone


def assemble(config: RunConfig, strategy: Strategy) -> Parts:
    """Resolve the model, read and encode the data, learn the labels, and build the model."""
    artifact = resolve(config.model.ref)
    artifact = replace(artifact, family=_family(config, artifact))
    config.model.ref = str(artifact.ref)
    config.model.family = registry("backbones").find(artifact.family).qualified
    app = build_app(config)
    backbone_class = registry("backbones").get(artifact.family)
    _check_fit(config, app, backbone_class, artifact)
    choice = TokenizerChoice(config, backbone_class, artifact)
    train_rows, dev_rows = _open(config, app)
    app.tokenizer = tokenizer = choice.make(app, train_rows)
    options = {**config.model.options, **_marks(config, app)}
    backbone = build_backbone(artifact.family, options, tokenizer=tokenizer, artifact=artifact)
    if backbone.max_length is not None and config.data.max_length > backbone.max_length:
        raise ConfigError(
            f"data.max_length is {config.data.max_length}, "
            f"but {config.model.ref} has positions for {backbone.max_length} tokens."
        )
    _fit(app, train_rows, skip_bad=config.data.on_bad_row == "skip")
    app.evaluation(metric_names(config))  # refuses metrics that do not fit the labels, before all rows are encoded
    teaching = Teaching(config, app, train_rows, strategy) if config.distill.teachers else None
    encoding = {"max_length": config.data.max_length, "truncation": config.data.truncation}
    encoder = Encoder(config, app, tokenizer, backbone=backbone, encoding=encoding, strategy=strategy)
    stores = {rows: _encoded(rows, encoder) for rows in (train_rows, dev_rows) if rows is not None}
    model = build_model(backbone, {"main": app})
    if teaching is not None:
        teaching.begin(model, tokenizer, is_fresh=not artifact.weights)
        stores[train_rows] = teaching.taught(stores[train_rows], encoder)
    bundle = ModelBundle(
        model=model,
        tokenizer=tokenizer,
        tokenizer_name=choice.name,
        apps={"main": app},
        app_configs={"main": config.app},
        encoding=encoding,
    )
    dev = None if dev_rows is None else stores[dev_rows]
    return Parts(bundle, app, artifact, train_rows, dev_rows, stores[train_rows], dev, teaching)


def _encoded(rows: Rows, encoder: Encoder) -> ExampleStore:
    store = encoder(rows)
    if not len(store):
        raise DataError(f"{rows.description} has no usable rows.")
    return store


def _family(config: RunConfig, artifact: Artifact) -> str:
    """The registered family of *artifact*; ConfigError where its config.json names one that nobody provides."""
    families = registry("backbones")
    family = config.model.family or artifact.family
    if family in families or config.model.family or not artifact.weights:
        families.find(family)
        return family
    hint = ProviderHints(plugins()).explain(families.kind, artifact.family)
    raise ConfigError(
        f"{str(artifact.ref)!r} is of the family {artifact.family!r} (model_type in its config.json), "
        f"which no installed plugin provides.{f' {hint}' if hint else ''}\n"
        f"Installed families: {', '.join(families.names())}."
    )


def _check_fit(config: RunConfig, app: App, backbone: type[Backbone], artifact: Artifact) -> None:
    check_backbone_options(artifact.family, config.model.options)
    name = registry("apps").find(config.app.name).name
    missing = app.needs - provided_by(backbone)
    if "towers" in missing:
        raise ConfigError(
            f"app={name} as it is set has each text read alone, for which a model has to take one text; "
            f"{artifact.family!r} takes {', '.join(sorted(backbone.accepts))}. "
            "Choose another model (et list backbones), or have texts read together."
        )
    if missing:
        raise ConfigError(
            f"the head of app={name} needs {', '.join(sorted(missing))} of its model; "
            f"{artifact.family!r} provides {', '.join(sorted(backbone.provides))}. "
            "Choose another model: et list backbones"
        )
    if app.marks and "marks" not in backbone.accepts:
        raise ConfigError(
            f"app={name} marks tokens ({', '.join(app.marks)}), which {artifact.family!r} does not take. "
            "Choose another model: et list backbones"
        )


def _marks(config: RunConfig, app: App) -> dict[str, Any]:
    """The backbone's option that makes room for the marks of *app*, beside those that the user asks for."""
    return {"marks": {**app.marks, **config.model.options.get("marks", {})}} if app.marks else {}


def _open(config: RunConfig, app: App) -> tuple[Rows, Rows | None]:
    data, options = config.data, ReadOptions.of(config.data)
    train = open_rows(data.train, options, roles=app.roles, need_targets=True)
    dev: Rows | None = None
    if isinstance(data.dev, (int, float)) and not isinstance(data.dev, bool):
        if not 0 < data.dev < 1:
            raise ConfigError(f"data.dev is {data.dev}: expected a file, or a fraction of data.train between 0 and 1.")
        train, dev = _hold_out(train, float(data.dev), config.train.seed, together=app.kept_together)
    elif data.dev is not None:
        dev = open_rows(data.dev, options, roles=app.roles, need_targets=True)
    if data.limit is not None and data.limit < len(train):
        rng = np.random.default_rng((config.train.seed, 1))
        train = train.select(np.sort(rng.choice(len(train), data.limit, replace=False)))
    return train, dev


def _hold_out(rows: Rows, share: float, seed: int, *, together: str | None) -> tuple[Rows, Rows]:
    """*rows* without about a *share* of them, and that share; those of equal value in the role *together* are not
    parted."""
    groups = _groups(rows, together)
    sizes = np.bincount(groups)
    order = np.random.default_rng((seed, 0)).permutation(len(sizes))
    wanted = round(len(groups) * share)
    chosen = order[: np.abs(np.cumsum(sizes[order]) - wanted).argmin() + 1] if wanted else order[:0]
    is_held = np.isin(groups, chosen)
    if not is_held.any() or is_held.all():
        grouped = "" if len(sizes) == len(groups) else f" with {len(sizes)} different values of {together!r}"
        raise ConfigError(
            f"data.dev is {share}: of {len(groups)} rows{grouped} that leaves nothing for one of train and dev."
        )
    return rows.select(np.flatnonzero(~is_held)), rows.select(np.flatnonzero(is_held))


def _groups(rows: Rows, role: str | None) -> np.ndarray:
    """For each of *rows* the number of its group [N]: rows of equal value in *role* share one."""
    if role is None:
        return np.arange(len(rows))
    numbers: dict[object, int] = {}
    values = (str(row[role]).strip() if role in row else object() for row in rows)
    return np.asarray([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def _fit(app: App, rows: Rows, *, skip_bad: bool) -> None:
    try:
        app.fit(_usable(rows, app, skip_bad=skip_bad))
    except ConfigError as error:
        if not rows.skipped:
            raise
        first = rows.skipped[0]
        raise ConfigError(
            f"{error}\nRows left out as bad: {rows.skipped_total}, the first: {first.where}: {first.reason}"
        ) from error


def _usable(rows: Rows, app: App, *, skip_bad: bool) -> _Usable | Rows:
    return _Usable(rows, app) if skip_bad else rows


class _Usable:
    """The rows that an app can learn from; re-iterable, as ``App.fit`` may read more than once."""

    def __init__(self, rows: Rows, app: App) -> None:
        self._rows = rows
        self._app = app

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            try:
                self._app.check(row)
            except DataError as error:
                self._rows.skip(row, str(error))
                continue
            yield row
