from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice

from et_core.data.rows import Rows
from et_core.errors import ComponentError, DataError
from et_core.interfaces import Example, Row

Encode = Callable[[Sequence[Row]], list[Example]]
_CHUNK = 2000


def encode_rows(rows: Rows, encode: Encode, *, skip_bad: bool, owner: str = "the app") -> Iterator[list[Example]]:
    """Encode *rows* in chunks. With *skip_bad* a row that cannot be encoded goes to ``rows.skipped`` instead.

    *owner* is whose *encode* it is, for messages; ComponentError where its examples do not name their rows.
    """
    source = iter(rows)
    position = 0
    while chunk := list(islice(source, _CHUNK)):
        # An example's row is its position here, which is what a report reads it back by.
        places = {row.index: position + offset for offset, row in enumerate(chunk)}
        position += len(chunk)
        examples = encode_usable(chunk, encode, rows, owner) if skip_bad else _checked(chunk, encode, owner)
        yield [Example(e.inputs, e.targets, places[e.row], e.extra) for e in examples]


def encode_usable(chunk: Sequence[Row], encode: Encode, rows: Rows, owner: str = "the app") -> list[Example]:
    """Encode what can be encoded of *chunk*; the rest goes to ``rows.skipped``."""
    try:
        return _checked(chunk, encode, owner)
    except DataError:
        pass
    examples = []
    for row in chunk:
        try:
            examples += _checked([row], encode, owner)
        except DataError as error:
            rows.skip(row, str(error))
    return examples


def _checked(chunk: Sequence[Row], encode: Encode, owner: str) -> list[Example]:
    """What *encode* makes of *chunk*, once it is of these rows in their order: else others would be shown for them."""
    examples = encode(chunk)
    found = [index for index, _ in groupby(example.row for example in examples)]
    given = [row.index for row in chunk]
    if found == given:
        return examples
    place = next((n for n, pair in enumerate(zip(found, given, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        said = f"{len(found)} rows have examples, of {len(given)} that were given"
    else:
        said = f"row {found[place]} stands where row {given[place]} is due"
    raise ComponentError(
        f"{owner} encodes {len(given)} rows into {len(examples)} examples that do not name them: {said}. "
        "App.encode gives each row's examples one after another, in the order of the rows, each with row=row.index."
    )
