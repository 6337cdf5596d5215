from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from et_core.registry import ModelRef


@dataclass(frozen=True)
class Artifact:
    """The files of a model, found and checked; nothing of it is loaded yet."""

    ref: ModelRef
    """Canonical, with the Hub commit pinned where there is one."""

    family: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """The content of config.json; for fresh weights what the preset states."""

    weights: tuple[Path, ...] = ()
    """Safetensors files; none means fresh weights."""

    tokenizer: Path | None = None
    """The folder that holds the tokenizer's files."""

    license: str | None = None
    origin: str = ""
    """Where the files were found, in words."""

    @property
    def folder(self) -> Path | None:
        return self.weights[0].parent if self.weights else None
