from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from et_core.errors import ConfigError
from et_core.interfaces import Tracker


class TensorBoard(Tracker):
    """Event files under ``tensorboard/`` in the run folder."""

    def __init__(self, *, folder: Path, config: Mapping[str, object]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "train.trackers: tensorboard is not installed: pip install 'et-core[tensorboard]'"
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", f"```\n{config}\n```")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
