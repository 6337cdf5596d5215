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
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from et_core.errors import EtError

Enter = Callable[[int, Store, Callable[..., None], tuple[Any, ...]], None]
_GRACE_SECONDS = 10.0


def start_processes(enter: Enter, processes: int, worker: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Run ``enter(rank, store, worker, args)`` in *processes* fresh processes on this machine and wait for them.

    The first failure ends the others and is raised here: an EtError as it is, anything else as an EtError that holds
    the rank and its traceback. A signal to this process is passed on.
    """
    # Port 0: the kernel picks a free one, so two runs never collide.
    store = TCPStore("127.0.0.1", 0, world_size=None, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    children: list[BaseProcess] = []
    reports: list[Connection] = []
    for rank in range(processes):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(
            target=_child, args=(enter, rank, store.port, os.getpid(), sender, worker, args), daemon=True
        )
        child.start()
        sender.close()
        children.append(child)
        reports.append(receiver)
    with _pass_signals_on(children):
        failure = _first_failure(children, reports)
        _end(children, at_once=failure is not None)
    if failure is not None:
        raise failure


def _child(
    enter: Enter,
    rank: int,
    port: int,
    parent: int,
    report: Connection,
    worker: Callable[..., None],
    args: tuple[Any, ...],
) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        enter(rank, TCPStore("127.0.0.1", port, world_size=None, is_master=False), worker, args)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent has to hear of it
        report.send_bytes(_pack(error, rank))
    report.close()


def _end_with(parent: int) -> None:
    """End this process soon after its parent, also when that was killed without a chance to say so."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _pack(error: BaseException, rank: int) -> bytes:
    known = (
        error
        if isinstance(error, EtError)
        else EtError(f"rank {rank} failed:\n{''.join(traceback.format_exception(error))}")
    )
    return pickle.dumps((type(known), str(known), getattr(known, "signal_number", None)))


def _unpack(data: bytes) -> EtError:
    cls, message, number = pickle.loads(data)
    error: EtError = cls(message) if number is None else cls(message, signal_number=number)
    return error


def _first_failure(children: list[BaseProcess], reports: list[Connection]) -> EtError | None:
    open_reports = dict(zip(reports, range(len(children)), strict=True))
    failures: dict[int, EtError] = {}
    while open_reports and not failures:
        for report in wait(list(open_reports)):
            rank = open_reports.pop(report)  # type: ignore[call-overload]
            try:
                failures[rank] = _unpack(report.recv_bytes())  # type: ignore[union-attr]
            except EOFError:
                children[rank].join(_GRACE_SECONDS)
                if children[rank].exitcode != 0:
                    failures[rank] = EtError(f"rank {rank} ended without a word (exit code {children[rank].exitcode}).")
    return failures[min(failures)] if failures else None


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
def _pass_signals_on(children: list[BaseProcess]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def forward(number: int, frame: Any) -> None:  # noqa: ARG001 - the signature is signal's
        for child in children:
            if child.is_alive() and child.pid is not None:
                os.kill(child.pid, number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
