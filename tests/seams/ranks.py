"""A plugin of one file and a worker whose ranks do not do the same: what the tests of ddp make fail, wait and join."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import torch

from et_core.errors import DataError
from et_core.hooks import Register, hookimpl
from et_core.interfaces import Schedule, Strategy

ET_API = 1


@hookimpl
def et_register_schedules(register: Register) -> None:
    register("seam-ranks", "ranks:Ranks", summary="Constant; SEAM_RANKS says what else happens")


class RowError(DataError):
    """Known in the processes that load this file alone."""


class Ranks(Schedule):
    def decay(self, progress: float) -> float:
        mode = os.environ.get("SEAM_RANKS")
        if mode == "wait":
            time.sleep(0.3)
        elif mode and progress > 0.3 and torch.distributed.get_rank() == 1:
            self._fail(mode)
        return 1.0

    def _fail(self, mode: str) -> None:
        if mode == "error":
            raise ValueError("a number is missing")
        if mode == "known":
            raise RowError("row 7 has no label.")
        if mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(3)


def join_rows(strategy: Strategy, folder: Path) -> None:
    """Join one row of rank 0 with three of rank 1, each number its own weight, and write what came of it."""
    mine = torch.arange(2.0 if strategy.rank == 0 else 6.0).reshape(-1, 2).requires_grad_()
    joined = strategy.all_gather(mine)
    (joined * torch.arange(8.0).reshape(4, 2)).sum().backward()
    gradient = mine.grad.tolist() if mine.grad is not None else None
    (folder / f"{strategy.rank}.json").write_text(json.dumps([joined.tolist(), gradient]))
