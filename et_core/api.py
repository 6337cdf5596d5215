"""What can be done with a config or a run: the one place that composes training, inference and reports."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from et_core.config import RunConfig, SearchConfig, load_config, to_dict
from et_core.errors import CheckpointError, ConfigError, RunFolderError
from et_core.inference import Run
from et_core.interfaces import App, Artifact, Figure, Model
from et_core.registry import ModelRef
from et_core.report import ReportData, write_card, write_report
from et_core.runfolder import Checkpoints, RunFolder, write_json, write_text
from et_core.sources import leads_to
from et_core.sources import resolve as resolve_ref
from et_core.training import (
    Outcome,
    Trial,
    best_of,
    build_strategy,
    check_config,
    differences,
    refuse_other_run,
    search_config,
    take_tokenizer,
    train_worker,
    trial_config,
    trials_in,
    trials_table,
)

log = logging.getLogger("et")


def train(
    config: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    *,
    resume: bool = False,
    progress: bool | None = None,
) -> Run:
    """Train, and return the finished run.

    *config* is a YAML file or nested values; *overrides* ``{"train.epochs": 1}`` or ``["train.epochs=1"]``. With
    *resume* a run that was stopped goes on from its newest checkpoint, without *config* by the settings in its folder;
    one that is finished is only loaded, if it was trained with the same settings. *progress* shows a bar or lines on
    standard error; None shows it on a terminal.
    """
    run_config, path = _prepared(config, overrides, resume=resume)
    if run_config.distill.teachers:
        raise ConfigError("distill.teacher is set, which et train does not read. Run it with et distill.")
    if run_config.search != SearchConfig():
        raise ConfigError("search is set, which et train does not read. Run it with et distill, or leave it out.")
    return _train(run_config, path, resume=resume, progress=progress)


def distill(
    config: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    *,
    resume: bool = False,
    search_only: bool = False,
    progress: bool | None = None,
) -> Run:
    """Train a student on what ``distill.teacher`` knows, and return the finished run.

    Where the model leaves its architecture open (``adabert@init``), it is searched for first, by a run of its own in
    the folder ``search``; with *search_only* nothing more is done and that run is returned. All else is as in
    ``train``.
    """
    run_config, path = _prepared(config, overrides, resume=resume)
    if not run_config.distill.teachers:
        raise ConfigError(
            "distill.teacher is not set. Write distill.teacher=./runs/NAME@local, a finished run of the same task."
        )
    check_config(run_config)
    take_tokenizer(run_config)
    search = search_config(run_config)
    if search is None:
        if search_only:
            raise ConfigError(
                "there is nothing to search: model says all of the student's architecture. "
                "Leave out --search-only (search_only)."
            )
        return _train(run_config, path, resume=resume, progress=progress)
    searched = _search(run_config, search, path, resume=resume, progress=progress)
    if search_only:
        return searched
    found = _best_alone(run_config, searched, path, progress=progress)
    # From here on nothing is open: how it was found stands in the search's own config.
    run_config.model.options, run_config.search = found, SearchConfig()
    return _train(run_config, path, resume=True, progress=progress)


def _search(run_config: RunConfig, search: RunConfig, path: Path, *, resume: bool, progress: bool | None) -> Run:
    """The finished run of the config *search*, in the folder that is *path*'s for it."""
    folder, is_main = RunFolder(path), build_strategy(run_config).is_main
    if is_main:
        RunFolder.create(path, resume=resume)
        if not folder.config_file.exists():
            folder.write_config(run_config)
    try:
        return _train(search, folder.search, resume=folder.search.exists(), progress=progress)
    except BaseException:
        if is_main:
            folder.discard_unstarted()
        raise


def _best_alone(run_config: RunConfig, searched: Run, path: Path, *, progress: bool | None) -> dict[str, Any]:
    """The options of the network of a search that does best on dev when it is trained alone for a while."""
    finalists = searched.results.get("finalists", [])[: run_config.search.trials]
    if len(finalists) < 2:
        return dict(searched.bundle.model.backbone.options)
    trials: list[Trial] = []
    for number, (options, differing) in enumerate(zip(finalists, differences(finalists), strict=True), start=1):
        log.info("trial %d of %d: %s", number, len(finalists), ", ".join(f"{k} {v}" for k, v in differing.items()))
        folder = RunFolder(RunFolder(path).trials / str(number))
        run = _train(trial_config(run_config, options), folder.path, resume=folder.path.exists(), progress=progress)
        if build_strategy(run_config).is_main:
            shutil.rmtree(folder.checkpoints, ignore_errors=True)
        trials.append(Trial(options, run.results["metrics"]["dev"]))
    best = best_of(trials)
    log.info("the network of trial %d is the best on dev, and is trained from the beginning", best + 1)
    return dict(trials[best].options)


def _prepared(
    config: str | Path | Mapping[str, Any] | None, overrides: Mapping[str, Any] | Sequence[str] | None, *, resume: bool
) -> tuple[RunConfig, Path]:
    """The settings of a run and its folder."""
    run_config = load_config(config, overrides).config
    path = Path(run_config.output or _default_output(config, run_config))
    if resume:
        run_config = _as_begun(RunFolder(path), config, overrides, run_config)
    run_config.output = str(path)
    _make_plugin_files_absolute(run_config)
    return run_config, path


def _train(run_config: RunConfig, path: Path, *, resume: bool, progress: bool | None) -> Run:
    check_config(run_config)
    folder = RunFolder(path)
    strategy = build_strategy(run_config)
    if resume and folder.results_file.exists():
        return _finished(folder, run_config)
    if strategy.is_main:
        folder = RunFolder.create(path, resume=resume)
        if not folder.has_checkpoint():  # else the settings are checked against its own first
            folder.write_config(run_config)
    show = sys.stderr.isatty() if progress is None else progress
    try:
        strategy.launch(train_worker, run_config, path, resume, show, write_reports)
    except BaseException:
        if strategy.is_main:
            folder.discard_unstarted()
        raise
    return Run.load(path)


def _as_begun(
    folder: RunFolder,
    config: str | Path | Mapping[str, Any] | None,
    overrides: Mapping[str, Any] | Sequence[str] | None,
    run_config: RunConfig,
) -> RunConfig:
    """*run_config* with the models that the run in *folder* began with; without *config*, that run's own settings."""
    if not folder.config_file.is_file():
        if config is None and not run_config.app.name:
            raise RunFolderError(f"there is no run in {folder.path} to go on with. Name its folder: output=...")
        return run_config
    then = load_config(folder.config_file).config.model
    if config is None:
        run_config = load_config(folder.config_file, overrides).config
    asked = run_config.model
    if leads_to(asked.ref, then.ref):
        asked.ref, asked.family = then.ref, asked.family or then.family
    if leads_to(asked.tokenizer.ref or "", then.tokenizer.ref or ""):
        asked.tokenizer.ref = then.tokenizer.ref
    return run_config


def _finished(folder: RunFolder, config: RunConfig) -> Run:
    run = Run.load(folder.path)
    loaded = None
    with contextlib.suppress(CheckpointError):
        loaded = Checkpoints(folder.checkpoints).newest()
    if loaded:
        refuse_other_run(loaded, config, {})
    log.info("%s is finished already: there is nothing left to train", folder.path)
    return run


def load(path: str | Path, *, precision: str = "auto") -> Run:
    """Open a finished run; *precision* is "auto", "fp32" or "bf16"."""
    return Run.load(path, precision=precision)


def resolve(ref: str | ModelRef) -> Artifact:
    """Find the files behind a model reference, fetching them if need be."""
    return resolve_ref(ref)


def write_reports(outcome: Outcome) -> None:
    """Write what a finished run leaves for people, and last of all results.json, which marks it as finished."""
    config, position = outcome.config, outcome.position
    outcome.folder.write_config(config)
    if outcome.skipped_total:
        lines = (json.dumps({"where": row.where, "reason": row.reason, "raw": row.raw}) for row in outcome.skipped)
        write_text(outcome.folder.skipped_file, "".join(f"{line}\n" for line in lines))
    data = _report_data(outcome)
    write_report(data, outcome.folder.report)
    write_card(data, outcome.folder.card)
    results = {
        "metrics": _metrics(outcome),
        "epochs": round(position.step / outcome.plan.steps_per_epoch, 4),
        "steps": position.step,
        "best_step": position.best_step,
        "precision": outcome.plan.precision,
        "device": outcome.device,
        "parameters": outcome.parameters,
        "train_rows": len(outcome.parts.train.starts),
        "dev_rows": len(outcome.parts.dev.starts) if outcome.parts.dev is not None else 0,
        "skipped_rows": outcome.skipped_total,
        "training_seconds": round(position.seconds, 3),
        "total_seconds": round(outcome.seconds, 3),
        "rows_per_second": round(position.rows / max(position.seconds, 1e-9), 2),
        "tokens_per_second": round(position.tokens / max(position.seconds, 1e-9), 1),
        "notes": outcome.notes,
        "versions": _versions(),
    }
    if outcome.finalists:
        results["finalists"] = outcome.finalists
    write_json(outcome.folder.results_file, results)


def _report_data(outcome: Outcome) -> ReportData:
    config, parts, position = outcome.config, outcome.parts, outcome.position
    facts = {
        "training rows": f"{len(parts.train.starts):,}",
        "dev rows": f"{len(parts.dev.starts):,}" if parts.dev is not None else "none",
        "parameters": f"{outcome.parameters / 1e6:.1f} M",
        "steps": f"{position.step:,} ({position.step / outcome.plan.steps_per_epoch:.2g} epochs)",
        "training time": _duration(position.seconds),
        "speed": f"{position.rows / max(position.seconds, 1e-9):,.0f} rows/s",
        "precision": outcome.plan.precision,
        "device": outcome.device,
        "versions": ", ".join(f"{name} {version}" for name, version in _versions().items()),
    }
    if parts.teaching is not None:
        facts["teacher"] = ", ".join(map(str, parts.teaching.teachers))
        if parts.teaching.more_rows is not None:
            facts["training rows"] += f", {len(parts.teaching.more_rows.rows):,} of them new"
    notes = list(outcome.notes)
    if outcome.skipped_total:
        notes.append(f"rows left out: {outcome.skipped_total}, listed in {outcome.folder.skipped_file.name}")
    return ReportData(
        title=outcome.folder.path.name,
        app=config.app.name.rpartition("/")[2],
        model=str(parts.artifact.ref),
        task_line=parts.app.describe(),
        command=f"et {'distill' if parts.teaching else 'train'} {outcome.folder.config_file} output=NEW_FOLDER",
        facts=facts,
        config=to_dict(config),
        metrics=_metrics(outcome),
        history=outcome.folder.read_metrics(),
        figures=_figures(outcome),
        notes=notes,
        model_license=parts.artifact.license,
        usage=_usage(outcome.folder.path, parts.bundle.model, parts.app),
        best_step=position.best_step,
        pipeline_tag=parts.app.pipeline_tag,
    )


def _figures(outcome: Outcome) -> list[Figure]:
    """What is drawn of the network and how it came about, then what it does on dev."""
    trials, dev_rows = trials_in(outcome.folder), outcome.parts.dev_rows
    tried = [trials_table(trials)] if trials else []
    shown = outcome.evaluation.figures(dev_rows.take) if outcome.evaluation and dev_rows is not None else []
    return [*outcome.figures, *tried, *shown]


def _metrics(outcome: Outcome) -> dict[str, dict[str, float]]:
    """The metrics on dev: of the model, and for comparison of its teachers."""
    if not outcome.metrics:
        return {}
    alone = len(outcome.teachers) == 1
    teachers = {"teacher" if alone else f"teacher {name}": metrics for name, metrics in outcome.teachers.items()}
    return {"dev": outcome.metrics, **teachers}


def _usage(path: Path, model: Model, app: App) -> dict[str, str]:
    needed = sum(role.required and not role.target for role in app.roles.values())
    texts = ", ".join(['"..."'] * needed)
    row = f"({texts})" if needed > 1 else '"..."'
    usage = {
        "command line": f"et predict {path} --input new.tsv --output predictions.jsonl",
        "Python": f'import et_core as et\n\nrun = et.load("{path}")\nrun.predict([{row}])',
    }
    architectures = model.backbone.config(model.heads_by_task).get("architectures")
    if architectures:
        name = architectures[0]
        usage["transformers"] = (
            f"from transformers import AutoTokenizer, {name}\n\n"
            f'model = {name}.from_pretrained("{path}/model")\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{path}/model")'
        )
    return usage


def _versions() -> dict[str, str]:
    names = ("et-core", "torch", "transformers", "tokenizers")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _default_output(config: str | Path | Mapping[str, Any] | None, run_config: RunConfig) -> str:
    if isinstance(config, (str, Path)):
        return f"runs/{Path(config).stem}"
    source = run_config.data.train
    name = Path(source).name.partition(".")[0] if isinstance(source, (str, Path)) else ""
    return f"runs/{name or run_config.app.name or 'run'}"


def _make_plugin_files_absolute(config: RunConfig) -> None:
    """Plugin files are needed again wherever the run is used; other paths stay as they were written."""
    config.plugins.files = [str(Path(file).resolve()) for file in config.plugins.files]
