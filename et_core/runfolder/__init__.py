"""The folder of a run: the names in it, files and folders written whole or not at all, and checkpoints that verify."""

from et_core.runfolder.atomic import (
    current,
    explain_full_disk,
    make_folder,
    settle,
    staged_folder,
    verify,
    write_bytes,
    write_json,
    write_text,
)
from et_core.runfolder.checkpoints import Checkpoints, Loaded
from et_core.runfolder.folder import RunFolder
from et_core.runfolder.model_folder import ModelBundle

__all__ = [
    "Checkpoints",
    "Loaded",
    "ModelBundle",
    "RunFolder",
    "current",
    "explain_full_disk",
    "make_folder",
    "settle",
    "staged_folder",
    "verify",
    "write_bytes",
    "write_json",
    "write_text",
]
