from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from torch.distributed import DistError, Store, TCPStore  # type: ignore[attr-defined]

from et_core.errors import EtError, Interrupted
from et_core.registry import plugins

Enter = Callable[[int, Store, Callable[..., None], tuple[Any, ...]], None]
_JOIN_SECONDS = 10.0
_SETTLE_SECONDS = 2.0


class _Kind(IntEnum):
    """How likely a failure is the cause of the others, the likeliest first."""

    ERROR = 0
    DEATH = 1
    LOST_PEER = 2


@dataclass(frozen=True)
class _Failure:
    kind: _Kind
    time: float
    error: EtError


def start_processes(enter: Enter, processes: int, worker: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Run ``enter(rank, store, worker, args)`` in *processes* fresh processes on this machine and wait for them.

    The first failure ends the others and is raised here: an EtError as it is, anything else as an EtError that holds
    the rank and its traceback. That a rank lost another one counts only where nothing else is known. A signal to this
    process is passed on.
    """
    # Port 0: the kernel picks a free one, so two runs never collide.
    store = TCPStore("127.0.0.1", 0, world_size=None, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    # As bytes: what comes from a plugin file can only be read back once that file is loaded there.
    job = bytes(ForkingPickler.dumps((enter, worker, args)))
    files = [plugin.origin for plugin in plugins().plugins if plugin.origin]
    children: list[BaseProcess] = []
    reports: list[Connection] = []
    for rank in range(processes):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(job, files, rank, store.port, os.getpid(), sender), daemon=True)
        child.start()
        sender.close()
        children.append(child)
        reports.append(receiver)
    with _pass_signals_on(children) as passed_on:
        failure = _first_failure(children, reports)
        _end(children, at_once=failure is not None)
    if passed_on and failure is not None and not isinstance(failure, Interrupted):
        # It came before or after training, where a process only ends by it: this one does as well.
        signal.raise_signal(passed_on[0])
    if failure is not None:
        raise failure


def _child(job: bytes, files: list[str], rank: int, port: int, parent: int, report: Connection) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        for file in files:
            plugins().add_file(Path(file))
        enter, worker, args = pickle.loads(job)
        enter(rank, TCPStore("127.0.0.1", port, world_size=None, is_master=False), worker, args)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent has to hear of it
        report.send_bytes(_pack(error, rank))
    else:
        report.send_bytes(b"")
    report.close()


def _end_with(parent: int) -> None:
    """End this process soon after its parent, also when that was killed without a chance to say so."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _pack(error: BaseException, rank: int) -> bytes:
    now = time.monotonic()
    if isinstance(error, EtError):
        # A plugin's own subclass may not be importable in the parent.
        cls = next(base for base in type(error).__mro__ if base.__module__ == EtError.__module__)
        return pickle.dumps((_Kind.ERROR, now, cls, str(error), getattr(error, "signal_number", None)))
    # gloo and NCCL have no class of error of their own for a connection that broke.
    lost = isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
    text = f"rank {rank} failed:\n{''.join(traceback.format_exception(error))}"
    return pickle.dumps((_Kind.LOST_PEER if lost else _Kind.ERROR, now, EtError, text, None))


def _unpack(data: bytes) -> _Failure:
    kind, when, cls, message, number = pickle.loads(data)
    return _Failure(kind, when, cls(message) if number is None else cls(message, signal_number=number))


def _first_failure(children: list[BaseProcess], reports: list[Connection]) -> EtError | None:
    """Wait until all have ended, or for a moment after the first failure: what caused it may be heard of later."""
    running = set(range(len(children)))
    failures: list[_Failure] = []
    while running:
        timeout = max(0.0, failures[0].time + _SETTLE_SECONDS - time.monotonic()) if failures else None
        signs = [sign for rank in running for sign in (reports[rank], children[rank].sentinel)]
        ready = wait(signs, timeout)
        if not ready:
            break
        for rank in sorted(running):
            if reports[rank] in ready or children[rank].sentinel in ready:
                running.remove(rank)
                failure = _outcome(rank, children[rank], reports[rank])
                failures += [failure] if failure else []
    return min(failures, key=lambda failure: (failure.kind, failure.time)).error if failures else None


def _outcome(rank: int, child: BaseProcess, report: Connection) -> _Failure | None:
    try:
        data = report.recv_bytes() if report.poll() else None
    except EOFError:
        data = None
    if data is not None:
        return _unpack(data) if data else None
    now = time.monotonic()
    child.join(_JOIN_SECONDS)
    code = child.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " A system that is short of memory does that." if name == "SIGKILL" else ""
        return _Failure(_Kind.DEATH, now, EtError(f"rank {rank} was ended by {name}.{hint}"))
    return _Failure(_Kind.DEATH, now, EtError(f"rank {rank} ended without a word (exit code {code})."))


def _end(children: list[BaseProcess], *, at_once: bool) -> None:
    if at_once:
        # Ranks that stopped on the same signal are writing nothing; they get a moment to leave by themselves.
        deadline = time.monotonic() + 1.0
        for child in children:
            child.join(max(0.0, deadline - time.monotonic()))
        for child in children:
            if child.is_alive():
                child.kill()
    for child in children:
        child.join()


@contextmanager
def _pass_signals_on(children: list[BaseProcess]) -> Iterator[list[int]]:
    """Give a list of the signals that came and were passed on."""
    passed_on: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield passed_on
        return

    def forward(number: int, frame: Any) -> None:  # noqa: ARG001 - the signature is signal's
        passed_on.append(number)
        for child in children:
            if child.is_alive() and child.pid is not None:
                os.kill(child.pid, number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield passed_on
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
