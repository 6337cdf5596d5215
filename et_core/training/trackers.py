from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from et_core.errors import ConfigError
from et_core.interfaces import Tracker
from et_core.runfolder import RunFolder


class TensorBoard(Tracker):
    """Event files under ``tensorboard/`` in the run folder."""

    def __init__(self, *, folder: Path, config: Mapping[str, object]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "train.trackers: tensorboard is not installed: pip install 'et-core[tensorboard]'"
            ) from error
        run = RunFolder(folder)
        first = 1 + max((line["step"] for line in run.read_metrics()), default=0)
        # Readers drop what an earlier start of the run wrote from this step on.
        self._writer = SummaryWriter(str(run.tensorboard), purge_step=first)
        self._writer.add_text("config", f"```\n{config}\n```", first)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
