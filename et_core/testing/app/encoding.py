from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from et_core.errors import EtError
from et_core.interfaces import Example
from et_core.testing.app.base import AppSuite
from et_core.testing.runs import by_row, refuse_difference
from et_core.testing.suite import CheckFailed, check

_TOKENS = (".ids", ".segments")


def _targets_are_read(suite: EncodingChecks) -> str | None:
    return suite.reads_targets or None


class EncodingChecks(AppSuite):
    """From rows to examples."""

    reads_targets: str = ""
    """Why ``texts`` gives targets too, such as "it writes text"; empty where it does not."""

    @check()
    def examples_name_their_rows_in_order(self) -> None:
        """Reports and predictions find a row by its examples: others would be shown for it.

        Give each row's examples one after another, each with ``row=row.index``.
        """
        lab = self.assembled()
        moved = lab.rows[2:] + lab.rows[:2]
        found = [index for index, _ in groupby(example.row for example in lab.encode(moved))]
        expected = [row.index for row in moved]
        if found != expected:
            raise CheckFailed(f"rows {expected} are encoded into examples of the rows {found}.")

    @check()
    def a_row_is_encoded_alike_in_any_company(self) -> None:
        """Rows are encoded in chunks of any size, and come from a cache that another run filled.

        Let nothing in an example depend on the other rows of the call; padding is not an app's work.
        """
        lab = self.assembled()
        alone = [example for row in lab.rows for example in lab.encode([row])]
        refuse_difference(alone, lab.encode(lab.rows), what="rows that are encoded one by one become other examples")

    @check()
    def texts_fit_the_length(self) -> None:
        """A model has no positions beyond ``data.max_length``, and fails at the first long row.

        Hand *max_length* and *truncation* on to the tokenizer, or cut a text into windows.
        """
        lab, most = self.assembled(), self.short_length
        cut = {side: lab.encode(lab.rows, max_length=most, truncation=side) for side in ("right", "left")}
        for example in cut["right"] + cut["left"]:
            for name, ids in example.inputs.items():
                if name.endswith(_TOKENS) and not 0 < len(ids) <= most:
                    raise CheckFailed(f"{name} of row {example.row} has {len(ids)} tokens with max_length={most}.")
        in_windows = len(cut["right"]) > len(lab.rows)
        if not in_windows and _lengths(lab.encode(lab.rows)) != _lengths(cut["right"]):
            same = all(_inputs(a) == _inputs(b) for a, b in zip(cut["right"], cut["left"], strict=True))
            if same:
                raise CheckFailed(f"truncation='left' keeps the same {most} tokens as 'right'.")

    @check()
    def texts_are_joined_or_kept_apart_as_asked(self) -> None:
        """A backbone that takes one text cannot take two, nor the other way round.

        Look at *accepts*: with "text" join a pair, with "texts" keep it apart; raise ConfigError where one cannot be.
        """
        lab = self.assembled()
        rest, expected = lab.model.backbone.accepts - {"text", "texts"}, lab.encode(lab.rows)
        for way in ("text", "texts"):
            try:
                examples = lab.encode(lab.rows, accepts=rest | {way})
            except EtError:
                continue  # the app says why not
            names = {name for example in examples for name in example.inputs}
            second = sorted(name for name in names if name.startswith("texts.1."))
            if way == "text" and second and "towers" not in lab.app.needs:
                raise CheckFailed(f"a backbone that accepts 'text' alone is given {second[0]}.")
            if way == "texts" and (joined := sorted(name for name in names if name.endswith(".segments"))):
                raise CheckFailed(f"a backbone that accepts 'texts' is given a joined pair: {joined[0]}.")
            targets = [dict(example.targets) for example in examples]
            refuse_difference(
                targets, [dict(e.targets) for e in expected], what=f"with accepts={way!r} rows have other targets"
            )

    @check()
    def rows_without_targets_are_encoded_alike(self) -> None:
        """What is to be predicted has no targets yet.

        Read a target only where the row has it, and let no input depend on it.
        """
        lab = self.assembled()
        try:
            bare = lab.encode(lab.bare_rows())
        except Exception as error:
            raise CheckFailed(f"rows without targets cannot be encoded: {type(error).__name__}: {error}") from error
        given = [name for example in bare for name in example.targets]
        if given:
            raise CheckFailed(f"a row without its targets is encoded with the target {given[0]!r}.")
        refuse_difference(
            _what_is_read(bare), _what_is_read(lab.encode(lab.rows)), what="rows without targets become other examples"
        )

    @check(unless=_targets_are_read)
    def texts_give_no_target(self) -> None:
        """A vocabulary that is learned on targets has pieces for what a model never reads.

        Give the text that ``encode`` reads. Set ``reads_targets`` where the model writes text.
        """
        lab = self.assembled()
        for row, bare in zip(lab.rows, lab.bare_rows(), strict=True):
            texts = list(lab.app.texts(row))
            refuse_difference(texts, list(lab.app.texts(bare)), what="texts() of a row with targets and without")
            if wrong := [text for text in texts if not isinstance(text, str)]:
                raise CheckFailed(f"texts() gives {wrong[0]!r}, of type {type(wrong[0]).__name__}.")

    @check()
    def marks_are_as_declared(self) -> None:
        """A backbone makes room for the marks that an app declares, and cannot look up any other.

        Declare each in ``marks`` with how many values it takes: 0 up to one less.
        """
        lab = self.assembled()
        declared = {f"marks.{name}": size for name, size in lab.app.marks.items()}
        for example in lab.encode(lab.rows):
            found = {name for name in example.inputs if name.startswith("marks.")}
            if found != declared.keys():
                raise CheckFailed(f"row {example.row} has {sorted(found)}; the app declares {sorted(declared)}.")
            for name in found:
                values, size = example.inputs[name], declared[name]
                if len(values) != len(example.inputs["texts.0.ids"]) or values.min() < 0 or values.max() >= size:
                    raise CheckFailed(
                        f"{name} of row {example.row} has {len(values)} values from {values.min()} to {values.max()}; "
                        f"it takes one a token, below {size}."
                    )

    @check()
    def the_head_needs_what_the_app_says(self) -> None:
        """That a model does not fit is told before data is read, by ``App.needs``, or fails in the first step.

        Give in ``needs`` what the class of the head needs.
        """
        lab = self.assembled()
        needed = lab.app.head().build(lab.model.backbone).needs
        if surplus := needed - lab.app.needs:
            raise CheckFailed(f"its head needs {', '.join(sorted(surplus))}, which App.needs does not name.")

    @check()
    def a_row_of_any_length_is_one_row(self) -> None:
        """A long row that becomes several windows is still one row for its reader.

        Give windows the index of their row, and merge them in ``decode``.
        """
        lab = self.assembled()
        for most in (lab.encoding["max_length"], self.short_length):
            examples = lab.encode(lab.rows, max_length=most)
            found = lab.app.decode(lab.run(examples), examples)
            if len(found) != len(by_row(examples)):
                raise CheckFailed(
                    f"{len(by_row(examples))} rows in {len(examples)} windows of {most} tokens have "
                    f"{len(found)} predictions."
                )


def _lengths(examples: Sequence[Example]) -> list[int]:
    return [example.length for example in examples]


def _inputs(example: Example) -> dict[str, list[int]]:
    return {name: ids.tolist() for name, ids in example.inputs.items() if name.endswith(_TOKENS)}


def _what_is_read(examples: Sequence[Example]) -> list[Example]:
    """Without targets, and without the decoder's side, which is one."""
    return [
        Example({name: ids for name, ids in e.inputs.items() if not name.startswith("decoder.")}, {}, e.row)
        for e in examples
    ]
