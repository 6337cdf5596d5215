from __future__ import annotations

from pathlib import Path

import pytest

from tests.distill.tools import train_teacher, write_rows


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of training rows."""
    return write_rows(tmp_path_factory.mktemp("rows") / "train.tsv")


@pytest.fixture(scope="module")
def teacher(source: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The reference of a run that learned from *source*."""
    return train_teacher(tmp_path_factory.mktemp("teachers") / "sst2", source)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that begins empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ET_CACHE_DIR", str(folder))
    return folder
