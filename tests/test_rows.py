from __future__ import annotations

import gzip
import itertools
import json
import pickle
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from et_core.data.rows import ReadOptions, Rows, open_rows
from et_core.errors import ConfigError, DataError
from et_core.interfaces.app import Role

ROLES = {
    "text": Role(str, "the text"),
    "text_pair": Role(str, "a second text", required=False),
    "label": Role(str, "the class", target=True),
}
RECORDS = [{"text": "a film", "label": "good"}, {"text": 'a "play"', "label": "bad"}, {"text": "电影", "label": "good"}]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opened(
    source: Any, *, targets: bool = True, roles: Any = ROLES, format_name: str | None = None, **options: Any
) -> Rows:
    return open_rows(source, ReadOptions(**options), roles=roles, need_targets=targets, format=format_name)


def values(rows: Rows) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]


def put(name: str, text: str | bytes) -> str:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def failure(call: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        call()
    return str(caught.value)


def write_every_format() -> list[Any]:
    import datasets
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    tsv = "text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in RECORDS)
    csv = 'text,label\na film,good\n"a ""play""",bad\n电影,good\n'
    jsonl = "".join(json.dumps(row) + "\n" for row in RECORDS)
    table = pa.Table.from_pylist(RECORDS)
    pq.write_table(table, "a.parquet")
    with pa.ipc.new_file("file.arrow", table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream("stream.arrow", table.schema) as writer:
        writer.write_table(table)
    dataset = datasets.Dataset.from_list(RECORDS)
    datasets.disable_progress_bars()
    dataset.save_to_disk("saved")
    texts = [put("a.tsv", tsv), put("a.csv", csv), put("a.jsonl", jsonl)]
    zipped = [put(f"{name}.gz", gzip.compress(Path(name).read_bytes())) for name in texts]
    columnar = ["a.parquet", "file.arrow", "stream.arrow", "saved", Path("saved/data-00000-of-00001.arrow")]
    return [*texts, *zipped, *columnar, RECORDS, pd.DataFrame(RECORDS), dataset]


def test_every_format_gives_the_same_rows() -> None:
    for source in write_every_format():
        rows = opened(source)
        assert values(rows) == RECORDS, source
        assert values(rows) == RECORDS, "rows can be read again"
        assert [row.index for row in rows] == [0, 1, 2]
        assert len(rows) == 3
        assert [dict(row) for row in rows.take([2, 0])] == [RECORDS[2], RECORDS[0]]
        assert values(pickle.loads(pickle.dumps(rows))) == RECORDS


def test_reading_files_imports_neither_pandas_nor_datasets() -> None:
    put("a.tsv", "text\nx\n")
    code = (
        "import sys; from et_core.data.rows import *; from et_core.interfaces.app import Role; "
        "print(len(open_rows('a.tsv', ReadOptions(), roles={'text': Role(str, '')}, need_targets=True)), "
        "*[name for name in ('pandas', 'datasets') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "1\n"


def test_rows_know_where_they_stand() -> None:
    put("a.tsv", "text\tlabel\n\nx\tgood\n\ny\tbad\n")
    row = list(opened("a.tsv"))[1]
    assert row.where == "a.tsv line 5"
    assert row.columns == {"text": "text", "label": "label"}
    assert str(row.error("label", "is odd")) == "a.tsv line 5: column 'label' is odd"
    put("a.csv", 'text,label\n"two\nlines",good\nx,bad\n')
    assert [(row["text"], row.where) for row in opened("a.csv")] == [
        ("two\nlines", "a.csv line 2"),
        ("x", "a.csv line 4"),
    ]
    write_every_format()
    assert list(opened("a.parquet"))[1].where == "a.parquet row 2"
    assert list(opened(RECORDS))[1].where == "in-memory rows[1]"


def test_tsv_has_no_quoting_and_loses_no_character() -> None:
    text = '"open\u2028 line \x0c \x85 \\t " '
    put("a.tsv", b"\xef\xbb\xbf" + f"text\tlabel\r\n{text}\tgood\r\n\t\r\n".encode())
    assert values(opened("a.tsv")) == [{"text": text, "label": "good"}, {"text": "", "label": ""}]


def test_columns_are_mapped_to_roles() -> None:
    put("a.tsv", "label\tid\tsentence\n1\t7\tx\n")
    rows = opened("a.tsv", columns={"text": "sentence"})
    assert values(rows) == [{"text": "x", "label": "1"}]
    assert next(iter(rows)).columns == {"text": "sentence", "label": "label"}
    assert [(dict(row), raw) for row, raw in rows.raw()] == [
        ({"text": "x", "label": "1"}, {"label": "1", "id": "7", "sentence": "x"})
    ]


def test_files_without_a_header() -> None:
    put("a.tsv", "x\tgood\ny\tbad\n")
    assert values(opened("a.tsv", header=False, columns={"text": "0", "label": "1"}))[1] == {
        "text": "y",
        "label": "bad",
    }
    assert values(opened("a.tsv", header=False, column_names=("text", "label")))[0] == {"text": "x", "label": "good"}
    assert failure(lambda: opened("a.tsv", header=False, column_names=("text", "label", "id"))) == (
        "a.tsv line 1: there are 2 fields, but data.column_names has 3: text, label, id."
    )
    assert failure(lambda: opened("a.tsv", column_names=("text", "label"))) == (
        "data.column_names is for files without a header: set data.header=false, or leave the names out."
    )


def test_separator_overrides_the_one_of_the_format() -> None:
    put("a.csv", "text;label\nx, y;good\n")
    assert values(opened("a.csv", separator=";")) == [{"text": "x, y", "label": "good"}]
    put("a.tsv", "text ||| label\nx ||| good\n")
    assert values(opened("a.tsv", separator=" ||| ")) == [{"text": "x", "label": "good"}]
    put("b.csv", "text\tlabel\nx, y\tgood\n")
    assert values(opened("b.csv", separator="\\t")) == [{"text": "x, y", "label": "good"}]
    assert failure(lambda: opened("a.csv", separator=";;")) == (
        "data.separator is ';;'. A csv file takes one character, such as ';'."
    )
    assert failure(lambda: opened("a.csv")) == (
        "a.csv has no column 'text', which the app reads as its 'text'. "
        "Its only column is 'text;label': if ';' separates columns, set data.separator=';'.\nColumns: text;label."
    )


def test_several_files_and_globs_are_read_in_order() -> None:
    for name in ("b", "a"):
        put(f"{name}.tsv", f"text\tlabel\n{name}\tgood\n")
    put("c.jsonl", '{"text": "c", "label": "good"}\n')
    rows = opened(["c.jsonl", Path("b.tsv"), "*.tsv"])
    assert [row["text"] for row in rows] == ["c", "b", "a", "b"]
    assert [row.index for row in rows] == [0, 1, 2, 3]
    assert rows.description == "c.jsonl, b.tsv, *.tsv"
    assert opened(RECORDS).description == "(in memory, 3 rows)"


def test_targets_are_optional_unless_needed() -> None:
    put("a.tsv", "text\nx\n")
    assert values(opened("a.tsv", targets=False, columns={"label": "gold"})) == [{"text": "x"}]
    assert "has no column 'gold' (data.columns.label)" in failure(lambda: opened("a.tsv", columns={"label": "gold"}))
    put("a.jsonl", '{"text": "x", "label": null}\n{"text": "y", "label": 1}\n')
    assert values(opened("a.jsonl", targets=False)) == [{"text": "x"}, {"text": "y", "label": "1"}]


def test_missing_columns_are_named_with_the_nearest() -> None:
    put("a.tsv", "sentence\tlabel\nx\tgood\n")
    assert failure(lambda: opened("a.tsv", columns={"text": "sentense"})) == (
        "a.tsv has no column 'sentense' (data.columns.text). Did you mean 'sentence'?\nColumns: sentence, label."
    )
    assert failure(lambda: opened("a.tsv")) == (
        "a.tsv has no column 'text', which the app reads as its 'text'. "
        "Say which column plays that role: data.columns.text=COLUMN.\nColumns: sentence, label."
    )
    assert failure(lambda: opened("a.tsv", columns={"text": "sentence", "text_pair": "second"})) == (
        "a.tsv has no column 'second' (data.columns.text_pair). "
        "Say which column plays that role: data.columns.text_pair=COLUMN.\nColumns: sentence, label."
    )
    assert failure(lambda: opened("a.tsv", columns={"txet": "sentence"})) == (
        "data.columns.txet: the app reads no 'txet'. Did you mean data.columns.text? It reads: text, text_pair, label."
    )
    assert "in memory has no column 'text'" in failure(lambda: opened([{"sentence": "x", "label": "y"}]))


def test_a_jsonl_column_may_come_late_where_it_is_optional() -> None:
    first = '{"text": "x", "label": 1}\n' * 100
    put("a.jsonl", first + '{"text": "y", "label": 2, "second": "z"}\n')
    rows = opened("a.jsonl", columns={"text_pair": "second"})
    assert values(rows)[100] == {"text": "y", "text_pair": "z", "label": "2"}


def test_a_csv_field_may_be_a_long_document() -> None:
    document = "word " * 100_000
    put("a.csv", f'text,label\n"{document}",good\n')
    assert values(opened("a.csv"))[0]["text"] == document


def test_text_roles_get_text_and_others_what_the_file_holds() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    roles = {**ROLES, "score": Role(float, ""), "tags": Role(list, "")}
    table = pa.table({"text": [1, 2], "label": [3.0, 0.5], "score": [1.5, 2.0], "tags": [["a"], ["b", "c"]]})
    pq.write_table(table, "a.parquet")
    assert values(opened("a.parquet", roles=roles))[0] == {"text": "1", "label": "3.0", "score": 1.5, "tags": ["a"]}
    put("a.jsonl", '{"text": "x", "label": true, "score": 2, "tags": ["a"]}\n')
    assert values(opened("a.jsonl", roles=roles))[0] == {"text": "x", "label": "True", "score": 2, "tags": ["a"]}
    put("b.jsonl", '{"text": ["x"], "label": 1}\n')
    assert failure(lambda: opened("b.jsonl")).startswith(
        "b.jsonl line 1: column 'text' holds a list, but 'text' is text.\n"
    )


def test_missing_files_are_named_with_near_ones() -> None:
    Path("data").mkdir()
    put("data/train.tsv", "text\nx\n")
    message = failure(lambda: opened("data/trian.tsv"))
    assert message == (
        "there is no file 'data/trian.tsv'. Did you mean 'data/train.tsv'?\n"
        f"Files in data: train.tsv.\nPaths are relative to {Path.cwd()}."
    )
    assert "there is no folder 'dat'." in failure(lambda: opened("dat/train.tsv"))
    assert failure(lambda: opened("data/*.csv")).startswith("no file matches 'data/*.csv'.\nFiles in data: train.tsv.")
    assert failure(lambda: opened("data")).startswith(
        "data is a folder. Name a file, or a glob such as 'data/*.tsv'.\nFiles in data: train.tsv."
    )


def test_a_folder_of_several_splits_lists_them() -> None:
    import datasets

    datasets.disable_progress_bars()
    split = datasets.Dataset.from_list(RECORDS)
    both = datasets.DatasetDict({"train": split, "test": split})
    both.save_to_disk("saved")
    assert failure(lambda: opened("saved")) == "saved holds several splits. Name one of them: saved/test, saved/train."
    assert values(opened("saved/train")) == RECORDS
    assert failure(lambda: opened(both)) == (
        "the data is one DatasetDict with the keys 'train', 'test'. Pass a list of rows, or one of these."
    )


def test_unknown_extensions_list_the_known_ones() -> None:
    known = "Known extensions: .tsv, .csv, .jsonl, .parquet, .arrow, and .tsv.gz, .csv.gz, .jsonl.gz."
    put("a.xlsx", "x")
    assert failure(lambda: opened("a.xlsx")) == f"a.xlsx: the extension does not say a known format.\n{known}"
    put("a.json", "[]")
    assert failure(lambda: opened("a.json")) == (
        "a.json: the extension does not say a known format. "
        f"A file with one JSON object a line is called .jsonl.\n{known}"
    )
    put("a.parqet", "x")
    assert "Did you mean '.parquet'?" in failure(lambda: opened("a.parqet"))
    put("data.txt", "text\tlabel\nx\tgood\n")
    assert len(opened("data.txt", format_name="tsv")) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "", "a.tsv is empty."),
        ("a.tsv", "\n \n", "a.tsv is empty."),
        ("a.jsonl", "", "a.jsonl is empty."),
        ("a.csv", "text,label\n", "a.csv has a header but no rows. If its first line is a row, set data.header=false."),
        ("a.tsv", "text\ttext\nx\ty\n", "a.tsv line 1: two columns are called 'text'. Rename one of them."),
        ("a.tsv", "text\tlabel\nx\n", "a.tsv line 2: 1 field where the header has 2; it starts with 'x'."),
        ("a.csv", "text,label\n\nx,y,z\n", "a.csv line 3: 3 fields where the header has 2; it starts with 'x,y,z'."),
        ("a.tsv", b"text\tlabel\ncaf\xe9\tgood\n", "a.tsv line 2: byte 4 of the line (0xe9) is not UTF-8."),
        ("a.csv", b"text,label\ncaf\xe9,good\n", "a.csv line 2: byte 4 of the line (0xe9) is not UTF-8."),
        ("a.tsv", "text\tlabel\n".encode("utf-16"), "iconv -f UTF-16 -t UTF-8 'a.tsv' > NEW_FILE."),
        ("a.csv", 'text,label\n"x"y,good\n', "a.csv line 2: not valid CSV: ',' expected after '\"'."),
        (
            "a.csv",
            'text,label\nz,w\n"x,good\ny,bad\n',
            "line 3: not valid CSV: a quote that opens here is never closed.",
        ),
        ("a.jsonl", '{"text": "x", label}\n', "a.jsonl line 1: invalid JSON at column 15: Expecting property name"),
        ("a.jsonl", '{"text": "x"\n', "a.jsonl line 1: invalid JSON at column 13: Expecting ',' delimiter."),
        ("a.jsonl", '["x"]\n', "a.jsonl line 1: a list where a JSON object is expected."),
        ("a.jsonl", "[" * 200_000 + "\n", "a.jsonl line 1: invalid JSON: maximum recursion depth"),
        (
            "a.jsonl",
            '{"text": "\\ud83d", "label": 1}\n',
            "a.jsonl line 1: an escape \\uD8.. to \\uDF.. without its other half",
        ),
        (
            "a.jsonl",
            '{"text": "\\ud83d\\ude00", "label": 1}\n{"text": null, "label": 1}\n',
            "a.jsonl line 2: column 'text' is null, but 'text' needs a value.",
        ),
        (
            "a.jsonl",
            '{"text": "x", "label": 1}\n{"text": "x"}\n',
            "line 2: column 'label' is missing, but 'label' needs a",
        ),
        ("a.tsv.gz", gzip.compress(b"text\tlabel\n" + b"x\ty\n" * 999)[:-20], "a.tsv.gz is not a complete gzip file"),
        ("a.tsv.gz", b"text\tlabel\nx\ty\n", "a.tsv.gz is not a complete gzip file: Not a gzipped file"),
        ("a.parquet", b"PAR1 nothing", "a.parquet is no complete parquet file"),
        ("a.arrow", b"ARROW1 nothing", "a.arrow is no complete arrow file"),
    ],
)
def test_bad_files_name_the_place_and_the_reason(name: str, content: str | bytes, message: str) -> None:
    put(name, content)
    assert message in failure(lambda: values(opened(name)))


def test_bad_rows_say_what_to_do() -> None:
    put("a.tsv", "text\tlabel\nx\n")
    assert failure(lambda: opened("a.tsv")).endswith(
        "\nCorrect the row, or leave such rows out with data.on_bad_row=skip."
    )
    put("a.tsv", b"text\tlabel\ncaf\xe9\tgood\n")
    assert "\nConvert the file: iconv -f LATIN1 -t UTF-8 'a.tsv' > NEW_FILE" in failure(lambda: opened("a.tsv"))


def test_damage_inside_a_parquet_file_is_found_by_its_checksums() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": [f"text {n}" for n in range(5000)], "label": ["x"] * 5000})
    pq.write_table(table, "a.parquet", row_group_size=1000, write_page_checksum=True)
    data = bytearray(Path("a.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    put("a.parquet", bytes(data))
    assert "a.parquet is no complete parquet file: could not verify page integrity" in failure(
        lambda: values(opened("a.parquet"))
    )
    pq.write_table(table.slice(0, 0), "b.parquet")
    assert failure(lambda: opened("b.parquet")) == "b.parquet has no rows."


def test_text_in_a_parquet_file_that_is_not_utf8_is_an_error() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.array([b"x", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"text": text, "label": ["a", "b"]}), "a.parquet")
    assert failure(lambda: opened("a.parquet")).startswith(
        "a.parquet rows 1 to 2: a value cannot be read: 'utf-8' codec"
    )


def test_skip_leaves_bad_rows_out_and_records_them() -> None:
    put("a.tsv", b"text\tlabel\nx\tgood\nonly\ncaf\xe9\tgood\ny\tbad\n")
    rows = opened("a.tsv", on_bad_row="skip")
    for _ in range(2):
        assert [(row["text"], row.index, row.where) for row in rows] == [
            ("x", 0, "a.tsv line 2"),
            ("y", 1, "a.tsv line 5"),
        ]
        assert [(row.where, row.reason, row.raw) for row in rows.skipped] == [
            ("a.tsv line 3", "1 field where the header has 2; it starts with 'only'", "only"),
            ("a.tsv line 4", "byte 4 of the line (0xe9) is not UTF-8", "caf\ufffd\tgood"),
        ]
    assert len(rows) == 2
    assert rows.skipped_total == 2


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        (
            "a.jsonl",
            '{"text": "x", "label": 1}\n{\n[]\n{"text": null, "label": 1}\n{"text": "y", "label": 2}\n',
            (2, 3, 4),
        ),
        ("a.jsonl", '{\n{"text": "x", "label": 1}\n{"text": "y", "label": 2}\n', (1,)),
        ("a.csv", b'text,label\nx,1\n"two\nca\xe9",3\n"a"b,2\n\ny,4\n"never', (4, 5, 8)),
    ],
)
def test_skip_goes_on_after_each_kind_of_bad_row(name: str, content: str | bytes, where: tuple[int, ...]) -> None:
    rows = opened(put(name, content), on_bad_row="skip")
    assert [row["text"] for row in rows] == ["x", "y"]
    assert [row.where for row in rows.skipped] == [f"{name} line {line}" for line in where]


def test_a_skipped_csv_row_shows_its_own_text() -> None:
    rows = opened(put("a.csv", 'text,label\nx,1\n"a"b,2\n'), on_bad_row="skip")
    assert len(list(rows)) == 1
    assert rows.skipped[0].raw == '"a"b,2'


def test_skipped_rows_do_not_fill_the_memory() -> None:
    put("a.tsv", "text\tlabel\n" + "z" * 5000 + "\n" + "only\n" * 4999 + "x\ty\n")
    rows = opened("a.tsv", on_bad_row="skip")
    assert len(list(rows)) == 1
    assert (len(rows.skipped), rows.skipped_total, len(rows.skipped[0].raw)) == (1000, 5000, 2000)


def test_a_row_found_bad_later_is_skipped_or_stops() -> None:
    rows = opened(RECORDS, on_bad_row="skip")
    for row in rows:
        if row["label"] == "bad":
            rows.skip(row, str(row.error("label", "holds 'bad'")))
    assert [(row.where, row.reason) for row in rows.skipped] == [("in-memory rows[1]", "column 'label' holds 'bad'")]
    assert json.loads(rows.skipped[0].raw) == RECORDS[1]
    stopping = opened(RECORDS)
    row = stopping.take([1])[0]
    assert failure(lambda: stopping.skip(row, "is odd")) == "in-memory rows[1]: is odd"


def test_a_wrong_on_bad_row_is_refused() -> None:
    assert (
        failure(lambda: opened(RECORDS, on_bad_row="ignore"))
        == "data.on_bad_row is 'ignore'. It can be 'stop' or 'skip'."
    )


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
    assert failure(lambda: opened(3)).startswith("cannot read rows from a int. Pass a path, a glob,")
    assert failure(lambda: values(opened({"text": ["x"]}))).startswith("the data is one dict with the keys 'text'.")
    assert failure(lambda: values(opened([RECORDS[0], "x"]))).startswith(
        "in-memory rows[1]: a str where a dict is expected."
    )


def read_stdin(data: bytes, format_name: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from et_core.data.rows import *; from et_core.interfaces.app import Role\n"
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
        "from et_core.data.rows import *; from et_core.interfaces.app import Role\n"
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
