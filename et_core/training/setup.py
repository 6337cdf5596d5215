from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from et_core.config import RunConfig, check_arguments
from et_core.data import ExampleStore, ReadOptions, Rows, cached_store, encode_rows, open_rows
from et_core.errors import ConfigError, DataError
from et_core.interfaces import App, Artifact, Backbone, Example, Model, Row, Strategy, Tokenizer
from et_core.registry import ModelRef, plugins, registry
from et_core.runfolder import ModelBundle, build_app, build_backbone
from et_core.sources import resolve

log = logging.getLogger("et")
_FITTED_VOCABULARY = 8000


def check_config(config: RunConfig) -> None:
    """Everything about *config* that can be known before data is read: names, settings, and that the parts fit."""
    for path in config.plugins.files:
        plugins().add_file(Path(path))
    plugins().require(config.plugins.required)
    for key, value, example in (
        ("app", config.app.name, "classification"),
        ("model", config.model.ref, "minilm-l6-en@zoo"),
        ("data.train", config.data.train, "train.tsv"),
    ):
        if value is None or (isinstance(value, str) and not value):
            raise ConfigError(f"{key} is not set. Write {key}={example}, or put it into the config file.")
    for key, source in (("data.train", config.data.train), ("data.dev", config.data.dev)):
        if isinstance(source, Iterator) or (isinstance(source, str) and source == "-"):
            what = "standard input" if source == "-" else f"a {type(source).__name__}"
            raise DataError(
                f"{key} is {what}, which can be read only once, but training reads its rows several times. "
                "Pass a file, or a list of the rows."
            )
    ModelRef.parse(config.model.ref)
    build_app(config.app)
    for kind, names in (
        ("optimizers", [config.train.optimizer]),
        ("schedules", [config.train.schedule]),
        ("trackers", config.train.trackers),
        ("metrics", [] if config.metrics == "auto" else config.metrics),
    ):
        for name in names:
            registry(kind).find(name)
    check_strategy(config)


def check_strategy(config: RunConfig) -> Strategy:
    """Build the strategy that *config* names."""
    cls = registry("strategies").get(config.strategy.name)
    owner = f"{config.strategy.name} ({registry('strategies').find(config.strategy.name).provider})"
    strategy: Strategy = cls(**check_arguments(cls, config.strategy.options, where="strategy", owner=owner))
    return strategy


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

    @property
    def backbone(self) -> Backbone:
        return self.bundle.model.backbone


def assemble(config: RunConfig, strategy: Strategy) -> Parts:
    """Resolve the model, read and encode the data, learn the labels, and build the model."""
    artifact = resolve(config.model.ref)
    app = build_app(config.app)
    backbone_class = registry("backbones").get(artifact.family)
    _check_fit(config, app, backbone_class, artifact)
    train_rows, dev_rows = _open(config, app)
    tokenizer, tokenizer_name = _tokenizer(config, app, backbone_class, artifact, train_rows)
    backbone = build_backbone(artifact.family, config.model.options, tokenizer=tokenizer, artifact=artifact)
    if backbone.max_length is not None and config.data.max_length > backbone.max_length:
        raise ConfigError(
            f"data.max_length is {config.data.max_length}, "
            f"but {config.model.ref} has positions for {backbone.max_length} tokens."
        )
    app.fit(_usable(train_rows, app, skip_bad=config.data.on_bad_row == "skip"))
    encoding = {"max_length": config.data.max_length, "truncation": config.data.truncation}
    encoder = _Encoder(config, app, tokenizer, backbone.accepts, encoding, strategy)
    train = encoder(train_rows)
    if not len(train):
        raise DataError(f"{train_rows.description} has no usable rows.")
    dev = None if dev_rows is None else encoder(dev_rows)
    head = app.head()
    backbone.restrict(head.needs)
    bundle = ModelBundle(
        model=Model(backbone, {"main": head.build(backbone)}),
        tokenizer=tokenizer,
        tokenizer_name=tokenizer_name,
        family=artifact.family,
        options=config.model.options,
        apps={"main": app},
        app_configs={"main": config.app},
        encoding=encoding,
    )
    return Parts(bundle, app, artifact, train_rows, dev_rows, train, dev)


def read_options(config: RunConfig) -> ReadOptions:
    data = config.data
    return ReadOptions(
        columns=data.columns,
        header=data.header,
        column_names=tuple(data.column_names),
        separator=data.separator,
        on_bad_row=data.on_bad_row,
    )


def _check_fit(config: RunConfig, app: App, backbone: type[Backbone], artifact: Artifact) -> None:
    owner = f"{backbone.__name__} ({registry('backbones').find(artifact.family).provider})"
    check_arguments(backbone.Options, config.model.options, where="model", owner=owner)
    missing = app.needs - backbone.provides
    if missing:
        raise ConfigError(
            f"app={config.app.name} needs {', '.join(sorted(missing))} of its model; {artifact.family!r} provides "
            f"{', '.join(sorted(backbone.provides))}. Choose another model: et list backbones"
        )


def _open(config: RunConfig, app: App) -> tuple[Rows, Rows | None]:
    data, options = config.data, read_options(config)
    train = open_rows(data.train, options, roles=app.roles, need_targets=True)
    dev: Rows | None = None
    if isinstance(data.dev, (int, float)) and not isinstance(data.dev, bool):
        if not 0 < data.dev < 1:
            raise ConfigError(f"data.dev is {data.dev}: expected a file, or a fraction of data.train between 0 and 1.")
        train, dev = _hold_out(train, float(data.dev), config.train.seed)
    elif data.dev is not None:
        dev = open_rows(data.dev, options, roles=app.roles, need_targets=True)
    if data.limit is not None and data.limit < len(train):
        rng = np.random.default_rng((config.train.seed, 1))
        train = train.select(np.sort(rng.choice(len(train), data.limit, replace=False)))
    return train, dev


def _hold_out(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    count = len(rows)
    held = round(count * share)
    if not 0 < held < count:
        raise ConfigError(f"data.dev is {share}: of {count} rows that leaves nothing for one of train and dev.")
    order = np.random.default_rng((seed, 0)).permutation(count)
    return rows.select(np.sort(order[held:])), rows.select(np.sort(order[:held]))


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


def _tokenizer(
    config: RunConfig, app: App, backbone: type[Backbone], artifact: Artifact, rows: Rows
) -> tuple[Tokenizer, str]:
    name = backbone.tokenizer
    cls = registry("tokenizers").get(name)
    folder = resolve(config.model.tokenizer).tokenizer if config.model.tokenizer else artifact.tokenizer
    if folder is not None:
        return cls.load(folder), name
    if not cls.trainable:
        raise ConfigError(f"{config.model.ref} brings no tokenizer. Set model.tokenizer to a reference that has one.")
    size = config.model.options.get("vocab_size") or _FITTED_VOCABULARY
    log.info("tokenizer: learning a vocabulary of at most %d pieces on the training rows", size)
    roles = [role for role, spec in app.roles.items() if spec.type is str and not spec.target]
    return cls.fit(_Texts(rows, roles), vocab_size=size), name


class _Texts:
    """All texts of *rows*; re-iterable, as ``Tokenizer.fit`` may read more than once."""

    def __init__(self, rows: Rows, roles: Sequence[str]) -> None:
        self._rows = rows
        self._roles = roles

    def __iter__(self) -> Iterator[str]:
        return (row[role] for row in self._rows for role in self._roles if role in row)


class _Encoder:
    """Encodes rows once: the main process writes the store, the others wait for it."""

    def __init__(
        self,
        config: RunConfig,
        app: App,
        tokenizer: Tokenizer,
        accepts: frozenset[str],
        encoding: dict[str, Any],
        strategy: Strategy,
    ) -> None:
        self._config = config
        self._app = app
        self._tokenizer = tokenizer
        self._accepts = accepts
        self._encoding = encoding
        self._strategy = strategy

    def __call__(self, rows: Rows) -> ExampleStore:
        skip_bad = self._config.data.on_bad_row == "skip"
        key = {
            "rows": rows.fingerprint(),
            "app": [registry("apps").find(self._config.app.name).provider, self._config.app.options, self._app.state()],
            "tokenizer": self._tokenizer.fingerprint(),
            "encoding": self._encoding,
            "accepts": sorted(self._accepts),
        }

        def build() -> Iterator[list[Example]]:
            return encode_rows(rows, self._encode, skip_bad=skip_bad)

        if not self._strategy.is_main:
            self._strategy.barrier()
            return cached_store(key, build)
        # Which rows are bad is only learned by encoding them, so that a kept store would hide them from the report.
        store = cached_store(key, build, reuse=not skip_bad)
        self._strategy.barrier()
        return store

    def _encode(self, rows: Sequence[Row]) -> list[Example]:
        return self._app.encode(rows, self._tokenizer, accepts=self._accepts, **self._encoding)
