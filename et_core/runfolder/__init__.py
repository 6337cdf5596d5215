"""The folder of a run: the names in it, files and folders written whole or not at all, and checkpoints that verify."""

from typing import TYPE_CHECKING

from et_core._lazy import exports

if TYPE_CHECKING:
    from et_core.runfolder.atomic import (
        current,
        explain_full_disk,
        file_sha256,
        make_folder,
        settle,
        staged_folder,
        verify,
        verify_model,
        write_bytes,
        write_json,
        write_text,
    )
    from et_core.runfolder.checkpoints import Checkpoints, Loaded
    from et_core.runfolder.folder import RunFolder
    from et_core.runfolder.model_folder import ModelBundle, fill_model, saved_tokenizer, verify_tokenizer, write_model

__all__ = [
    "Checkpoints",
    "Loaded",
    "ModelBundle",
    "RunFolder",
    "current",
    "explain_full_disk",
    "file_sha256",
    "fill_model",
    "make_folder",
    "saved_tokenizer",
    "settle",
    "staged_folder",
    "verify",
    "verify_model",
    "verify_tokenizer",
    "write_bytes",
    "write_json",
    "write_model",
    "write_text",
]

_ORIGINS = {
    "Checkpoints": "et_core.runfolder.checkpoints",
    "Loaded": "et_core.runfolder.checkpoints",
    "ModelBundle": "et_core.runfolder.model_folder",
    "RunFolder": "et_core.runfolder.folder",
    "current": "et_core.runfolder.atomic",
    "explain_full_disk": "et_core.runfolder.atomic",
    "file_sha256": "et_core.runfolder.atomic",
    "fill_model": "et_core.runfolder.model_folder",
    "make_folder": "et_core.runfolder.atomic",
    "saved_tokenizer": "et_core.runfolder.model_folder",
    "settle": "et_core.runfolder.atomic",
    "staged_folder": "et_core.runfolder.atomic",
    "verify": "et_core.runfolder.atomic",
    "verify_model": "et_core.runfolder.atomic",
    "verify_tokenizer": "et_core.runfolder.model_folder",
    "write_bytes": "et_core.runfolder.atomic",
    "write_json": "et_core.runfolder.atomic",
    "write_model": "et_core.runfolder.model_folder",
    "write_text": "et_core.runfolder.atomic",
}

__getattr__, __dir__ = exports(__name__, _ORIGINS)
