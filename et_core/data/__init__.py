"""Reading and writing data files, encoding them once, and putting rows into batches of similar length."""

from et_core.data.batches import LengthBatches, share, split_by_budget
from et_core.data.collate import IGNORED_LABEL, collate
from et_core.data.encode import encode_rows
from et_core.data.formats import ReadOptions
from et_core.data.pretrained import PretrainedTokenizer
from et_core.data.rows import Rows, SkippedRow, open_rows
from et_core.data.store import ExampleStore, cached_store, write_store
from et_core.data.writers import RowWriter, open_writer

__all__ = [
    "IGNORED_LABEL",
    "ExampleStore",
    "LengthBatches",
    "PretrainedTokenizer",
    "ReadOptions",
    "RowWriter",
    "Rows",
    "SkippedRow",
    "cached_store",
    "collate",
    "encode_rows",
    "open_rows",
    "open_writer",
    "share",
    "split_by_budget",
    "write_store",
]
