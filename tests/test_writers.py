from __future__ import annotations

import csv
import datetime
import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from et_core.data import ReadOptions, open_rows
from et_core.data.writers import open_writer
from et_core.errors import DataError, RunFolderError
from et_core.interfaces.app import Role

ROWS: list[dict[str, Any]] = [
    {"text": "a film", "label": "good", "score": 0.75, "probabilities": {"good": 0.75, "bad": 0.25}},
    {"text": '电影, "x"', "label": "bad", "score": 0.5, "probabilities": {"good": 0.5, "bad": 0.5}},
]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def write(name: str | Path, rows: list[dict[str, Any]], **options: Any) -> None:
    with open_writer(name, **options) as writer:
        for row in rows:
            writer.write([row])


def read(name: str, *columns: str) -> list[dict[str, Any]]:
    roles = {column: Role(object, "", required=False) for column in columns}
    return [dict(row) for row in open_rows(name, ReadOptions(), roles=roles, need_targets=False)]


def test_jsonl_holds_native_values() -> None:
    write("a.jsonl", ROWS)
    assert [json.loads(line) for line in Path("a.jsonl").read_text("utf-8").splitlines()] == ROWS
    assert "电影" in Path("a.jsonl").read_text("utf-8")


def test_tsv_and_csv_hold_lists_and_dicts_as_json() -> None:
    write("a.tsv", ROWS)
    assert Path("a.tsv").read_text("utf-8").splitlines() == [
        "text\tlabel\tscore\tprobabilities",
        'a film\tgood\t0.75\t{"good":0.75,"bad":0.25}',
        '电影, "x"\tbad\t0.5\t{"good":0.5,"bad":0.5}',
    ]
    write("a.csv", ROWS)
    with Path("a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file))[2] == ['电影, "x"', "bad", "0.5", '{"good":0.5,"bad":0.5}']


def test_parquet_holds_dicts_as_structs_in_row_groups() -> None:
    import pyarrow.parquet as pq

    rows = [{**ROWS[0], "score": float(n)} for n in range(20_000)]
    with open_writer("a.parquet") as writer:
        writer.write(rows[:7])
        writer.write(rows[7:])
    assert pq.read_table("a.parquet").to_pylist() == rows
    assert pq.ParquetFile("a.parquet").num_row_groups == 3


@pytest.mark.parametrize("extension", ["tsv", "csv", "jsonl"])
def test_gzipped_text_equals_plain_text_and_itself(extension: str) -> None:
    write(f"a.{extension}", ROWS)
    write(f"a.{extension}.gz", ROWS)
    write(f"b.{extension}.gz", ROWS)
    assert gzip.decompress(Path(f"a.{extension}.gz").read_bytes()) == Path(f"a.{extension}").read_bytes()
    assert Path(f"a.{extension}.gz").read_bytes() == Path(f"b.{extension}.gz").read_bytes()


def test_tsv_is_read_back_as_it_was_but_for_tabs_and_line_ends() -> None:
    texts = ["plain", "a\tb", "a\nb\r", "a\\tb", "C:\\new", "\\", ""]
    write("a.tsv", [{"id": str(n), "text": text} for n, text in enumerate(texts)])
    expected = ["plain", "a b", "a b ", "a\\tb", "C:\\new", "\\", ""]
    assert read("a.tsv", "id", "text") == [{"id": str(n), "text": text} for n, text in enumerate(expected)]
    with pytest.raises(DataError, match=r"^b\.tsv: a TSV file of one column cannot hold an empty value\."):
        write("b.tsv", [{"text": "x"}, {"text": ""}])


@pytest.mark.parametrize("extension", ["csv", "csv.gz", "jsonl", "parquet"])
def test_any_text_is_read_back_as_it_was(extension: str) -> None:
    letters = random.Random(0).choices('ab ,"\n\r\t\\\u2028\x0c电😀', k=3000)
    texts = ["".join(letters[start : start + 6]) for start in range(0, 3000, 6)]
    write(f"a.{extension}", [{"id": "x", "text": text} for text in texts])
    assert [row["text"] for row in read(f"a.{extension}", "id", "text")] == texts


def test_values_of_other_libraries_are_written() -> None:
    row = {
        "n": np.int64(3),
        "x": np.float32(0.5),
        "v": np.array([1, 2]),
        "d": datetime.date(2026, 1, 2),
        "m": Decimal("1.5"),
    }
    write("a.jsonl", [row])
    assert json.loads(Path("a.jsonl").read_text()) == {"n": 3, "x": 0.5, "v": [1, 2], "d": "2026-01-02", "m": "1.5"}
    write("a.tsv", [{**row, "none": None, "yes": True}])
    assert Path("a.tsv").read_text().splitlines()[1] == "3\t0.5\t[1,2]\t2026-01-02\t1.5\t\tTrue"
    write("a.parquet", [row])
    assert read("a.parquet", *row) == [{"n": 3, "x": 0.5, "v": [1, 2], "d": row["d"], "m": row["m"]}]


def test_jsonl_is_valid_json_whatever_the_values() -> None:
    write("a.jsonl", [{"x": float("nan"), "v": [np.float32("inf"), 1.0], "text": "\ud800"}])
    line = Path("a.jsonl").read_bytes()
    assert json.loads(line, parse_constant=lambda name: pytest.fail(name)) == {
        "x": None,
        "v": [None, 1.0],
        "text": "\ud800",
    }


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a.tsv", [{"a": 1}, {"a": 1, "b": 2}], "a.tsv: row 2 has columns that the first row lacks: 'b'. Write .jsonl"),
        ("a.csv", [{"a": "\ud800"}], "a.csv: a value holds '\\ud800', half of a surrogate pair, which is not text."),
        ("a.jsonl", [{"a": b"x"}], "a.jsonl: a value cannot be written as JSON: bytes is no JSON type. Write .parquet"),
        ("a.parquet", [{"a": 1}, {"a": "x"}], "a.parquet: column 'a' holds values that no one type holds"),
        ("a.parquet", [{"a": b"x"}, {"a": "x"}], "a.parquet: column 'a' holds text and bytes. Write .jsonl"),
        ("a.parquet", [{"a": "\ud800"}], "a.parquet: column 'a' holds values that no one type holds"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(name: str, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError) as caught:
        write(name, rows)
    assert str(caught.value).startswith(message)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("first", "later", "problem"),
    [
        (1, 2.5, "double after rows of int64"),
        ("x", 1, "int64 after rows of string"),
        ({"a": 1}, {"a": 1, "b": 2}, "struct<a: int64, b: int64> after rows of struct<a: int64>"),
        ([1], ["x"], "list<item: string> after rows of list<item: int64>"),
    ],
)
def test_parquet_refuses_to_change_a_later_value(first: Any, later: Any, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        write("a.parquet", [{"v": first}] * 8192 + [{"v": later}] * 8192)
    assert str(caught.value).startswith(f"a.parquet: column 'v' holds {problem}. Write .jsonl")
    assert list(Path.cwd().iterdir()) == []


def test_parquet_widens_what_loses_nothing() -> None:
    first = {"a": 1.5, "b": None, "c": [], "d": {"x": 1, "y": 2}, "e": {}}
    later = {"a": 2, "b": "text", "c": None, "d": {"x": 1}, "e": None}
    with open_writer("a.parquet") as writer:
        writer.write([first] * 8192)
        writer.write([later, {"a": None}])
    rows = read("a.parquet", "a", "b", "c", "d")
    assert rows[0] == {"a": 1.5, "c": [], "d": {"x": 1, "y": 2}}
    assert rows[8192:] == [{"a": 2.0, "b": "text", "d": {"x": 1, "y": None}}, {}]


@pytest.mark.parametrize("extension", ["tsv", "csv", "jsonl", "parquet", "tsv.gz"])
def test_no_rows_give_an_empty_file(extension: str) -> None:
    with open_writer(f"a.{extension}"):
        pass
    assert [path.name for path in Path.cwd().iterdir()] == [f"a.{extension}"]


def write_and_be_interrupted(target: Path) -> None:
    with open_writer(target) as writer:
        writer.write(ROWS * 9000)
        assert target.with_name(f"{target.name}.partial").exists()
        assert target.read_bytes() == b"old"
        raise KeyboardInterrupt


@pytest.mark.parametrize("extension", ["tsv", "jsonl.gz", "parquet"])
def test_a_failure_leaves_the_old_file_and_nothing_else(extension: str) -> None:
    target = Path(f"a.{extension}")
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_and_be_interrupted(target)
    assert [path.name for path in Path.cwd().iterdir()] == [target.name]
    assert target.read_bytes() == b"old"


def test_a_killed_process_leaves_no_file_under_the_final_name() -> None:
    code = (
        "import os, signal; from et_core.data.writers import open_writer\n"
        "with open_writer('a.tsv') as writer:\n"
        "    writer.write([{'a': 1}] * 99999); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert [path.name for path in Path.cwd().iterdir()] == ["a.tsv.partial"]
    write("a.tsv", [{"a": 2}])
    assert [path.name for path in Path.cwd().iterdir()] == ["a.tsv"]


def test_a_link_stays_a_link() -> None:
    Path("real.tsv").write_text("old")
    Path("link.tsv").symlink_to("real.tsv")
    write("link.tsv", [{"a": 1}])
    assert Path("link.tsv").is_symlink()
    assert Path("real.tsv").read_text() == "a\n1\n"


@pytest.mark.parametrize("extension", ["tsv", "csv.gz", "jsonl", "parquet"])
def test_a_full_disk_is_told_and_leaves_nothing(small_disk: Path, extension: str) -> None:
    noise = random.Random(0)
    rows = [{"n": noise.random(), "m": noise.random()} for _ in range(20_000)]
    target = small_disk / f"a.{extension}"
    with pytest.raises(RunFolderError) as caught, open_writer(target) as writer:
        writer.write(rows)
    assert str(caught.value) == f"disk full while writing {target}. Free some space, or write elsewhere."
    assert list(small_disk.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("format_name", ["tsv", "csv", "jsonl", "parquet"])
def test_a_full_device_is_told(format_name: str) -> None:
    with pytest.raises(RunFolderError, match=r"^disk full while writing /dev/full"):
        write("/dev/full", ROWS, format=format_name)


def test_a_pipe_is_written_directly() -> None:
    os.mkfifo("pipe.jsonl")
    with subprocess.Popen(["cat", "pipe.jsonl"], stdout=subprocess.PIPE) as reader:
        write("pipe.jsonl", ROWS)
        assert reader.stdout is not None
        assert [json.loads(line) for line in reader.stdout] == ROWS
    assert [path.name for path in Path.cwd().iterdir()] == ["pipe.jsonl"]


def run_writer(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from et_core.data.writers import open_writer; from et_core.errors import EtError\n"
        "try:\n"
        "    with open_writer('-', format=sys.argv[1] if sys.argv[1:] else None) as writer: writer.write([{'a': 1}])\n"
        "except EtError as error: sys.exit(str(error))\n"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], text=True, check=False, **options)


def test_standard_output_is_jsonl_unless_told_otherwise() -> None:
    assert run_writer(capture_output=True).stdout == '{"a": 1}\n'
    assert run_writer("tsv", capture_output=True).stdout == "a\n1\n"
    assert "unknown format 'xlsx'" in run_writer("xlsx", capture_output=True).stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_on_a_full_disk_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        result = run_writer(stdout=full, stderr=subprocess.PIPE)
    assert result.stderr == "disk full while writing standard output. Free some space, or write elsewhere.\n"
    assert result.returncode == 1


def test_a_chosen_format_wins_over_the_extension() -> None:
    write("a.parquet", [{"a": 1}], format="tsv")
    assert Path("a.parquet").read_text("utf-8") == "a\n1\n"
    write("a.tsv.gz", [{"a": 1}], format="csv")
    assert gzip.decompress(Path("a.tsv.gz").read_bytes()) == b"a\n1\n"
    for name, options in (("b.parquet.gz", {}), ("b.parquet.gz", {"format": "parquet"})):
        with pytest.raises(DataError) as caught:
            open_writer(name, **options)
        assert str(caught.value) == (
            "b.parquet.gz: a parquet file is compressed as it is. Write it without .gz: b.parquet"
        )


def test_targets_that_cannot_be_written_are_refused_at_once() -> None:
    Path("folder.tsv").mkdir()
    for target, message in {
        "out/a.tsv": "cannot write out/a.tsv: there is no folder out. Create it: mkdir -p 'out'",
        "folder.tsv": "cannot write folder.tsv: it is a folder. Name a file in it.",
    }.items():
        with pytest.raises(RunFolderError) as caught:
            open_writer(target)
        assert str(caught.value) == message
    with pytest.raises(DataError) as unknown:
        open_writer("a.txt")
    assert str(unknown.value) == (
        "a.txt: the extension does not say a known format.\n"
        "Known extensions: .tsv, .csv, .jsonl, .parquet, and .tsv.gz, .csv.gz, .jsonl.gz."
    )
