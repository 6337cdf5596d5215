"""Be killed at a chosen moment: ``python -m tests.seams.kills CONFIG.json FOLDER KILL_AT [--resume] [--distill]``.

An event is an optimiser step, an fsync, or a change of names in a folder: whatever a run does that lasts. SIGKILL comes
in place of the event number KILL_AT, counted from 1; 0 lets the run end, and writes its events to FOLDER.events.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from et_core import api
from et_core.training.loop import Loop

_NAMES = ("fsync", "mkdir", "rename", "replace", "rmdir", "unlink")


class Events:
    def __init__(self, folder: Path, kill_at: int) -> None:
        self.seen: list[str] = []
        self._folder = folder
        self._kill_at = kill_at

    def counted(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.count(name, args[0])
            return function(*args, **kwargs)

        return wrapper

    def count(self, name: str, subject: Any) -> None:
        if name == "fsync":
            subject = Path(f"/proc/self/fd/{subject}").resolve()
        path = Path(subject)
        # What is removed together with its folder comes as a bare name.
        if path.is_absolute():
            if not path.is_relative_to(self._folder):
                return
            path = path.relative_to(self._folder)
        self.seen.append(f"{name} {path}")
        if len(self.seen) == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    config, folder, kill_at = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), int(sys.argv[3])
    events = Events(folder, kill_at)
    for name in _NAMES:
        setattr(os, name, events.counted(getattr(os, name), name))
    step = Loop._step

    def counted_step(loop: Loop, index: int, *rest: Any) -> bool:
        events.count("step", str(index))
        return step(loop, index, *rest)

    Loop._step = counted_step  # type: ignore[method-assign]
    run = api.distill if "--distill" in sys.argv else api.train
    run(config, {"output": str(folder)}, resume="--resume" in sys.argv, progress=False)
    folder.with_name(f"{folder.name}.events").write_text(json.dumps(events.seen))


if __name__ == "__main__":
    main()
