from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from et_core.config import DataConfig, Overrides, RunConfig, load_config, to_dict
from et_core.data import ReadOptions, Rows, RowWriter, SkippedFile, SkippedRow, encode_rows, open_rows, open_writer
from et_core.data.encode import encode_usable
from et_core.errors import ComponentError, ConfigError, DataError, RunFolderError
from et_core.inference.engine import Engine
from et_core.inference.precision import autocast, same_precision
from et_core.inference.rows import as_rows, fields_of, kept_columns, merged, speaks_roles
from et_core.inference.vectors import open_vectors, vector_format, written
from et_core.interfaces import App, Batch, Embeds, Evaluation, Example, Model, Role, Row, RunModel, Strategy
from et_core.registry import plugins, registry
from et_core.runfolder import ModelBundle, RunFolder, current

_WINDOW = 4096
_READING = ("columns", "header", "column_names", "separator", "on_bad_row")
"""The settings of ``data`` that may differ between training and use."""

log = logging.getLogger("et")

if TYPE_CHECKING:
    from torch import Tensor

_Outputs = Callable[[Model, Batch], Mapping[str, "Tensor"]]
_Encode = Callable[[Sequence[Row]], list[Example]]
_Predict = Callable[[Iterable[Row], _Encode, RunModel], Iterator[Any]]


@dataclass(frozen=True)
class Written:
    """What a prediction or embedding over a file came to."""

    rows: int
    skipped: int
    seconds: float
    precision: str
    """"fp32" or "bf16"; empty where there was nothing to compute."""

    output: str
    skipped_file: str | None
    first_skipped: SkippedRow | None


class Run:
    """A finished run: its figures, and its model ready to predict."""

    def __init__(self, folder: RunFolder, config: RunConfig, bundle: ModelBundle, *, precision: str = "auto") -> None:
        self.folder = folder
        self.config = config
        self.bundle = bundle
        self._strategy: Strategy = registry("strategies").create("et-core/single")
        self._precision = precision
        self._used_precision = ""
        self._engine: Engine | None = None

    @classmethod
    def load(cls, path: str | Path, *, precision: str = "auto") -> Run:
        """Open the run folder at *path*.

        *precision* is "fp32" or "bf16" for what it computes from now on; "auto" is the one it was trained in.
        """
        if precision not in ("auto", "fp32", "bf16"):
            raise ConfigError(f"precision is {precision!r}: expected 'auto', 'fp32' or 'bf16'.")
        folder = RunFolder.open(Path(path))
        config = load_config(folder.config_file).config
        for file in config.plugins.files:
            plugins().add_file(Path(file))
        return cls(folder, config, ModelBundle.load(current(folder.model)), precision=precision)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder.report

    @property
    def results(self) -> dict[str, Any]:
        """What the run wrote when it finished: metrics by split, steps, speed and more."""
        try:
            results: dict[str, Any] = json.loads(self.folder.results_file.read_text("utf-8"))
        except FileNotFoundError as error:
            raise RunFolderError(f"{self.path} is not finished: continue it with --resume.") from error
        except ValueError as error:
            raise RunFolderError(f"{self.folder.results_file} was cut off or altered: {error}.") from error
        return results

    @property
    def metrics(self) -> dict[str, float]:
        """The dev metrics of the weights that were kept, nan for one without a value; empty without a dev set."""
        found = self.results["metrics"].get("dev", {})
        return {name: float("nan") if value is None else value for name, value in found.items()}

    def predict(self, rows: Any) -> list[Any]:
        """Predict texts, pairs of texts, dicts keyed by role or column, or anything that ``data.train`` takes.

        Returns the app's prediction objects, one a row, in order. DataError where a row cannot be used.
        """
        remedy = "Correct or remove it: predict returns one prediction a row."
        data = dataclasses.replace(self.config.data, on_bad_row="stop")
        roles = self._roles(targets=False)
        opened = self._open(as_rows(rows, roles), data, roles, remedy=remedy)
        return [prediction for _, prediction in self._predicted(((row, row) for row in opened), opened)]

    def embed(self, rows: Any) -> np.ndarray:
        """The vectors [N, H], fp32, of texts, dicts keyed by role or column, or anything that ``data.train`` takes.

        ConfigError where the run's model gives no vectors; DataError where a row cannot be used.
        """
        roles = self._embeds.embedded_roles()
        remedy = "Correct or remove it: embed returns one vector a row."
        data = dataclasses.replace(self.config.data, on_bad_row="stop")
        opened = self._open(as_rows(rows, roles, caller="embed"), data, roles, remedy=remedy)
        found = [vector for _, vector in self._embedded(((row, row) for row in opened), opened)]
        return np.stack(found) if found else np.zeros((0, 0), np.float32)

    def predict_file(
        self,
        source: Any,
        output: str | Path,
        overrides: Overrides | None = None,
        *,
        keep: Sequence[str] | None = None,
        input_format: str | None = None,
        output_format: str | None = None,
    ) -> Written:
        """Predict a file (or "-") row by row into *output*, in memory that does not grow with the file.

        *overrides* say what is read otherwise than in training: ``{"data.columns.text": "title"}``. *keep* names the
        input columns to write beside the prediction; None keeps all. With ``data.on_bad_row`` "skip", rows that cannot
        be used go to ``OUTPUT.skipped.jsonl`` with the reason.
        """
        rows = self._open(source, self._reading(overrides), self._roles(targets=False), format=input_format)
        return self._write(
            rows,
            output,
            lambda: open_writer(output, format=output_format),
            lambda pairs: ((raw, fields_of(found)) for raw, found in self._predicted(pairs, rows)),
            keep=keep,
        )

    def embed_file(
        self,
        source: Any,
        output: str | Path,
        overrides: Overrides | None = None,
        *,
        keep: Sequence[str] | None = None,
        input_format: str | None = None,
        output_format: str | None = None,
    ) -> Written:
        """Write the vector of each row of a file (or "-"): .npy [N, H] in fp32, or ``vector`` in .jsonl or .parquet.

        Memory does not grow with the file. The other arguments, and what becomes of rows that cannot be used, are as in
        ``predict_file``; a .npy file holds vectors alone.
        """
        roles = self._embeds.embedded_roles()
        name = vector_format(output, output_format)
        if name == "npy" and keep:
            raise ConfigError("--keep: a .npy file holds vectors alone. Write .jsonl or .parquet to keep columns.")
        rows = self._open(source, self._reading(overrides), roles, format=input_format)
        return self._write(
            rows,
            output,
            lambda: open_vectors(output, name),
            lambda pairs: ((raw, {"vector": written(found, name)}) for raw, found in self._embedded(pairs, rows)),
            keep=() if name == "npy" else keep,
        )

    def _write(
        self,
        rows: Rows,
        output: str | Path,
        open_output: Callable[[], RowWriter],
        answer: Callable[[Iterable[tuple[Row, Mapping[str, Any]]]], Iterator[tuple[Mapping[str, Any], dict[str, Any]]]],
        *,
        keep: Sequence[str] | None,
    ) -> Written:
        start = time.perf_counter()
        _refuse_overwriting(rows, output)
        count = 0
        with SkippedFile(_skipped_path(output)) as skipped, open_output() as writer:
            rows.on_skip = skipped.add
            answers = answer(rows.raw())
            while window := list(islice(answers, _WINDOW)):
                writer.write([merged(kept_columns(raw, keep), fields) for raw, fields in window])
                count += len(window)
        seconds = time.perf_counter() - start
        return Written(count, skipped.total, seconds, self._used_precision, str(output), skipped.written, skipped.first)

    def evaluate(
        self,
        source: Any,
        overrides: Overrides | None = None,
        *,
        skipped_file: str | Path | None = None,
    ) -> dict[str, float]:
        """The run's metrics on labelled rows, computed as they stream by.

        *overrides* say what is read otherwise than in training. With ``data.on_bad_row`` "skip", rows that cannot be
        used go to *skipped_file*, by default ``evaluate.skipped.jsonl`` in the run's folder, and a warning of the
        logger "et" counts them.
        """
        data = self._reading(overrides)
        rows = self._open(source, data, self._roles(targets=True), need_targets=True)
        names = None if self.config.metrics == "auto" else list(self.config.metrics)
        with SkippedFile(Path(skipped_file or self.folder.evaluation_skipped_file)) as skipped:
            rows.on_skip = skipped.add
            evaluation = self.measure(rows, names, skip_bad=data.on_bad_row == "skip")
        if skipped.first:
            log.warning("rows left out: %d, listed in %s", skipped.total, skipped.written)
        for note in evaluation.notes():
            log.info("%s", note)
        return evaluation.metrics()

    def measure(self, rows: Rows, metrics: Sequence[str] | None, *, skip_bad: bool = False) -> Evaluation:
        """What the run makes of labelled *rows*; DataError where none can be used. With *skip_bad* others go on."""
        evaluation = self._app.evaluation(metrics)
        count = 0
        for examples in encode_rows(rows, self.encode, skip_bad=skip_bad, owner=type(self._app).__name__):
            if examples:
                evaluation.update(self._run(examples), examples)
            count += len(examples)
        if not count:
            raise DataError(f"{rows.description} has no usable rows.")
        return evaluation

    @property
    def _app(self) -> App:
        return self.bundle.apps["main"]

    @property
    def _embeds(self) -> Embeds:
        if isinstance(self._app, Embeds):
            return self._app
        name = self.bundle.app_configs["main"].name.rpartition("/")[2]
        raise ConfigError(
            f"app={name} gives no vectors of texts. Train an app that does, such as one with two towers; "
            "et list apps shows all."
        )

    def _roles(self, *, targets: bool) -> dict[str, Role]:
        return {name: role for name, role in self._app.roles.items() if targets or not role.target}

    def _reading(self, overrides: Overrides | None) -> DataConfig:
        """How rows are read: as in training, but for *overrides*."""
        loaded = load_config(to_dict(self.config), overrides)
        allowed = [f"data.{name}" for name in _READING]
        for key, origin in loaded.origins.items():
            if origin == "override" and ".".join(key.split(".")[:2]) not in allowed:
                raise ConfigError(f"{key} has no effect on a finished run. What can be set here: {', '.join(allowed)}.")
        return loaded.config.data

    def _open(
        self,
        source: Any,
        data: DataConfig,
        roles: Mapping[str, Role],
        *,
        need_targets: bool = False,
        format: str | None = None,  # noqa: A002 - the word the readers use
        remedy: str | None = None,
    ) -> Rows:
        columns = {role: name for role, name in data.columns.items() if role in roles or role not in self._app.roles}
        options = dataclasses.replace(ReadOptions.of(data), columns=columns)
        if remedy:
            options = dataclasses.replace(options, remedy=remedy)
        if speaks_roles(source, options.columns):
            options = dataclasses.replace(options, columns={})
        return open_rows(source, options, roles=roles, need_targets=need_targets, format=format)

    def _predicted(
        self, pairs: Iterable[tuple[Row, Mapping[str, Any]]], rows: Rows
    ) -> Iterator[tuple[Mapping[str, Any], Any]]:
        return self._answered(pairs, rows, self._app.predict, self.encode, self._run)

    def _embedded(
        self, pairs: Iterable[tuple[Row, Mapping[str, Any]]], rows: Rows
    ) -> Iterator[tuple[Mapping[str, Any], np.ndarray]]:
        app = self._embeds

        def encode(chunk: Sequence[Row]) -> list[Example]:
            return app.encode_single(chunk, self.bundle.tokenizer, **self.bundle.encoding)

        def embed(taken: Iterable[Row], encode: _Encode, run: RunModel) -> Iterator[np.ndarray]:
            source = iter(taken)
            while window := list(islice(source, _WINDOW)):
                if examples := encode(window):
                    yield from run(examples)["vector"]

        def outputs(model: Model, batch: Batch) -> Mapping[str, Tensor]:
            return {"vector": app.vectors(model, batch)}

        return self._answered(pairs, rows, embed, encode, self._make_engine(outputs))

    def _answered(
        self,
        pairs: Iterable[tuple[Row, Mapping[str, Any]]],
        rows: Rows,
        predict: _Predict,
        encode_all: _Encode,
        run: RunModel,
    ) -> Iterator[tuple[Mapping[str, Any], Any]]:
        """What *predict* says of each of *pairs* (a row of *rows*, its record), beside the record, without bad rows."""
        waiting: deque[tuple[Row, Mapping[str, Any]]] = deque()
        left_out: set[int] = set()

        def taken() -> Iterator[Row]:
            for pair in pairs:
                waiting.append(pair)
                yield pair[0]

        def encode(chunk: Sequence[Row]) -> list[Example]:
            examples = encode_usable(chunk, encode_all, rows, type(self._app).__name__)
            left_out.update({row.index for row in chunk} - {example.row for example in examples})
            return examples

        def next_pair() -> tuple[Row, Mapping[str, Any]] | None:
            while waiting and waiting[0][0].index in left_out:
                left_out.remove(waiting.popleft()[0].index)
            return waiting.popleft() if waiting else None

        for prediction in predict(taken(), encode, run):
            pair = next_pair()
            if pair is None:
                raise self._miscounted("more predictions than rows that could be used")
            yield pair[1], prediction
        if pair := next_pair():
            raise self._miscounted(f"no prediction for {pair[0].where}")

    def _miscounted(self, what: str) -> ComponentError:
        return ComponentError(
            f"{type(self._app).__name__}.predict gives {what}. It gives one prediction a row, in the order of "
            "the rows: App.decode merges the windows of a row."
        )

    def encode(self, rows: Sequence[Row]) -> list[Example]:
        backbone = self.bundle.model.backbone
        return self._app.encode(
            rows,
            self.bundle.tokenizer,
            accepts=backbone.accepts,
            processor=backbone.processor(),
            **self.bundle.encoding,
        )

    def _run(self, examples: Sequence[Example]) -> Mapping[str, Any]:
        if self._engine is None:
            self._engine = self._make_engine(self._app.outputs)
        return self._engine(examples)

    def _make_engine(self, outputs: _Outputs) -> Engine:
        device = self._strategy.device
        # Figures of the run and predictions from it are then of the same numbers, and the same each time.
        wanted = same_precision(self.bundle.precision, device) if self._precision == "auto" else self._precision
        self._used_precision = wanted
        return Engine(
            self.bundle.model.to(device).eval(),
            pad_id=self.bundle.tokenizer.pad_id,
            device=device,
            outputs=outputs,
            context=autocast(wanted, device),
        )


def _skipped_path(output: str | Path) -> Path | None:
    """Where the rows left out of *output* go: beside it, unless it is a stream or a device."""
    path = Path(output).expanduser()
    streams = str(output) == "-" or (path.exists() and not path.is_file())
    return None if streams else Path(f"{output}.skipped.jsonl")


def _refuse_overwriting(rows: Rows, output: str | Path) -> None:
    path = Path(output).expanduser()
    if any(path.exists() and path.samefile(file) for file in rows.files):
        raise RunFolderError(f"{output} is the input itself, which would be lost. Write to another file.")
