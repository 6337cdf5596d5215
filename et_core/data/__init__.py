"""Reading and writing data files, encoding them once, and putting rows into batches of similar length."""

from typing import TYPE_CHECKING

from et_core._lazy import exports

if TYPE_CHECKING:
    from et_core.data.batches import LengthBatches, split_by_budget
    from et_core.data.cache import cached_file, code_fingerprint
    from et_core.data.encode import encode_rows, encode_usable
    from et_core.data.formats import ReadOptions
    from et_core.data.joined import JoinedStore
    from et_core.data.padding import IGNORED_LABEL, collate
    from et_core.data.pretrained import PretrainedTokenizer
    from et_core.data.rows import Rows, open_rows
    from et_core.data.skipped import SkippedFile, SkippedRow
    from et_core.data.store import ExampleStore, cached_store, write_store
    from et_core.data.writers import RowWriter, open_writer

__all__ = [
    "IGNORED_LABEL",
    "ExampleStore",
    "JoinedStore",
    "LengthBatches",
    "PretrainedTokenizer",
    "ReadOptions",
    "RowWriter",
    "Rows",
    "SkippedFile",
    "SkippedRow",
    "cached_file",
    "cached_store",
    "code_fingerprint",
    "collate",
    "encode_rows",
    "encode_usable",
    "open_rows",
    "open_writer",
    "split_by_budget",
    "write_store",
]

_ORIGINS = {
    "ExampleStore": "et_core.data.store",
    "IGNORED_LABEL": "et_core.data.padding",
    "JoinedStore": "et_core.data.joined",
    "LengthBatches": "et_core.data.batches",
    "PretrainedTokenizer": "et_core.data.pretrained",
    "ReadOptions": "et_core.data.formats",
    "RowWriter": "et_core.data.writers",
    "Rows": "et_core.data.rows",
    "SkippedFile": "et_core.data.skipped",
    "SkippedRow": "et_core.data.skipped",
    "cached_file": "et_core.data.cache",
    "cached_store": "et_core.data.store",
    "code_fingerprint": "et_core.data.cache",
    "collate": "et_core.data.padding",
    "encode_rows": "et_core.data.encode",
    "encode_usable": "et_core.data.encode",
    "open_rows": "et_core.data.rows",
    "open_writer": "et_core.data.writers",
    "split_by_budget": "et_core.data.batches",
    "write_store": "et_core.data.store",
}

__getattr__, __dir__ = exports(__name__, _ORIGINS)
