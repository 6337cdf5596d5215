"""Real distributions in a folder, so that tests go through the discovery that users have."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from et_core.registry import GROUP, PluginSet

EMPTY_PLUGIN = "ET_API = 1\n"


def registering(*calls: str, kind: str = "backbones", api: int = 1) -> str:
    """The source of a plugin module whose hook for *kind* makes *calls*."""
    body = "".join(f"    {call}\n" for call in calls or ("pass",))
    return f"from et_core.hooks import hookimpl\nET_API = {api}\n\n@hookimpl\ndef et_register_{kind}(register):\n{body}"


def fake_dist(
    folder: Path,
    name: str,
    *,
    version: str = "1.0",
    module_source: str = EMPTY_PLUGIN,
    entry_points: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    metadata: str = "",
) -> str:
    """Write a dist-info folder and the package it describes into *folder*, as pip would; return the package's name.

    *module_source* becomes ``<package>/_plugin.py``, and the one entry point names it unless *entry_points* says
    otherwise. *files* are further modules of the package, *metadata* further lines of METADATA.
    """
    package = name.replace("-", "_").replace(".", "_")
    points = {name: f"{package}._plugin"} if entry_points is None else entry_points
    sources = {"__init__.py": "", "_plugin.py": module_source, **(files or {})}
    info = folder / f"{package}-{version}.dist-info"
    (folder / package).mkdir(parents=True, exist_ok=True)
    info.mkdir()
    for file, source in sources.items():
        (folder / package / file).write_text(source, "utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}", "utf-8")
    lines = [f"[{GROUP}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return package


@contextmanager
def on_path(*folders: Path) -> Iterator[None]:
    """Put *folders* first on sys.path, and forget afterwards what was imported from them.

    Real plugins that some test has imported already are put aside meanwhile: a fake one may have their name.
    """
    real = {package for package in (name.partition(".")[0] for name in sys.modules) if package.startswith("et_")}
    aside = {name: sys.modules[name] for name in list(sys.modules) if name.partition(".")[0] in real - {"et_core"}}
    for name in aside:
        del sys.modules[name]
    path, modules = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(folder) for folder in folders]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            origin = getattr(sys.modules[name], "__file__", None) or ""
            if any(Path(origin).is_relative_to(folder) for folder in folders):
                del sys.modules[name]
        sys.modules.update(aside)
        importlib.invalidate_caches()


def load(*folders: Path, **options: Any) -> PluginSet:
    """The plugins of *folders* alone, whatever else is installed."""
    found = importlib.metadata.distributions(path=[str(folder) for folder in folders])
    return PluginSet((point for one in found for point in one.entry_points.select(group=GROUP)), **options)


def run_python(
    code: str, *folders: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run *code* in a new process that finds *folders* through PYTHONPATH, beside what is installed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ET_")}
    path = os.pathsep.join(str(folder) for folder in folders)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "PYTHONPATH": path, "PYTHONWARNINGS": "error", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
