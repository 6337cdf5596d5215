"""Launch a strategy twice, with a worker that trains and one that fails, and write down what each process found."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch

from et_core.api import write_reports
from et_core.config import RunConfig, load_config
from et_core.errors import CheckpointError
from et_core.interfaces import Objective, Prepared, Strategy
from et_core.registry import plugins
from et_core.runfolder import RunFolder
from et_core.testing.parts import child_environment
from et_core.testing.strategy.trouble import fail
from et_core.training import build_strategy, check_config, train_worker
from et_core.training.groups import make_optimizer
from et_core.training.setup import assemble, build_objective

_SETTLE_SECONDS = 2.0
# Not as a module with -m, which each of the processes would run again before it begins.
_START = """
import sys
from pathlib import Path
import torch
from et_core.testing.strategy.job import main
torch.set_num_threads(1)
main(Path(sys.argv[1]))
"""


def start(folder: Path, values: Mapping[str, Any], *, seconds: float) -> str:
    """Do the job in *folder*, with the config *values* of a run; why that failed, or the empty string.

    One that has several processes is launched from a new one, which can be ended with all of them after *seconds*.
    """
    (folder / "job.json").write_text(json.dumps(values), "utf-8")
    if build_strategy(load_config(dict(values)).config).processes == 1:
        try:
            main(folder)
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            return f"{type(error).__name__}: {error}"
        return ""
    return _start_apart(folder, seconds)


def _start_apart(folder: Path, seconds: float) -> str:
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(folder)],
            env=child_environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"it does not end within {seconds:g} seconds"
        finally:
            _end_group(process)
    lines = (folder / "output.txt").read_text("utf-8").strip().splitlines() or ["it says nothing"]
    return lines[-1] if process.returncode else ""


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End all that the job left running, and the job."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(folder: Path) -> None:
    """The job: ``folder / "job.json"`` holds a run's config."""
    before = _children().keys()
    values = json.loads((folder / "job.json").read_text("utf-8"))
    for file in values["plugins"]["files"]:
        plugins().add_file(Path(file))
    runs = []
    for name, resume in (("many", False), ("from-one", True)):
        config = load_config({**values, "output": str(folder / name)}).config
        check_config(config)
        RunFolder.create(folder / name, resume=resume)
        runs.append((config, resume))
    build_strategy(runs[0][0]).launch(_work, folder, runs)
    (folder / "told.json").write_text(json.dumps(_failure(build_strategy(runs[0][0]), before)), "utf-8")


def _failure(strategy: Strategy, before: Container[int]) -> dict[str, Any]:
    """What comes of a launch of which the last process fails, and what runs after it besides those *before*."""
    try:
        strategy.launch(fail)
        text = None
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is looked at
        text = f"{type(error).__name__}: {error}"
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (left := {pid: command for pid, command in _children().items() if pid not in before}) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return {"error": text, "left": list(left.values())}


def _children() -> dict[int, str]:
    """The processes that this one started and that still run, with their command lines, where the system tells."""
    found = {}
    for file in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for pid in file.read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                command = _command(Path("/proc") / pid)
                # Python's own helper of processes ends with this one.
                if command is not None and "resource_tracker" not in command:
                    found[int(pid)] = command
    return found


def _command(process: Path) -> str | None:
    """The command line of *process*, a folder of /proc; None where it ended and only its exit code is kept."""
    has_ended = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return None if has_ended else command.strip()


def _work(strategy: Strategy, folder: Path, runs: list[tuple[RunConfig, bool]]) -> None:
    """In every process: write the facts, and train."""
    for file in runs[0][0].plugins.files:
        plugins().add_file(Path(file))
    facts = {**_exchanged(strategy), "waited": _waited(strategy, folder), **_prepared(strategy, runs[0][0])}
    (folder / f"rank-{strategy.rank}-{os.getpid()}.json").write_text(json.dumps(facts), "utf-8")
    strategy.barrier()
    for config, resume in runs:
        train_worker(strategy, config, Path(str(config.output)), resume, False, write_reports)


def _exchanged(strategy: Strategy) -> dict[str, Any]:
    """What the processes tell each other; the last ones have more rows than the first."""
    rank = strategy.rank
    mine = 10.0 * rank + torch.arange(2.0 * (rank + 1), device=strategy.device).reshape(-1, 2)
    mine.requires_grad_()
    joined = strategy.all_gather(mine)
    if joined.requires_grad:
        weights = torch.arange(float(joined.numel()), device=strategy.device).reshape(joined.shape)
        (joined * weights).sum().backward()  # type: ignore[no-untyped-call]
    return {
        "rank": rank,
        "processes": strategy.processes,
        "main": strategy.is_main,
        "device": str(strategy.device),
        "sum": strategy.sum({"rank": float(rank), "one": 1.0}),
        "gathered": strategy.gather({"rank": rank}),
        "joined": joined.tolist(),
        "gradient": None if mine.grad is None else mine.grad.tolist(),
    }


def _waited(strategy: Strategy, folder: Path) -> bool:
    """Whether a process that comes early finds what the first one, which comes late, did before a barrier."""
    late = folder / "late"
    if strategy.rank == 0:
        time.sleep(1.0)
        late.touch()
    strategy.barrier()
    return late.exists()


def _prepared(strategy: Strategy, config: RunConfig) -> dict[str, Any]:
    """What comes of an objective that the strategy prepares."""
    parts = assemble(config, strategy)
    objective = build_objective(config, parts.app, parts.bundle.model, parts.bundle.tokenizer)
    shapes = {f"model.{name}": list(tensor.shape) for name, tensor in objective.state_dict().items()}

    def optimizers(whole: Objective) -> dict[str, torch.optim.Optimizer]:
        return {phase.name: make_optimizer(whole, phase, config.train) for phase in whole.phases()}

    prepared = strategy.prepare(objective, optimizers)
    state = strategy.state(prepared)
    return {
        "shapes": shapes,
        "state": {name: list(tensor.shape) for name, tensor in state.items()},
        "devices": sorted({str(parameter.device) for parameter in prepared.objective.parameters()}),
        "refused": _refused(strategy, prepared, dict(list(state.items())[1:])),
    }


def _refused(strategy: Strategy, prepared: Prepared, state: dict[str, torch.Tensor]) -> str | None:
    """What is said of a *state* with other names."""
    try:
        strategy.load_state(prepared, {"model.no-such-tensor": torch.zeros(1), **state})
    except CheckpointError as error:
        return str(error)
    return None
