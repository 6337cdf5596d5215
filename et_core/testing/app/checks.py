from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from et_core.data import encode_rows
from et_core.errors import DataError
from et_core.testing.app.base import place_flaw
from et_core.testing.app.decoding import DecodingChecks, fields_of
from et_core.testing.app.encoding import EncodingChecks
from et_core.testing.parts import child_environment, signature_flaw
from et_core.testing.runs import losses_of, read_rows, refuse_difference, train
from et_core.testing.suite import CheckFailed, check

_WRONG = {"no": "value"}
"""What no target is."""

_PREDICT = """
import dataclasses, json, pickle, sys
from pathlib import Path
import torch
from et_core import api
torch.set_num_threads(1)
run = api.load(sys.argv[1])
found = run.predict(pickle.loads(Path(sys.argv[2]).read_bytes()))
fields = [{field.name: getattr(p, field.name) for field in dataclasses.fields(p)} for p in found]
Path(sys.argv[3]).write_text(json.dumps(fields), "utf-8")
"""


def _are_not_for_files(suite: AppConformance) -> str | None:
    try:
        json.dumps(suite.given_rows())
    except TypeError as error:
        return f"its rows hold values that no file can: {error}"
    return None


class AppConformance(EncodingChecks, DecodingChecks):
    """What every app promises: it learns, it answers row by row, it is the same after it was saved, and it says which
    row is bad."""

    minimum: ClassVar[int] = 25

    @check()
    def options_have_types_and_defaults(self) -> None:
        """Options are checked against the signature of the class; one without a type takes anything.

        Write them as keyword arguments with types and defaults.
        """
        if flaw := signature_flaw("apps", self.name):
            raise CheckFailed(f"{self.app_class().__name__} {flaw}.")

    @check()
    def it_learns_a_few_rows_by_heart(self) -> None:
        """What cannot learn a handful of rows learns nothing: a target or an input is lost on the way.

        Look at what ``encode`` gives. A model that needs more steps or another rate says so in ``train``.
        """
        losses = losses_of(self.trained().path)
        first, last = losses[0], sorted(losses[-5:])[2]  # not the last alone: dropout makes it jump
        if not last < first / 10:
            raise CheckFailed(
                f"the loss goes from {first:.3g} to {last:.3g} in {len(losses)} steps, and is to fall below a tenth."
            )

    @check()
    def predictions_give_the_targets_back(self) -> None:
        """A model that learned its rows and predicts something else for them would do so for all rows.

        Look at ``decode``: the order of labels, the order of rows. What a target is told by say in ``recalls``.
        """
        lab = self.learned()
        found = self.trained().predict([dict(row) for row in lab.bare_rows()])
        told = self.recalls(found, lab.rows)
        if wrong := [place for place, right in enumerate(told) if not right]:
            targets = {name: lab.rows[wrong[0]][name] for name in self.target_roles()}
            raise CheckFailed(
                f"of {len(found)} rows that were learned {len(wrong)} are predicted wrong, "
                f"such as {targets} as {found[wrong[0]]}."
            )

    @check()
    def figures_survive_saving(self) -> None:
        """The figures of a report have to be those of the model beside it.

        Put what ``calibrate`` tuned into ``state``, and let ``evaluation`` start from it.
        """
        run = self.trained()
        found = run.evaluate(self.given_rows())
        refuse_difference(found, run.metrics, what="the saved model has other figures than the run", tolerance=1e-4)

    @check()
    def a_new_process_predicts_the_same(self) -> None:
        """A model is trained in one process and used in another.

        What ``decode`` and ``encode`` need has to be in ``state``, and not in a module or a class.
        """
        run, folder = self.trained(), self.folder()
        rows = [dict(row) for row in self.learned().bare_rows()]
        (folder / "rows.pickle").write_bytes(pickle.dumps(rows))
        told = folder / "told.json"
        command = [sys.executable, "-c", _PREDICT, str(run.path), str(folder / "rows.pickle"), str(told)]
        done = subprocess.run(
            command, env=child_environment(), capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise CheckFailed(f"the run cannot be used in a new process: {done.stderr.strip().splitlines()[-1]}")
        expected = [fields_of(prediction) for prediction in run.predict(rows)]
        refuse_difference(
            json.loads(told.read_text("utf-8")), expected, what="a new process predicts otherwise", tolerance=1e-6
        )

    @check(unless=_are_not_for_files)
    def a_bad_row_is_named(self) -> None:
        """Of a file of a million rows its owner has to find the one.

        Raise ``Row.error`` with the role that is wrong, in ``check`` or in ``encode``.
        """
        for bad, role in self._all_bad_rows():
            path, line = self._file_with(bad)
            try:
                self._learn(path)
            except DataError as error:
                if flaw := place_flaw(error, path, line, role):
                    raise CheckFailed(f"the error for {bad} does not say where it stands: {flaw}") from error
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
                raise CheckFailed(f"{bad} fails without a word about the row: {found}") from error
            else:
                raise CheckFailed(f"{bad} is learned without a word; {role!r} is wrong.")

    @check(unless=_are_not_for_files)
    def what_need_not_be_there_may_be_missing(self) -> None:
        """A column that is not required is empty in some rows, and a text can be.

        Use such a row, or raise ``Row.error``.
        """
        row = self.given_rows()[0]
        roles = self.app_class().roles
        missing = [{**row, name: None} for name, role in roles.items() if not role.required]
        empty = [{**row, name: ""} for name, role in roles.items() if role.type is str and name in row]
        for odd in missing + empty:
            path, line = self._file_with(odd)
            try:
                self._learn(path)
            except DataError as error:
                role = next(name for name in roles if not odd.get(name))
                if flaw := place_flaw(error, path, line, role):
                    raise CheckFailed(f"the error for {odd} does not say where it stands: {flaw}") from error
            except Exception as error:
                raise CheckFailed(f"{odd} fails: {type(error).__name__}: {error}") from error

    @check(unless=_are_not_for_files)
    def skipping_bad_rows_keeps_the_good_ones(self) -> None:
        """With ``data.on_bad_row=skip`` bad rows are left out, and nothing else.

        Let ``check`` and ``encode`` judge each row by itself.
        """
        bad = [row for row, _ in self._all_bad_rows()]
        rows = self.given_rows()
        path = self.folder() / "rows.jsonl"
        _write(path, [rows[0], *bad, *rows[1:]])
        values = self.values(str(path), max_steps=1)
        values["data"]["on_bad_row"] = "skip"
        try:
            results = train(values, self.folder() / "run").results
        except DataError as error:
            raise CheckFailed(f"with {len(bad)} bad rows left out of {len(rows) + len(bad)}: {error}") from error
        kept, skipped = results["train_rows"], results["skipped_rows"]
        if (kept, skipped) != (len(rows), len(bad)):
            raise CheckFailed(
                f"of {len(rows)} good and {len(bad)} bad rows {kept} are trained on and {skipped} are left out."
            )

    def _all_bad_rows(self) -> list[tuple[dict[str, Any], str]]:
        row, roles = self.given_rows()[0], self.app_class().roles
        made = [({**row, name: None}, name) for name, role in roles.items() if role.required]
        if self.bad_rows:
            return [*made, *((dict(bad), role) for bad, role in self.bad_rows)]
        return [*made, *(({**row, name: _WRONG}, name) for name in self.target_roles())]

    def _file_with(self, bad: dict[str, Any]) -> tuple[Path, int]:
        """A file with *bad* among good rows, and the line that it stands in."""
        rows, path = self.given_rows(), self.folder() / "rows.jsonl"
        _write(path, [*rows[:2], bad, *rows[2:]])
        return path, 3

    def _learn(self, path: Path) -> None:
        """Read, fit and encode the rows of *path* as a run does before it trains."""
        lab = self.assembled()
        app = self.build_app()
        app.tokenizer = lab.tokenizer
        rows = read_rows(str(path), app)
        app.fit(rows)
        for _ in encode_rows(rows, lambda chunk: lab.encode(chunk, app=app), skip_bad=False):
            pass


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
