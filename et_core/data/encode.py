from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from et_core.data.rows import Rows
from et_core.errors import DataError
from et_core.interfaces import Example, Row

Encode = Callable[[Sequence[Row]], list[Example]]
_CHUNK = 2000


def encode_rows(rows: Rows, encode: Encode, *, skip_bad: bool) -> Iterator[list[Example]]:
    """Encode *rows* in chunks. With *skip_bad* a row that cannot be encoded goes to ``rows.skipped`` instead."""
    source = iter(rows)
    position = 0
    while chunk := list(islice(source, _CHUNK)):
        # An example's row is its position here, which is what a report reads it back by.
        places = {row.index: position + offset for offset, row in enumerate(chunk)}
        position += len(chunk)
        examples = encode_usable(chunk, encode, rows) if skip_bad else encode(chunk)
        yield [Example(e.inputs, e.targets, places[e.row], e.extra) for e in examples]


def encode_usable(chunk: Sequence[Row], encode: Encode, rows: Rows) -> list[Example]:
    """Encode what can be encoded of *chunk*; the rest goes to ``rows.skipped``."""
    try:
        return encode(chunk)
    except DataError:
        pass
    examples = []
    for row in chunk:
        try:
            examples += encode([row])
        except DataError as error:
            rows.skip(row, str(error))
    return examples
