from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch.overrides import TorchFunctionMode

from et_core.errors import ConfigError, UnknownNameError
from et_core.interfaces import App, Evaluation, Example
from et_core.testing.app.base import AppSuite
from et_core.testing.runs import by_row, refuse_difference
from et_core.testing.suite import CheckFailed, check

_ROUNDING = 1e-4
"""How far predictions may be apart that are equal on paper: the rounding of an fp32 model, many times."""

_NO_METRIC = "no-such-metric"


class DecodingChecks(AppSuite):
    """From outputs to predictions and figures, and what an app remembers between the two."""

    @check()
    def predictions_are_of_the_declared_class(self) -> None:
        """Config, serving and report read the fields of ``App.prediction`` before anything is predicted.

        Make it a dataclass, and give instances of it.
        """
        lab = self.assembled()
        cls = lab.app.prediction
        if not dataclasses.is_dataclass(cls):
            raise CheckFailed(f"prediction is {cls.__name__}, which is no dataclass.")
        examples = lab.encode(lab.rows)
        for found in lab.app.decode(lab.run(examples), examples):
            if not isinstance(found, cls):
                raise CheckFailed(f"decode gives a {type(found).__name__}; prediction is {cls.__name__}.")

    @check()
    def predictions_are_plain_values(self) -> None:
        """Predictions are written to files and sent as JSON.

        Turn NumPy's values into Python's, such as with ``tolist()``, and let none be infinite or no number.
        """
        lab = self.assembled()
        examples = lab.encode(lab.rows)
        for found in lab.app.decode(lab.run(examples), examples):
            try:
                again = json.loads(json.dumps(fields_of(found), allow_nan=False))
            except (TypeError, ValueError) as error:
                raise CheckFailed(f"{found} cannot be written as JSON: {error}") from error
            refuse_difference(again, fields_of(found), what=f"{found} is read back otherwise from JSON")

    @check()
    def decode_needs_no_torch(self) -> None:
        """Models are exported to where there is no torch, and share ``decode``.

        Compute with NumPy.
        """
        lab = self.assembled()
        examples = lab.encode(lab.rows)
        outputs = lab.run(examples)
        with _NoTorch():
            lab.app.decode(outputs, examples)

    @check()
    def a_row_is_decoded_alike_in_any_company(self) -> None:
        """A row's prediction would change with the rows that happen to be predicted beside it.

        Let each row's prediction depend on its own examples alone, in their order.
        """
        lab = self.assembled()
        examples = lab.encode(lab.rows)
        outputs = lab.run(examples)
        together = lab.app.decode(outputs, examples)
        for place, found in zip(by_row(examples), together, strict=True):
            (alone,) = lab.app.decode({name: array[place] for name, array in outputs.items()}, examples[place])
            row = examples[place][0].row
            refuse_difference(alone, found, what=f"row {row} is decoded otherwise alone", tolerance=1e-6)

    @check()
    def a_row_is_predicted_alike_in_any_batch(self) -> None:
        """Batches are put together by length, so a row would have another answer in another file.

        Let ``outputs`` and the head look at real positions alone, and at each row by itself.
        """
        lab = self.assembled()
        examples = lab.encode(lab.bare_rows())
        together = lab.app.decode(lab.run(examples), examples)
        for place, found in zip(by_row(examples), together, strict=True):
            own = examples[place]
            (alone,) = lab.app.decode(lab.run(own), own)
            what = f"row {own[0].row}, of {own[0].length} tokens, is predicted otherwise without padding"
            refuse_difference(alone, found, what=what, tolerance=_ROUNDING)

    @check()
    def state_is_plain_json(self) -> None:
        """A model folder keeps the state as JSON, which has no tuples, sets, arrays or keys that are no text.

        Give lists, dicts with text for keys, text, numbers, true, false and null.
        """
        state = self.assembled().app.state()
        try:
            again = json.loads(json.dumps(state, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise CheckFailed(f"state() cannot be written as JSON: {error}. It is {state!r}.") from error
        refuse_difference(again, state, what="state() is read back otherwise from JSON")

    @check()
    def state_is_all_it_remembers(self) -> None:
        """A loaded model knows what ``state`` gave and nothing else.

        Put into it what ``fit`` learned, and restore all of it in ``load_state``.
        """
        lab = self.assembled()
        fresh = self.restored(lab.app)
        examples = lab.encode(lab.rows)
        outputs = lab.run(examples)
        for what, ask in (
            ("state()", lambda app: app.state()),
            ("head()", lambda app: app.head()),
            ("loss()", lambda app: app.loss()),
            ("describe()", lambda app: app.describe()),
            ("encode()", lambda app: lab.encode(lab.rows, app=app)),
            ("decode()", lambda app: app.decode(outputs, examples)),
        ):
            refuse_difference(ask(fresh), ask(lab.app), what=f"after load_state() {what} gives something else")

    def restored(self, app: App) -> App:
        """A new app with the state of *app*, as it is read from a file."""
        fresh = self.build_app()
        fresh.tokenizer = app.tokenizer
        fresh.load_state(json.loads(json.dumps(app.state())))
        return fresh

    @check()
    def figures_have_names_before_any_row(self) -> None:
        """A run picks the figure that decides which weights are kept before it has seen one.

        Give the same names, in the same order and the main one first, from the beginning, with nan as figures.
        """
        lab = self.assembled()
        evaluation = lab.app.evaluation()
        before = evaluation.metrics()
        after = self._evaluated(lab.encode(lab.rows)).metrics()
        if list(before) != list(after):
            raise CheckFailed(f"the figures are {_names(before)} at first, and {_names(after)} after some rows.")
        if known := [name for name, value in before.items() if not math.isnan(value)]:
            raise CheckFailed(f"{known[0]} is {before[known[0]]} before there is any row.")

    @check()
    def figures_do_not_depend_on_the_cut(self) -> None:
        """A dev set is looked at in windows, other ones with several processes, and the figures have to be those of
        all rows.

        Keep sums and counts, or what a rank correlation needs, and not the mean of means.
        """
        examples = self.assembled().encode(self.assembled().rows)
        places = by_row(examples)
        whole = self._evaluated(examples).metrics()
        for count in (1, 3):
            middle = places[count].start
            parts = self._evaluated(examples, cuts=[middle]).metrics()
            what = f"rows that are evaluated as {count} and {len(places) - count}"
            refuse_difference(parts, whole, what=what, tolerance=1e-9)

    @check()
    def figures_say_which_way_is_better(self) -> None:
        """``train.keep_best`` would keep the worst weights.

        Answer True or False for the name of each figure.
        """
        lab = self.assembled()
        evaluation = self._evaluated(lab.encode(lab.rows))
        for name in evaluation.metrics():
            answer = evaluation.higher_is_better(name)
            if not isinstance(answer, bool):
                raise CheckFailed(f"higher_is_better({name!r}) is {answer!r}.")
        if evaluation.higher_is_better("loss"):
            raise CheckFailed("higher_is_better('loss') is True.")

    @check()
    def metrics_that_do_not_exist_are_refused(self) -> None:
        """A misspelt metric would be found missing after hours of training.

        Look up the names that ``evaluation`` is given, and raise ConfigError for one that is not known.
        """
        try:
            self.assembled().app.evaluation([_NO_METRIC])
        except (ConfigError, UnknownNameError) as error:
            if _NO_METRIC not in str(error):
                raise CheckFailed(f"the error for metrics: [{_NO_METRIC}] does not name it: {error}") from error
        else:
            raise CheckFailed(f"metrics: [{_NO_METRIC}] is taken without a word.")

    def _evaluated(self, examples: Sequence[Example], *, cuts: Sequence[int] = ()) -> Evaluation:
        """The figures of *examples*, added in parts that are cut at *cuts*; the model runs over all of them at once."""
        lab = self.assembled()
        outputs, evaluation = lab.run(examples), lab.app.evaluation()
        for start, end in pairwise([0, *cuts, len(examples)]):
            part = {name: array[start:end] for name, array in outputs.items()}
            evaluation.update(part, examples[start:end])
        return evaluation


def fields_of(prediction: Any) -> dict[str, Any]:
    """The fields of a prediction as they are written."""
    return {field.name: getattr(prediction, field.name) for field in dataclasses.fields(prediction)}


class _NoTorch(TorchFunctionMode):
    """Fails where torch is asked to compute."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise CheckFailed(f"decode() calls {getattr(func, '__name__', func)} of torch.")


def _names(values: Mapping[str, float]) -> str:
    return ", ".join(values) or "nothing"
