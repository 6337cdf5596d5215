from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import math
import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from et_core.config import RunConfig, flatten, to_dict
from et_core.data import SkippedRow
from et_core.errors import CheckpointError, ConfigError
from et_core.inference.engine import Engine
from et_core.inference.evaluate import evaluate
from et_core.inference.precision import autocast, choose_precision
from et_core.interfaces import Evaluation, Figure, Model, Objective, Prepared, Strategy
from et_core.log import show_log
from et_core.registry import plugins, registry
from et_core.runfolder import Checkpoints, Loaded, RunFolder, file_sha256
from et_core.training.compact import compact_tokens, expand_tokens
from et_core.training.dropout import use_fast_dropout
from et_core.training.groups import freeze, make_optimizer
from et_core.training.loop import Loop, Position, position_from
from et_core.training.plan import Plan
from et_core.training.progress import Progress, RichProgress, Silent
from et_core.training.recorder import Recorder
from et_core.training.setup import Parts, assemble, build_objective, metric_names
from et_core.training.splits import Split, StoreSplit, share_out

log = logging.getLogger("et")

# What may differ between a run and its continuation. Under another strategy dropout falls otherwise, and no more.
_FREE_ON_RESUME = frozenset(
    {
        "output",
        "plugins",
        "strategy",
        "train.log_every",
        "train.trackers",
        "train.checkpoint_every",
        "train.keep_checkpoints",
    }
)


@dataclass(frozen=True)
class Outcome:
    """A run that was trained and whose model is saved, for those who write about it."""

    folder: RunFolder
    config: RunConfig
    parts: Parts
    position: Position
    plan: Plan
    metrics: dict[str, float]
    evaluation: Evaluation | None
    teachers: dict[str, dict[str, float]]
    """The metrics of each teacher on dev, by its name."""

    skipped: list[SkippedRow]
    skipped_total: int
    notes: list[str]
    figures: list[Figure]
    """What the objective shows of how the model came about."""

    finalists: list[dict[str, Any]]
    """The options of the backbones that a search has found, the most promising first."""

    parameters: int
    device: str
    seconds: float


Finish = Callable[[Outcome], None]


def train_worker(
    strategy: Strategy,
    config: RunConfig,
    path: Path,
    resume: bool,
    show_progress: bool,
    finish: Finish,
) -> None:
    """Train in this process as one of a strategy's; the main one saves the model and calls *finish*."""
    started = time.perf_counter()
    for file in config.plugins.files:
        plugins().add_file(Path(file))
    if show_progress:
        show_log()
    torch.manual_seed(config.train.seed)
    parts = assemble(config, strategy)
    folder = RunFolder(path)
    if strategy.is_main and not folder.has_checkpoint():
        folder.write_config(config)  # now with the models as they were found
    run = _Run(strategy, config, folder, parts, show_progress=show_progress, started=started)
    position = run.train(resume=resume)
    evaluation, metrics = run.conclude(position)
    if strategy.is_main:
        outcome = run.outcome(position, evaluation, metrics)
        parts.bundle.precision = outcome.plan.precision
        parts.bundle.save(run.folder.model)
        finish(outcome)
    strategy.barrier()


class _Run:
    """One process's view of a run from the assembled parts to the weights that are kept."""

    def __init__(
        self,
        strategy: Strategy,
        config: RunConfig,
        folder: RunFolder,
        parts: Parts,
        *,
        show_progress: bool,
        started: float,
    ) -> None:
        self.folder = folder
        self._strategy = strategy
        self._config = config
        self._parts = parts
        self._started = started
        self._progress: Progress = RichProgress() if show_progress and strategy.is_main else Silent()
        self._checkpoints = Checkpoints(folder.checkpoints, keep=config.train.keep_checkpoints)
        self._notes: list[str] = []
        self._weights = " ".join(file_sha256(path) for path in parts.artifact.weights)
        bundle, teaching = parts.bundle, parts.teaching
        if teaching is not None:
            # What measures a time does so where the run computes.
            for model in (bundle.model, *(teacher.model for teacher in teaching.teachers)):
                model.to(strategy.device)
        objective = build_objective(config, parts.app, bundle.model, bundle.tokenizer, teaching=teaching)
        if teaching is not None:
            teaching.check_size(objective.result())
            for text in teaching.notes():
                self._note(text)
        freeze(objective, config.train.freeze)
        self._speed_up(objective)
        self._prepared: Prepared = strategy.prepare(objective, self._optimizers)
        self._splits = self._make_splits(objective)
        self._metrics = metric_names(config)
        self._main, self._better = self._find_main()
        self._watched = None if config.train.keep_best is None else self._main
        self._plan: Plan | None = None

    def train(self, *, resume: bool) -> Position:
        loaded = self._checkpoints.newest() if resume else None
        position = self._restore(loaded)
        if self._plan is None:
            self._plan = self._make_plan()
        recorder = self._recorder(position) if self._strategy.is_main else None
        loop = Loop(
            self._prepared,
            self._splits,
            train=self._config.train,
            plan=self._plan,
            strategy=self._strategy,
            evaluate=(lambda: self._evaluate().metrics()) if self._parts.dev is not None else None,
            better=self._better if self._watched else None,
            watched=self._watched,
            save=self._save,
            recorder=recorder,
        )
        with contextlib.closing(recorder) if recorder else contextlib.nullcontext():
            return loop.run(position)

    def conclude(self, position: Position) -> tuple[Evaluation | None, dict[str, float]]:
        """Bring back the best weights, tune what is tuned on dev, and look at dev a last time."""
        best = position.best_step
        if best is not None and best != position.step:
            self._strategy.load_state(self._prepared, self._checkpoints.load(best).tensors())
            self._note(f"the weights are those of step {best}, the best on dev of {position.step} steps")
        expand_tokens(self._prepared.objective)
        objective = self._prepared.objective.eval()
        torch.manual_seed(int(np.random.SeedSequence((self._config.train.seed, position.step)).generate_state(1)[0]))
        objective.conclude(self._score if self._main else None, lambda value: self._strategy.gather(value)[0])
        for text in objective.notes():
            self._note(text)
        self._parts.bundle.model = objective.result()
        if self._parts.dev is None:
            self._note("there is no dev set, so nothing was measured: data.dev=0.1 would hold out a tenth")
            return None, {}
        evaluation = self._evaluate()
        if self._parts.app.calibrate(evaluation):
            evaluation = self._evaluate()
        for text in evaluation.notes():
            self._note(text)
        metrics = evaluation.metrics()
        if self._watched and math.isnan(metrics.get(self._watched, 0.0)):
            self._note(
                f"{self._watched} has no value on dev: it can neither pick the best weights nor end the run early"
            )
        return evaluation, metrics

    def outcome(self, position: Position, evaluation: Evaluation | None, metrics: dict[str, float]) -> Outcome:
        rows = [rows for rows in (self._parts.train_rows, self._parts.dev_rows) if rows is not None]
        return Outcome(
            folder=self.folder,
            config=self._config,
            parts=self._parts,
            position=position,
            plan=self._plan or self._make_plan(),
            metrics=metrics,
            evaluation=evaluation,
            teachers=self._teachers(),
            skipped=[skipped for source in rows for skipped in source.skipped],
            skipped_total=sum(source.skipped_total for source in rows),
            notes=self._notes,
            figures=[*self._parts.bundle.model.backbone.figures(), *self._prepared.objective.figures()],
            finalists=[dict(model.backbone.options) for model in self._prepared.objective.finalists()],
            parameters=sum(parameter.numel() for parameter in self._parts.bundle.model.parameters()),
            device=str(self._strategy.device),
            seconds=time.perf_counter() - self._started,
        )

    def _teachers(self) -> dict[str, dict[str, float]]:
        teaching, dev = self._parts.teaching, self._parts.dev_rows
        return {} if teaching is None or dev is None else teaching.metrics(dev, self._metrics)

    def _speed_up(self, objective: Objective) -> None:
        use_fast_dropout(objective)
        if not objective.new_tokens:
            used = np.union1d(self._parts.train.used_ids(), [self._parts.bundle.tokenizer.pad_id])
            compact_tokens(objective, self._parts.backbone, torch.from_numpy(used.astype(np.int64)))

    def _make_splits(self, objective: Objective) -> dict[str, Split]:
        train, strategy, store = self._config.train, self._strategy, self._parts.train
        return {
            name: StoreSplit(
                store,
                batch_size=train.batch_size,
                seed=train.seed,
                pad_id=self._parts.bundle.tokenizer.pad_id,
                token_budget=train.token_budget,
                parts=train.accumulate,
                rank=strategy.rank,
                processes=strategy.processes,
                examples=store.examples_of(rows),
            )
            for name, rows in share_out(store.origins, objective.splits(), seed=train.seed).items()
        }

    def _optimizers(self, objective: Objective) -> dict[str, torch.optim.Optimizer]:
        return {phase.name: make_optimizer(objective, phase, self._config.train) for phase in objective.phases()}

    def _make_plan(self) -> Plan:
        train = self._config.train
        precision = choose_precision(
            train.precision,
            strategy=self._strategy,
            tokens=int(train.batch_size / self._strategy.processes * np.median(self._parts.train.lengths)),
            hidden_size=self._parts.backbone.hidden_size,
        )
        return Plan.make(train, steps_per_epoch=self._splits["train"].steps_per_epoch, precision=precision)

    def _score(self, model: Model) -> float:
        """The metric that picks weights, of *model* on dev, higher being better."""
        value = self._evaluate(model).metrics()[self._main or ""]
        return value if self._better is operator.gt else -value

    def _evaluate(self, model: Model | None = None) -> Evaluation:
        if self._parts.dev is None or self._plan is None:
            raise TypeError("there is no dev set to evaluate on")
        engine = Engine(
            (model or self._prepared.objective.result()).to(self._strategy.device).eval(),
            pad_id=self._parts.bundle.tokenizer.pad_id,
            device=self._strategy.device,
            outputs=self._parts.app.outputs,
            context=autocast(self._plan.precision, self._strategy.device),
        )
        return evaluate(engine, self._parts.dev, self._parts.app.evaluation(self._metrics), strategy=self._strategy)

    def _find_main(self) -> tuple[str | None, Callable[[float, float], bool] | None]:
        """The metric that picks weights, and whether one value of it is better than another; None without dev."""
        wanted = self._config.train.keep_best
        evaluation = self._parts.app.evaluation(self._metrics)
        if self._config.train.patience is not None and (self._parts.dev is None or wanted is None):
            raise ConfigError("train.patience needs a dev set and train.keep_best: set data.dev, such as data.dev=0.1.")
        if self._parts.dev is None:
            return None, None
        names = list(evaluation.metrics())
        chosen = names[0] if wanted in ("auto", None) else str(wanted)
        if chosen not in names:
            raise ConfigError(f"train.keep_best is {wanted!r}. Metrics of this run: {', '.join(names)}.")
        return chosen, operator.gt if evaluation.higher_is_better(chosen) else operator.lt

    def _recorder(self, position: Position) -> Recorder:
        self.folder.truncate_metrics(position.step)
        config = to_dict(self._config)
        trackers = [
            registry("trackers").create(name, folder=self.folder.path, config=config)
            for name in self._config.train.trackers
        ]
        total = self._plan.total_steps if self._plan else 0
        self._progress.start(total_steps=total, done=position.step)
        recorder = Recorder(self.folder, trackers=trackers, progress=self._progress)
        recorder.seconds, recorder.rows, recorder.tokens = position.seconds, position.rows, position.tokens
        return recorder

    def _save(self, position: Position) -> None:
        tensors = self._strategy.state(self._prepared)
        if self._strategy.is_main and self._plan is not None:
            position.total_seconds = time.perf_counter() - self._started
            state = {
                "position": dataclasses.asdict(position),
                "plan": dataclasses.asdict(self._plan),
                "config": _comparable(self._config),
                "inputs": self._inputs(),
                "saved": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
            best = position.best_step
            needs = [] if best is None or best == position.step else [best]
            self._checkpoints.save(position.step, tensors, state, needs=needs)
        self._strategy.barrier()

    def _restore(self, loaded: Loaded | None) -> Position:
        if loaded is None:
            return Position()
        for name, reason in loaded.passed_over:
            self._note(f"passed over the checkpoint {name}: {reason}")
        refuse_other_run(loaded, self._config, self._inputs())
        self._plan = Plan(**loaded.state["plan"])
        self._strategy.load_state(self._prepared, loaded.tensors())
        if self._strategy.is_main:
            log.info("resuming at step %d of %d", loaded.step, self._plan.total_steps)
        position = position_from(loaded.state)
        self._started -= position.total_seconds
        return position

    def _inputs(self) -> dict[str, str]:
        """Fingerprints of what a run reads besides its settings, by what each is called in a message."""
        dev = self._parts.dev_rows
        return {
            "training data": self._parts.train_rows.fingerprint(),
            "dev data": "" if dev is None else dev.fingerprint(),
            "tokenizer": self._parts.bundle.tokenizer.fingerprint(),
            "model weights": self._weights,
            "teacher": "" if self._parts.teaching is None else self._parts.teaching.digest,
        }

    def _note(self, text: str) -> None:
        self._notes.append(text)
        if self._strategy.is_main:
            log.info("%s", text)


def _comparable(config: RunConfig) -> dict[str, Any]:
    """The settings that decide which weights a run ends with, by path."""
    flat = flatten(to_dict(config))
    del flat["data.train"], flat["data.dev"]
    kept = {key: value for key, value in flat.items() if not _is_free(key)}
    kept["data.dev"] = config.data.dev if isinstance(config.data.dev, float) else config.data.dev is not None
    return kept


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE_ON_RESUME)


def refuse_other_run(loaded: Loaded, config: RunConfig, inputs: Mapping[str, str]) -> None:
    """CheckpointError where *loaded* was written with other settings, or with other *inputs* than these."""
    then, now = loaded.state["config"], _comparable(config)
    changed = sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    if changed:
        rows = "\n".join(f"  {key}: {then.get(key)} then, {now.get(key)} now" for key in changed[:10])
        raise CheckpointError(
            f"{loaded.path} was written with other settings:\n{rows}\n"
            "Resume with the settings it was started with, or start anew with another output=..."
        )
    for name, fingerprint in inputs.items():
        if loaded.state["inputs"].get(name) != fingerprint:
            raise CheckpointError(
                f"{loaded.path} was written with other {name} than there is now.\n"
                f"Restore the {name}, or start anew with another output=..."
            )
