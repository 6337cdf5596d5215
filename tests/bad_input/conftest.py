from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.tools import HEADER, ROWS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work where train.tsv lies, so that messages hold no long paths."""
    monkeypatch.chdir(tmp_path)
    Path("train.tsv").write_text(HEADER + ROWS, "utf-8")
    return tmp_path
