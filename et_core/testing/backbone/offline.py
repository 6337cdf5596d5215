"""A network that cannot be reached, and what tried to."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock


@contextlib.contextmanager
def no_network() -> Iterator[list[str]]:
    """Let every attempt to reach the network fail; gives the list of attempts, as they were called."""
    calls: list[str] = []

    def refuse(name: str) -> Callable[..., Any]:
        def called(*arguments: Any, **_: Any) -> Any:
            shown = ", ".join(repr(value) for value in arguments if not isinstance(value, socket.socket))
            calls.append(f"{name}({shown})")
            raise OSError(f"{name}: conformance checks have no network")

        return called

    with (
        mock.patch.object(socket.socket, "connect", refuse("connect")),
        mock.patch.object(socket.socket, "connect_ex", refuse("connect_ex")),
        mock.patch.object(socket, "getaddrinfo", refuse("getaddrinfo")),
        mock.patch.object(socket, "create_connection", refuse("create_connection")),
    ):
        yield calls
