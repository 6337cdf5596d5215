"""Import one Python file as a plugin's module, for components that are not packaged."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from et_core.errors import PluginError


def check_file(path: Path) -> None:
    """PluginError where *path* cannot be a plugin; nothing is run."""
    if not path.exists():
        raise PluginError(f"{path}: there is no such file.")
    if not path.is_file() or path.suffix != ".py":
        raise PluginError(f"{path} is not a Python file.")
    if not path.stem.isidentifier():
        raise PluginError(f"{path}: targets name the file as their module. Rename it to a Python name: my_plugin.py")
    taken = _module_of_that_name(path)
    if taken:
        raise PluginError(f"{path}: {path.stem!r} is already the name of {taken}. Rename the file.")


def import_file(path: Path) -> ModuleType:
    """Run *path* as the module named like its stem, once for a process; a failure leaves no module behind."""
    known = sys.modules.get(path.stem)
    if known is not None:
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def forget_file(path: Path) -> None:
    """Drop the module again, so that a mended file is read anew."""
    sys.modules.pop(path.stem, None)


def _module_of_that_name(path: Path) -> str:
    """What else the stem imports, in words; the empty string for nothing."""
    known = sys.modules.get(path.stem)
    if known is not None:
        return "" if getattr(known, "__file__", None) == str(path) else "an imported module"
    spec = importlib.util.find_spec(path.stem)
    if spec is None or spec.origin is None or Path(spec.origin).resolve() == path:  # no origin: a mere folder
        return ""
    return "an installed module"
