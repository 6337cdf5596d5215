from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from et_core.interfaces.app import Role
from tests.rows.tools import RECORDS, ROLES, failure, opened, put, values, write_every_format


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
        "import sys; from et_core.data import *; from et_core.interfaces.app import Role; "
        "print(len(open_rows('a.tsv', ReadOptions(), roles={'text': Role(str, '')}, need_targets=True)), "
        "*[name for name in ('pandas', 'datasets') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "1\n"


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])
def test_columnar_files_may_be_gzipped(name: str) -> None:
    write_every_format()
    put(f"{name}.gz", gzip.compress(Path(name).read_bytes()))
    before = sorted(Path().iterdir())
    rows = opened(f"{name}.gz")
    assert values(rows) == RECORDS
    assert (len(rows), next(iter(rows)).where) == (3, f"{name}.gz row 1")
    assert values(pickle.loads(pickle.dumps(rows))) == RECORDS
    assert sorted(Path().iterdir()) == before


def test_a_gzipped_columnar_file_is_never_whole_in_memory() -> None:
    with gzip.open("a.arrow.gz", "wb", 1) as file:
        file.write(bytes(100_000_000))
    tracemalloc.start()
    assert "a.arrow.gz is no complete arrow file" in failure(lambda: opened("a.arrow.gz"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_classes_of_a_dataset_are_read_by_their_names() -> None:
    import datasets

    kinds = datasets.ClassLabel(names=["negative", "positive"])
    tags = datasets.ClassLabel(names=["red", "blue"])
    features = {"text": datasets.Value("string"), "label": kinds, "tags": datasets.Sequence(tags)}
    columns = {"text": ["x", "y", "z"], "label": [1, 0, -1], "tags": [[0, 1], [], [1, -1]]}
    dataset = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    roles = {**ROLES, "tags": Role(list, "the colours")}
    rows = opened(dataset, roles=roles, on_bad_row="skip")
    assert values(rows) == [
        {"text": "x", "label": "positive", "tags": ["red", "blue"]},
        {"text": "y", "label": "negative", "tags": []},
    ]
    assert [row.reason for row in rows.skipped] == ["column 'label' is null, but 'label' needs a value"]
    assert values(opened(dataset, roles={"tags": roles["tags"]}))[2] == {"tags": ["blue", None]}
    assert next(rows.raw())[1]["label"] == "positive"
    dataset.save_to_disk("saved")
    dataset.to_parquet("saved.parquet")
    for stored in ("saved", "saved.parquet"):
        assert values(opened(stored, roles=roles, on_bad_row="skip")) == values(rows)
    renamed = dataset.cast_column("label", datasets.ClassLabel(names=["bad", "good"]))
    assert opened(renamed, on_bad_row="skip").fingerprint() != opened(dataset, on_bad_row="skip").fingerprint()


def test_columns_that_hold_other_values_under_an_old_description_are_read_as_they_are() -> None:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    data = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [1, 0]}, features=datasets.Features(features))
    data.to_parquet("old.parquet")
    table = pq.read_table("old.parquet")
    for column in (["good", "bad"], [0.5, 1.0], [True, False], [7, 0]):
        pq.write_table(table.set_column(1, "label", pa.array(column)), "new.parquet")
        expected = [7, "neg"] if column == [7, 0] else column
        rows = opened("new.parquet", roles={"label": Role(object, "a label")})
        assert [row["label"] for row in rows] == expected


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
        "Say which column plays that role: data.columns.text=COLUMN.\nColumns: sentence, label.\n"
        "If the first line is a row and not a header: data.header=false."
    )
    assert failure(lambda: opened("a.tsv", columns={"text": "sentence", "text_pair": "second"})) == (
        "a.tsv has no column 'second' (data.columns.text_pair). "
        "Say which column plays that role: data.columns.text_pair=COLUMN.\nColumns: sentence, label.\n"
        "If the first line is a row and not a header: data.header=false."
    )
    assert failure(lambda: opened("a.tsv", header=False)).endswith("data.columns.text=COLUMN.\nColumns: 0, 1.")
    assert failure(lambda: opened(put("a.jsonl", '{"sentence": "x"}\n'))).endswith("\nColumns: sentence.")
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
