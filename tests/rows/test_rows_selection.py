from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

from tests.rows.tools import RECORDS, failure, opened, put, values


def test_select_streams_a_subset_and_keeps_the_index() -> None:
    put("a.tsv", "text\tlabel\n" + "".join(f"t{n}\tx\n" for n in range(10)))
    rows = opened("a.tsv")
    part = rows.select(np.array([1, 4, 7, 9]))
    assert [(row["text"], row.index) for row in part] == [("t1", 1), ("t4", 4), ("t7", 7), ("t9", 9)]
    assert len(part) == 4
    assert [row["text"] for row in part.take([3, 0])] == ["t9", "t1"]
    again = part.select(np.array([1, 3]))
    assert [(row["text"], row.index) for row in again] == [("t4", 4), ("t9", 9)]
    assert [raw["label"] for _, raw in again.raw()] == ["x", "x"]
    assert values(rows.select(np.array([], dtype=np.int64))) == []
    with pytest.raises(ValueError, match="strictly ascending"):
        rows.select(np.array([3, 1]))
    put("a.tsv", "text\tlabel\nt0\tx\n")
    assert failure(lambda: values(again)) == "a.tsv has no row number 4 any more: the data changed since it was opened."


def test_take_refuses_rows_that_are_not_there() -> None:
    rows = opened(RECORDS)
    assert rows.take([]) == []
    assert [row["text"] for row in rows.take(np.array([0, 0, 2]))] == ["a film", "a film", "电影"]
    with pytest.raises(IndexError, match=re.escape("no row 3 in (in memory, 3 rows)")):
        rows.take([0, 3])


def test_taking_and_counting_leave_the_skipped_rows_of_the_last_iteration() -> None:
    put("a.tsv", "text\tlabel\nonly\nx\ty\n")
    rows = opened("a.tsv", on_bad_row="skip")
    list(rows)
    rows.take([0])
    assert len(rows) == 1
    assert len(rows.skipped) == 1


def test_fingerprint_follows_content_options_and_selection() -> None:
    put("a.tsv", "text\tlabel\nx\tgood\ny\tbad\n")
    put("b.tsv", "text\tlabel\nx\tgood\ny\tbad\n")
    put("c.tsv", "text\tlabel\nx\tgood\nz\tbad\n")
    base = opened("a.tsv").fingerprint()
    assert opened("b.tsv").fingerprint() == base
    others = [
        opened("c.tsv"),
        opened("a.tsv", on_bad_row="skip"),
        opened("a.tsv", columns={"text": "label"}),
        opened(["a.tsv", "b.tsv"]),
        opened("a.tsv").select(np.array([0])),
        opened("a.tsv").select(np.array([1])),
    ]
    assert len({base, *(rows.fingerprint() for rows in others)}) == len(others) + 1


def test_fingerprint_of_data_in_memory_follows_the_values_read() -> None:
    import pandas as pd

    base = opened(RECORDS).fingerprint()
    assert opened([{**row, "id": n} for n, row in enumerate(RECORDS)]).fingerprint() == base
    assert opened(pd.DataFrame(RECORDS)).fingerprint() == base
    assert opened(RECORDS[:2]).fingerprint() != base


def test_missing_values_of_pandas_are_null() -> None:
    import pandas as pd

    frame = pd.DataFrame({"text": ["x", "y"], "label": ["good", None], "text_pair": [float("nan"), "z"], 3: [1, 2]})
    rows = opened(frame, on_bad_row="skip")
    assert values(rows) == [{"text": "x", "label": "good"}]
    assert rows.skipped[0].reason == "column 'label' is null, but 'label' needs a value"
    assert next(rows.raw())[1] == {"text": "x", "label": "good", "text_pair": None, "3": 1}


def test_raw_rows_are_copies() -> None:
    rows = opened(RECORDS)
    for _, record in rows.raw():
        record["prediction"] = "x"
    assert "prediction" not in RECORDS[0]


def test_an_iterator_is_read_once() -> None:
    rows = opened(iter(RECORDS))
    assert rows.once
    assert values(rows) == RECORDS
    assert failure(lambda: values(rows)) == "an iterator can be read only once: pass a list of its rows."
    with pytest.raises(TypeError, match="no length"):
        len(rows)


def test_empty_data_in_memory_is_an_error_for_training_alone() -> None:
    assert values(opened([], targets=False)) == []
    assert failure(lambda: opened([])) == "the data in memory has no rows."
    assert failure(lambda: opened(3)).startswith("cannot read rows from an int. Pass a path, a glob,")
    assert failure(lambda: values(opened({"text": ["x"]}))).startswith("the data is one dict with the keys 'text'.")
    assert failure(lambda: opened(["a.tsv", 3])) == "a list of paths holds an int: 3."


@pytest.mark.parametrize(
    ("row", "called"), [("x", "a str"), (None, "None"), (1, "an int"), (["a", "b"], "a list"), (object(), "an object")]
)
def test_what_is_no_row_is_answered_with_what_is(row: Any, called: str) -> None:
    assert failure(lambda: values(opened([RECORDS[0], row]))) == (
        f"in-memory rows[1]: {called} where a row is expected.\n"
        "A row is a dict, such as {'text': ...}. Run.predict also takes texts, and pairs as tuples: ('...', '...')."
    )


def test_a_frame_without_rows_and_columns_is_as_an_empty_list() -> None:
    import pandas as pd

    assert failure(lambda: opened(pd.DataFrame())) == "the data in memory has no rows."
    assert values(opened(pd.DataFrame(), targets=False)) == []
    assert "\nColumns: sentence." in failure(lambda: opened(pd.DataFrame(columns=["sentence"])))


def read_stdin(data: bytes, format_name: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from et_core.data import *; from et_core.interfaces.app import Role\n"
        "rows = open_rows('-', ReadOptions(), roles={'text': Role(str, '')}, need_targets=False, format=sys.argv[1])\n"
        "for row in rows: print(row.where, dict(row), flush=True)\n"
        "for row in rows: pass\n"
    )
    command = [sys.executable, "-c", code, format_name]
    result = subprocess.run(command, input=data, capture_output=True, check=False)
    return subprocess.CompletedProcess(command, result.returncode, result.stdout.decode(), result.stderr.decode())


@pytest.mark.parametrize(("format_name", "data", "line"), [("jsonl", b'{"text": "x"}\n', 1), ("tsv", b"text\nx\n", 2)])
def test_standard_input_is_read_once(format_name: str, data: bytes, line: int) -> None:
    result = read_stdin(data, format_name)
    assert result.stdout == f"standard input line {line} {{'text': 'x'}}\n"
    assert "standard input can be read only once: save it to a file and name that file." in result.stderr


def test_standard_input_names_a_missing_column() -> None:
    assert "standard input has no column 'text'" in read_stdin(b'{"txt": "x"}\n', "jsonl").stderr
    assert failure(lambda: opened("-", format_name="parquet")) == (
        "unknown format 'parquet'. Known formats: tsv, csv, jsonl."
    )


def test_rows_come_before_standard_input_ends() -> None:
    code = (
        "from et_core.data import *; from et_core.interfaces.app import Role\n"
        "for row in open_rows('-', ReadOptions(), roles={'text': Role(str, '')}, need_targets=False):\n"
        "    print(row['text'], flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("first", "second"):
            process.stdin.write(json.dumps({"text": word}) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{word}\n"


def test_files_are_streamed() -> None:
    put("a.tsv", "text\tlabel\n" + ("x" * 1000 + "\ty\n") * 20_000)
    rows = opened("a.tsv")
    tracemalloc.start()
    for row in rows:
        assert row["label"] == "y"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # the file has 20 million bytes


def test_an_abandoned_iteration_closes_the_file() -> None:
    put("a.tsv", "text\tlabel\n" + "x\ty\n" * 99)
    assert len(list(itertools.islice(opened("a.tsv"), 5))) == 5  # an open file would be a warning, so an error
