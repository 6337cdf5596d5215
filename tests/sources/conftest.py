from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from et_core.registry import plugins, refresh
from et_core.sources.hub import HubSource
from tests.hub_server import HubServer
from tests.sources.tools import PLUGIN, write_folder


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def source(hub: HubServer, tmp_path: Path) -> HubSource:
    return HubSource(endpoint=hub.url, cache=tmp_path / "cache")


@pytest.fixture
def add_presets(tmp_path: Path) -> Iterator[Any]:
    """Call it to install the presets of PLUGIN as a plugin file, the pinned one at *commit* with *sha256*."""
    stem = f"presets_{os.getpid()}_{abs(hash(tmp_path))}"

    def add(*, commit: str = "", sha256: str = "") -> None:
        path = tmp_path / f"{stem}.py"
        path.write_text(PLUGIN.replace("STEM", stem).replace("COMMIT", commit).replace("SHA", sha256))
        plugins().add_file(path)

    yield add
    sys.modules.pop(stem, None)
    refresh()


@pytest.fixture
def weights_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of weights that cannot be imported: it must be enough to find it."""
    folder = write_folder(tmp_path / "site" / "weights_package", {"__init__.py": b"raise RuntimeError('imported')"})
    monkeypatch.syspath_prepend(folder.parent)
    return folder
