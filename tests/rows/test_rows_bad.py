from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.rows.tools import RECORDS, failure, opened, put, values


def test_missing_files_are_named_with_near_ones() -> None:
    Path("data").mkdir()
    put("data/train.tsv", "text\nx\n")
    message = failure(lambda: opened("data/trian.tsv"))
    assert message == (
        "there is no file 'data/trian.tsv'. Did you mean 'data/train.tsv'?\n"
        f"Files in data: train.tsv.\nPaths are relative to {Path.cwd()}."
    )
    assert failure(lambda: opened("data/nope.tsv")).startswith("there is no file 'data/nope.tsv'.\nFiles in data: ")
    assert "Did you mean 'data/train.tsv'?" in failure(lambda: opened("data/train.csv"))
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
    known = (
        "Known extensions: .tsv, .csv, .jsonl, .json, .parquet, .arrow, "
        "and .tsv.gz, .csv.gz, .jsonl.gz, .json.gz, .parquet.gz, .arrow.gz."
    )
    put("a.xlsx", "x")
    assert failure(lambda: opened("a.xlsx")) == f"a.xlsx: the extension does not say a known format.\n{known}"
    put("a.parqet", "x")
    assert "Did you mean '.parquet'?" in failure(lambda: opened("a.parqet"))
    put("data.txt", "text\tlabel\nx\tgood\n")
    assert len(opened("data.txt", format_name="tsv")) == 1
    put("data.parquet", "text\tlabel\nx\tgood\n")
    assert len(opened("data.parquet", format_name="tsv")) == 1


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
        (
            "a.tsv.gz",
            gzip.compress(b"text\tlabel\n" + b"x\ty\n" * 999, mtime=0)[:-20],
            "a.tsv.gz is not a complete gzip file",
        ),
        ("a.tsv.gz", b"text\tlabel\nx\ty\n", "a.tsv.gz is not a complete gzip file: Not a gzipped file"),
        ("a.parquet.gz", gzip.compress(b"x" * 9999, mtime=0)[:-12], "a.parquet.gz is not a complete gzip file: "),
        ("a.arrow.gz", b"ARROW1", "a.arrow.gz is not a complete gzip file: Not a gzipped file"),
        ("a.parquet.gz", gzip.compress(b"PAR1 nothing", mtime=0), "a.parquet.gz is no complete parquet file"),
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
