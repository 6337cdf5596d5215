"""Sources of rows that the tests of reading share."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from et_core.data import ReadOptions, Rows, open_rows
from et_core.errors import ConfigError, DataError
from et_core.interfaces.app import Role

ROLES = {
    "text": Role(str, "the text"),
    "text_pair": Role(str, "a second text", required=False),
    "label": Role(str, "the class", target=True),
}


RECORDS = [{"text": "a film", "label": "good"}, {"text": 'a "play"', "label": "bad"}, {"text": "电影", "label": "good"}]


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
