from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from et_core.config import ComponentConfig
from et_core.errors import DataError
from et_core.inference import Run
from et_core.interfaces import App, Row, build_component
from et_core.registry import registry
from et_core.testing.parts import SENTENCES, use_stand_ins
from et_core.testing.runs import Bench, Lab, labelled_rows, read_rows, run_values, stand_in_for, train
from et_core.testing.suite import CheckFailed, Conformance

_MEMORISE = {"max_steps": 80}


class AppSuite(Conformance):
    """What the checks of an app work on: a few rows, and a model that learned them by heart."""

    kind: ClassVar[str] = "apps"

    model: str | Mapping[str, Any] = ""
    """What is trained, as under ``model:`` in a config; by default a stand-in that provides what the app needs."""

    rows: Sequence[Mapping[str, Any]] = ()
    """Four rows at least, keyed by role, which a small model can learn by heart.

    By default sentences for the roles "text" and "text_pair" and two labels in turn for "label".
    """

    bad_rows: Sequence[tuple[Mapping[str, Any], str]] = ()
    """Rows that cannot be learned from, each with the role that is wrong. By default one for each target.

    Rows without a value that is required are always tried.
    """

    train: Mapping[str, Any] = {}
    """Settings of ``train:`` under which *model* learns *rows* by heart, laid over 80 steps at a rate of 0.01."""

    short_length: int = 8
    """A ``data.max_length`` that cuts some of the rows."""

    def recalls(self, predictions: Sequence[Any], rows: Sequence[Row]) -> list[bool]:
        """Whether each of *predictions* says what its row's target does.

        As it stands, for apps of one target, which the field ``prediction`` gives back: numbers to a tenth of their
        range, all else exactly.
        """
        targets = [name for name, role in self.app_class().roles.items() if role.target and role.required]
        if len(targets) != 1:
            raise CheckFailed(
                f"the app has {len(targets)} targets. Say in recalls() what predictions are to give back."
            )
        wanted = [row[targets[0]] for row in rows]
        found = [prediction.prediction for prediction in predictions]
        if not all(isinstance(value, float) for value in found):
            return [a == b for a, b in zip(found, wanted, strict=True)]
        numbers = [float(value) for value in wanted]
        spread = max(numbers) - min(numbers)
        return [abs(a - b) <= 0.1 * spread for a, b in zip(found, numbers, strict=True)]

    @classmethod
    def app_class(cls) -> type[App]:
        use_stand_ins()
        found: type[App] = registry("apps").get(cls.name)
        return found

    @classmethod
    def build_app(cls) -> App:
        """The app as a run builds it; nothing is learned yet."""
        use_stand_ins()
        options = ComponentConfig(name=cls.name, options=dict(cls.config))
        app: App = build_component("apps", options, where="app")
        return app

    @classmethod
    def given_rows(cls) -> list[dict[str, Any]]:
        """The rows of the suite, or those made from the roles of the app."""
        if cls.rows:
            return [dict(row) for row in cls.rows]
        roles = cls.app_class().roles
        needed = {name for name, role in roles.items() if role.required}
        if unknown := needed - {"text", "text_pair", "label"}:
            raise CheckFailed(f"no rows can be made up for the role {min(unknown)!r}. Give the suite rows, by role.")
        pairs = [*SENTENCES[1:], SENTENCES[0]]
        made = [{**row, "text_pair": pair} for row, pair in zip(labelled_rows(), pairs, strict=True)]
        return [{name: value for name, value in row.items() if name in needed} for row in made]

    @classmethod
    def values(cls, rows: Any, **settings: Any) -> dict[str, Any]:
        """The config of a run on *rows*."""
        app = {"name": cls.name, **cls.config}
        model = cls.model or stand_in_for(cls.build_app())
        return run_values(app=app, model=model, rows=rows, train={**_MEMORISE, **cls.train, **settings})

    @classmethod
    def assembled(cls) -> Lab:
        """The app after ``fit``, with a model that learned nothing yet."""
        return cls.shared("assembled", cls._assemble)

    @classmethod
    def _assemble(cls) -> Lab:
        bundle = Bench.of(cls.values(cls.given_rows())).parts.bundle
        app = bundle.apps["main"]
        return Lab(app, bundle.model, bundle.tokenizer, bundle.encoding, list(read_rows(cls.given_rows(), app)))

    @classmethod
    def trained(cls) -> Run:
        """The run that learned the rows, which are its dev set too."""
        return cls.shared("trained", cls._train)

    @classmethod
    def _train(cls) -> Run:
        rows = cls.given_rows()
        values = cls.values(rows)
        values["data"]["dev"] = rows
        return train(values, cls.folder() / "run")

    @classmethod
    def learned(cls) -> Lab:
        """The app and the model of ``trained``, as they were loaded from its folder."""
        bundle = cls.trained().bundle
        app = bundle.apps["main"]
        return Lab(app, bundle.model, bundle.tokenizer, bundle.encoding, list(read_rows(cls.given_rows(), app)))

    @classmethod
    def target_roles(cls) -> list[str]:
        return [name for name, role in cls.app_class().roles.items() if role.target]


def place_flaw(error: DataError, file: Path, line: int, column: str) -> str:
    """What of the place of a bad row *error* does not say; the empty string where it says all of it."""
    text = str(error)
    missing = [word for word in (file.name, f"line {line}", repr(column)) if word not in text]
    return f"without {' and '.join(missing)}: {text.splitlines()[0]}" if missing else ""
