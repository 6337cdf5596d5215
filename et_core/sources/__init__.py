"""Where weights come from: named presets, the Hugging Face Hub, local folders, and fresh ones."""

from et_core._lazy import exports

# Not lazy: the function has its module's name, and would be hidden by it once the module is imported.
from et_core.sources.resolve import describe, leads_to, resolve

_ORIGINS = {
    "FolderFiles": "et_core.sources.files",
    "HubSource": "et_core.sources.hub",
    "InitSource": "et_core.sources.init",
    "LocalSource": "et_core.sources.local",
    "Pin": "et_core.sources.pin",
    "ZooSource": "et_core.sources.zoo",
    "pin_presets": "et_core.sources.pin",
    "preset_files": "et_core.sources.pin",
    "read_folder": "et_core.sources.files",
}

__all__ = [
    "FolderFiles",
    "HubSource",
    "InitSource",
    "LocalSource",
    "Pin",
    "ZooSource",
    "describe",
    "leads_to",
    "pin_presets",
    "preset_files",
    "read_folder",
    "resolve",
]
__getattr__, __dir__ = exports(__name__, _ORIGINS)
