"""Kill a run at chosen moments and continue it: ``python -m tests.seams.kills CONFIG.json FOLDER KILLS``.

An event is an optimiser step, an fsync, or a rename: whatever a run does that lasts. The run is first made undisturbed,
then once for each of KILLS moments spread over all events: killed there, continued, and in turn killed several times.
Forks, so that torch is imported once. Prints one JSON object a run.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from et_core import api
from et_core.training.loop import Loop


def counted(function: Callable[..., Any], at: int, seen: list[str], name: str) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        if len(seen) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return wrapper


def child(config: dict[str, Any], output: Path, *, resume: bool, kill_at: int = 0) -> tuple[int, list[str]]:
    """Train in a fork that is killed at the event number *kill_at*; return its status and the events it came to."""
    report = output.with_name(f"{output.name}.events")
    report.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        seen: list[str] = []
        os.fsync = counted(os.fsync, kill_at, seen, "fsync")
        os.rename = counted(os.rename, kill_at, seen, "rename")
        os.replace = counted(os.replace, kill_at, seen, "rename")
        Loop._step = counted(Loop._step, kill_at, seen, "step")  # type: ignore[method-assign]
        status = 1
        try:
            api.train(config, {"output": str(output)}, resume=resume, progress=False)
            status = 0
            report.write_text(json.dumps(seen))
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), json.loads(report.read_text()) if report.exists() else []


def say(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> None:
    config, folder, kills = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), int(sys.argv[3])
    # Imported late by a run; only imported here, because threads that a run starts would not survive a fork.
    for name in ("matplotlib.pyplot", "sklearn.metrics", "jinja2", "et_core.report.plots", "torch.optim.adamw"):
        importlib.import_module(name)
    child(config, folder / "warm", resume=False)
    status, events = child(config, folder / "whole", resume=False)
    say(run="whole", statuses=[status], events=events)
    for number in range(kills):
        at = 1 + number * (len(events) - 1) // max(1, kills - 1)
        output = folder / f"killed-{at}"
        statuses = [child(config, output, resume=False, kill_at=at)[0], child(config, output, resume=True)[0]]
        say(run=output.name, statuses=statuses)
    output, statuses = folder / "killed-often", []
    while len(statuses) < 40 and 0 not in statuses:
        # An odd number of events further each time, so that the kills fall into different places.
        statuses.append(child(config, output, resume=bool(statuses), kill_at=5 + 3 * len(statuses))[0])
    say(run=output.name, statuses=statuses)


if __name__ == "__main__":
    main()
