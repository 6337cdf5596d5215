from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping, Sized
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from et_core._json import finite
from et_core.config import RunConfig, to_dict
from et_core.config.schema import is_rows
from et_core.errors import RunFolderError
from et_core.runfolder.atomic import current, explain_full_disk, make_folder, write_text
from et_core.runfolder.checkpoints import Checkpoints


class RunFolder:
    """The names of everything in a run's folder, and the log of figures."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.model = path / "model"
        self.checkpoints = path / "checkpoints"
        self.metrics_file = path / "metrics.jsonl"
        self.report = path / "report.html"
        self.card = path / "README.md"
        self.skipped_file = path / "skipped.jsonl"
        self.evaluation_skipped_file = path / "evaluate.skipped.jsonl"
        self.results_file = path / "results.json"
        """Written last: a run that has it is finished."""
        self.tensorboard = path / "tensorboard"
        self.search = path / "search"
        """The run that searched for the model's architecture, where there was a search."""
        self.trials = path / "trials"
        """Short runs of what it found, by number."""

        self._metrics: FileIO | None = None

    @classmethod
    def create(cls, path: Path, *, resume: bool) -> RunFolder:
        """Make the folder of a new run at *path*, or return that of the run to resume, if there is one.

        RunFolderError where *path* holds a run that is not to be resumed or holds anything else, and where it cannot be
        written.
        """
        run = cls(path)
        try:
            run._refuse_occupied(resume=resume)
            make_folder(path)
        except OSError as error:
            raise RunFolderError(
                f"cannot create {path}: {error.strerror} ({error.filename}). Write elsewhere with output=..."
            ) from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise RunFolderError(f"{path} is not writable. Write elsewhere with output=...")
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run at *path*, which must hold a model; RunFolderError says what is missing."""
        run = cls(path)
        if not path.exists():
            raise RunFolderError(f"{path} does not exist. {_runs_in(path.parent)}")
        if not path.is_dir():
            raise RunFolderError(f"{path} is a file, not the folder of a run.")
        if not run._holds_run():
            if cls(path.parent)._holds_run():
                raise RunFolderError(f"{path} is a part of a run. Name the run itself: {path.parent}")
            raise RunFolderError(f"{path} holds no run: neither config.yaml nor model/. {_runs_in(path)}")
        if not current(run.model).is_dir():
            raise RunFolderError(run._no_model())
        if not run.config_file.is_file():
            raise RunFolderError(f"{path} holds no config.yaml, so it is not known how its model was trained.")
        return run

    def write_config(self, config: RunConfig) -> None:
        """Write config.yaml as OmegaConf does, which reads it: YAML's own rules would leave a label "1e5" unquoted."""
        values = to_dict(config)
        for name in ("train", "dev"):
            rows = getattr(config.data, name)
            if is_rows(rows) and isinstance(rows, Sized):
                values["data"][name] = f"(in memory, {len(rows)} rows)"
        write_text(self.config_file, OmegaConf.to_yaml(OmegaConf.create(values)))

    def has_checkpoint(self) -> bool:
        """Whether a checkpoint was ever finished; whether it verifies is not looked at."""
        return bool(Checkpoints(self.checkpoints).steps())

    def discard_unstarted(self) -> None:
        """Remove the folder of a run that ended before it wrote anything but its config, so that the next may begin."""
        if self.path.is_dir() and {entry.name for entry in self.path.iterdir()} == {self.config_file.name}:
            self.config_file.unlink()
            self.path.rmdir()

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one line of JSON to the log, with null for NaN and infinities.

        It is with the system when this returns, though not yet on the disk.
        """
        if self._metrics is None:
            self._metrics = self.metrics_file.open("ab", buffering=0)
            weakref.finalize(self, self._metrics.close)
        rest = json.dumps(finite(line), allow_nan=False).encode() + b"\n"
        with explain_full_disk(self.metrics_file):
            while rest:
                rest = rest[self._metrics.write(rest) :]

    def truncate_metrics(self, step: int) -> None:
        """Drop the lines after *step*, and a last line that was only half written, before a run resumes there."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        kept = [text for text, line in self._metric_lines() if line.get("step", step) <= step]
        if self.metrics_file.exists():
            write_text(self.metrics_file, "".join(f"{text}\n" for text in kept))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Every line of the log; a last line that was only half written is left out."""
        return [line for _, line in self._metric_lines()]

    def _metric_lines(self) -> list[tuple[str, dict[str, Any]]]:
        if not self.metrics_file.exists():
            return []
        *lines, last = self.metrics_file.read_text("utf-8", errors="replace").split("\n")
        parsed = [(text, self._parse(text, number)) for number, text in enumerate(lines, start=1)]
        # A part of an object is never valid JSON, so what reads well lacks nothing but its line end.
        with suppress(ValueError):
            parsed.append((last, json.loads(last)))
        return parsed

    def _parse(self, text: str, number: int) -> dict[str, Any]:
        try:
            line = json.loads(text)
        except ValueError as error:
            raise RunFolderError(f"{self.metrics_file} line {number} is not JSON: {text[:80]!r}. Remove it.") from error
        if not isinstance(line, dict):
            raise RunFolderError(f"{self.metrics_file} line {number} is not an object: {text[:80]!r}. Remove it.")
        return line

    def _refuse_occupied(self, *, resume: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file; a run needs a folder. Write elsewhere with output=...")
        if self._holds_run():
            if not resume:
                raise RunFolderError(
                    f"{self.path} already holds a run ({self._progress()}).\n"
                    "Continue it with --resume, or write elsewhere with output=..."
                )
        elif other := self._other_files():
            raise RunFolderError(
                f"{self.path} holds other files ({other}), and a run needs a folder of its own.\n"
                "Write elsewhere with output=..."
            )

    def _holds_run(self) -> bool:
        return any(path.exists() for path in (self.config_file, self.checkpoints, self.search, current(self.model)))

    def _other_files(self) -> str:
        """Some names in a folder without a run; what a run leaves that was killed at its first file does not count."""
        if not self.path.is_dir():
            return ""
        names = sorted(entry.name for entry in self.path.iterdir() if entry.name != f"{self.config_file.name}.tmp")
        return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

    def _progress(self) -> str:
        if self.results_file.exists():
            epochs = self._epochs()
            return "finished" if epochs is None else f"finished, {epochs:g} epoch{'' if epochs == 1 else 's'}"
        steps = Checkpoints(self.checkpoints).steps()
        return f"stopped at step {steps[-1]}" if steps else "stopped before its first checkpoint"

    def _no_model(self) -> str:
        if self.results_file.exists():
            return f"{self.path} holds no model/, although its run finished: the model was removed since."
        steps = Checkpoints(self.checkpoints).steps()
        when = f"at step {steps[-1]} before it was finished" if steps else "before its first checkpoint"
        return (
            f"{self.path} holds no model/: the run stopped {when}.\n"
            "Continue it with the same et train command and --resume."
        )

    def _epochs(self) -> float | None:
        try:
            results = json.loads(self.results_file.read_bytes())
        except ValueError:
            return None
        epochs = results.get("epochs") if isinstance(results, dict) else None
        return epochs if isinstance(epochs, int | float) else None


def _runs_in(folder: Path) -> str:
    if not folder.is_dir():
        return ""
    names = sorted(child.parent.name for child in folder.glob("*/config.yaml"))
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"Runs in {folder}: {', '.join(names[:10]) or 'none'}{more}."
