"""Apps that are each broken in one way, and the check that has to say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from et_core.errors import DataError
from et_core.hooks import Register, hookimpl
from et_core.interfaces import Batch, Evaluation, Example, Model, Role, Row, Tokenizer
from et_core.testing import AppConformance, Conformance
from et_core.testing.stand_ins import Hits, Labelled, Labels

ET_API = 1


@hookimpl
def et_register_apps(register: Register) -> None:
    for cls in (Sound, *(cls for cls, _ in BROKEN.values())):
        register(name_of(cls), f"mutants_app:{cls.__name__}", summary=f"An app that is named {cls.__name__}")


def name_of(cls: type) -> str:
    return "-".join(word.lower() for word in "".join(f" {c}" if c.isupper() else c for c in cls.__name__).split())


class Sound(Labels):
    """Nothing is wrong with it."""


class Untyped(Labels):
    def __init__(self, *, size=3) -> None:  # type: ignore[no-untyped-def]
        self.size = size


class ReadsOneToken(Labels):
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, **given: Any) -> list[Example]:
        examples = super().encode(rows, tokenizer, **given)
        return [Example({"texts.0.ids": e.inputs["texts.0.ids"][:1]}, e.targets, e.row) for e in examples]


class PicksTheLeast(Labels):
    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Any]:
        return [Labelled(self.names[index]) for index in outputs["logits"].argmin(-1)]


class RemembersInTheClass(Labels):
    learned: ClassVar[tuple[str, ...]] = ("fine", "dull")

    def fit(self, rows: Iterable[Row]) -> None:
        super().fit(rows)
        type(self).learned = self.names

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.names = self.learned


class NamesNoRow(Labels):
    def check(self, row: Row) -> None:
        if not isinstance(row["label"], str):
            raise DataError("there is a row without a label")


class TakesTheOptional(Labels):
    roles: ClassVar[Mapping[str, Role]] = {**Labels.roles, "title": Role(str, "the title", required=False)}

    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, **given: Any) -> list[Example]:
        both = [Row({**row, "text": f"{row['title']} {row['text']}"}, index=row.index) for row in rows]
        return super().encode(both, tokenizer, **given)


class BearsAGrudge(Labels):
    offended = False

    def check(self, row: Row) -> None:
        before, self.offended = self.offended, not isinstance(row["label"], str)
        if before or self.offended:
            raise row.error("label", "is bad, or comes after a bad one")


class CountsRowsItself(Labels):
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, **given: Any) -> list[Example]:
        examples = super().encode(rows, tokenizer, **given)
        return [Example(e.inputs, e.targets, place) for place, e in enumerate(examples)]


class PadsItself(Labels):
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, **given: Any) -> list[Example]:
        examples = super().encode(rows, tokenizer, **given)
        width = max(example.length for example in examples)
        padded = [np.resize(e.inputs["texts.0.ids"], width) for e in examples]
        return [Example({"texts.0.ids": i}, e.targets, e.row) for i, e in zip(padded, examples, strict=True)]


class KnowsNoEnd(Labels):
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, **given: Any) -> list[Example]:
        return super().encode(rows, tokenizer, **{**given, "max_length": 128})


class KeepsTextsApart(Labels):
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, **given: Any) -> list[Example]:
        examples = super().encode(rows, tokenizer, **given)
        return [Example({**e.inputs, "texts.1.ids": e.inputs["texts.0.ids"]}, e.targets, e.row) for e in examples]


class WantsTargets(Labels):
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, **given: Any) -> list[Example]:
        seen = [Row({**row, "label": row["label"]}, where=row.where, index=row.index) for row in rows]
        return super().encode(seen, tokenizer, **given)


class TellsTargets(Labels):
    def texts(self, row: Row) -> Iterable[str]:
        return row.values()


class MarksInSecret(Labels):
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, **given: Any) -> list[Example]:
        examples = super().encode(rows, tokenizer, **given)
        return [Example({**e.inputs, "marks.place": e.inputs["texts.0.ids"]}, e.targets, e.row) for e in examples]


class NeedsNothing(Labels):
    @property
    def needs(self) -> frozenset[str]:
        return frozenset()


class AnswersByWindow(Labels):
    def encode(self, rows: Sequence[Row], tokenizer: Tokenizer, *, max_length: int, **given: Any) -> list[Example]:
        return [window for row in rows for window in self._windows(row, tokenizer, max_length)]

    def _windows(self, row: Row, tokenizer: Tokenizer, max_length: int) -> Iterator[Example]:
        for ids in tokenizer.encode([row["text"]], max_length=max_length, stride=2).ids:
            yield Example({"texts.0.ids": np.asarray(ids, np.int32)}, self._targets(row), row.index)


@dataclass(frozen=True)
class Guess:
    prediction: str


class GivesAnotherClass(Labels):
    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Any]:
        return [Guess(found.prediction) for found in super().decode(outputs, examples)]


class GivesArrays(Labels):
    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Any]:
        return [Labelled(index) for index in outputs["logits"].argmax(-1)]


class DecodesWithTorch(Labels):
    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Any]:
        return [Labelled(self.names[index]) for index in torch.from_numpy(outputs["logits"]).argmax(-1).tolist()]


class ComparesRows(Labels):
    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Any]:
        logits = outputs["logits"] - outputs["logits"].mean(0)
        return super().decode({"logits": logits}, examples)


class ReadsPadding(Labels):
    def outputs(self, model: Model, batch: Batch) -> Mapping[str, Any]:
        logits = model(batch)["logits"]
        return {"logits": logits if batch.inputs.texts[0].mask.all() else -logits}


class StatesATuple(Labels):
    def state(self) -> dict[str, Any]:
        return {"names": self.names}


class ForgetsACount(Labels):
    rows = 0

    def fit(self, rows: Iterable[Row]) -> None:
        super().fit(rows)
        self.rows = sum(1 for _ in rows)

    def describe(self) -> str:
        return f"labels of {self.rows} rows"


class ForgetsWhatItTuned(Labels):
    shift = 0.0

    def calibrate(self, evaluation: Evaluation) -> bool:
        self.shift = 100.0
        return True

    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        found = Hits()
        found._hits = -int(self.shift)
        return found


class NamesFiguresLate(Labels):
    class Late(Hits):
        def metrics(self) -> dict[str, float]:
            return super().metrics() if self._rows else {}

    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        return self.Late()


class AveragesAverages(Labels):
    class Means(Hits):
        def __init__(self) -> None:
            super().__init__()
            self._means: list[float] = []

        def update(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> None:
            one = Hits()
            one.update(outputs, examples)
            self._means.append(one.metrics()["hits"])

        def metrics(self) -> dict[str, float]:
            return {"hits": float(np.mean(self._means)) if self._means else float("nan")}

    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        return self.Means()


class SaysMore(Labels):
    class More(Hits):
        def higher_is_better(self, name: str) -> Any:
            return "more"

    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        return self.More()


class IgnoresMetrics(Labels):
    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        return Hits()


BROKEN: dict[str, tuple[type[Labels], str]] = {
    "options_have_types_and_defaults": (Untyped, "has no type for its option 'size'"),
    "it_learns_a_few_rows_by_heart": (ReadsOneToken, "the loss goes from 0."),
    "predictions_give_the_targets_back": (PicksTheLeast, "of 8 rows that were learned 8 are predicted wrong"),
    "a_new_process_predicts_the_same": (RemembersInTheClass, "a new process predicts otherwise: [0].prediction is"),
    "a_bad_row_is_named": (NamesNoRow, "does not say where it stands: without rows.jsonl and line 3 and 'label'"),
    "what_need_not_be_there_may_be_missing": (TakesTheOptional, "fails: KeyError: 'title'"),
    "skipping_bad_rows_keeps_the_good_ones": (BearsAGrudge, "of 8 good and 3 bad rows 6 are trained on and 5 are"),
    "examples_name_their_rows_in_order": (CountsRowsItself, "are encoded into examples of the rows [0, 1, 2"),
    "a_row_is_encoded_alike_in_any_company": (PadsItself, "[0].inputs.texts.0.ids has the shape"),
    "texts_fit_the_length": (KnowsNoEnd, "tokens with max_length=8"),
    "texts_are_joined_or_kept_apart_as_asked": (KeepsTextsApart, "accepts 'text' alone is given texts.1.ids"),
    "rows_without_targets_are_encoded_alike": (WantsTargets, "cannot be encoded: KeyError: 'label'"),
    "texts_give_no_target": (TellsTargets, "texts() of a row with targets and without: it has 2 items instead of 1"),
    "marks_are_as_declared": (MarksInSecret, "row 0 has ['marks.place']; the app declares []"),
    "the_head_needs_what_the_app_says": (NeedsNothing, "its head needs pooled"),
    "a_row_of_any_length_is_one_row": (AnswersByWindow, "windows of 8 tokens have"),
    "predictions_are_of_the_declared_class": (GivesAnotherClass, "decode gives a Guess; prediction is Labelled"),
    "predictions_are_plain_values": (GivesArrays, "cannot be written as JSON: Object of type int64"),
    "decode_needs_no_torch": (DecodesWithTorch, "decode() calls argmax of torch"),
    "a_row_is_decoded_alike_in_any_company": (ComparesRows, "is decoded otherwise alone"),
    "a_row_is_predicted_alike_in_any_batch": (ReadsPadding, "is predicted otherwise without padding"),
    "state_is_plain_json": (StatesATuple, "names is a list instead of a tuple"),
    "state_is_all_it_remembers": (ForgetsACount, "after load_state() describe() gives something else"),
    "figures_survive_saving": (ForgetsWhatItTuned, "the saved model has other figures than the run: hits is"),
    "figures_have_names_before_any_row": (NamesFiguresLate, "the figures are nothing at first, and hits after"),
    "figures_do_not_depend_on_the_cut": (AveragesAverages, "rows that are evaluated as"),
    "figures_say_which_way_is_better": (SaysMore, "higher_is_better('hits') is 'more'"),
    "metrics_that_do_not_exist_are_refused": (IgnoresMetrics, "is taken without a word"),
}

_MODELS: dict[type, str] = {KeepsTextsApart: "stand-in-texts@init", NeedsNothing: "stand-in-text@init"}


def _suite(cls: type[Labels]) -> type[AppConformance]:
    values: dict[str, Any] = {"name": f"mutants-app/{name_of(cls)}", "model": _MODELS.get(cls, "stand-in-text@init")}
    if cls is TakesTheOptional:
        texts = ("one good line", "two bad lines", "three", "four and more")
        values["rows"] = [{"title": "Rain", "text": text, "label": text[:1]} for text in texts]
    return type(cls.__name__, (AppConformance,), values)


SOUND: type[Conformance] = _suite(Sound)

MUTANTS: dict[str, tuple[type[Conformance], str]] = {
    name: (_suite(cls), fragment) for name, (cls, fragment) in BROKEN.items()
}
