from __future__ import annotations

import gzip
import json

import pytest

from tests.rows.tools import RECORDS, failure, opened, put, values


def test_a_json_file_of_lines_is_read_as_jsonl() -> None:
    put("a.json", "".join(f"{json.dumps(record)}\n" for record in RECORDS))
    assert values(opened("a.json")) == RECORDS
    assert next(iter(opened("a.json"))).where == "a.json line 1"


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_file_of_one_array_is_read_by_item(indent: int | None) -> None:
    put("a.json", "\n" + json.dumps(RECORDS, indent=indent, ensure_ascii=False))
    rows = opened("a.json")
    assert values(rows) == RECORDS
    assert [row.where for row in rows] == ["a.json item 1", "a.json item 2", "a.json item 3"]
    assert len(rows) == 3


def test_a_zipped_one_too() -> None:
    put("a.json.gz", gzip.compress(json.dumps(RECORDS).encode()))
    assert values(opened("a.json.gz")) == RECORDS


def test_what_is_wrong_with_an_array_names_its_place() -> None:
    put("a.json", '[\n  {"text": "x", "label": "y"},\n  {"text": }\n]\n')
    assert failure(lambda: values(opened("a.json"))) == "a.json line 3: invalid JSON at column 12: Expecting value."
    put("b.json", '[{"text": "x", "label": "y"}, "z"]')
    assert failure(lambda: values(opened("b.json"))).startswith(
        "b.json item 2: a string where a JSON object is expected."
    )
    put("c.json", '[{"text": "x", "label": "y"}, {"text": "x"}]')
    assert failure(lambda: values(opened("c.json"))).startswith("c.json item 2: column 'label' is missing")
    put("d.json", b'[{"text": "\xff", "label": "y"}]')
    assert failure(lambda: values(opened("d.json"))).startswith(
        "d.json line 1: byte 12 of the line (0xff) is not UTF-8."
    )


@pytest.mark.parametrize("text", ["", "\n\n", "[]"])
def test_an_empty_one_says_so(text: str) -> None:
    put("a.json", text)
    assert failure(lambda: opened("a.json")) == "a.json is empty."
