"""TCP ports of this machine: which are free, who has the others."""

from __future__ import annotations

import errno
import random
import socket
from collections import deque

import psutil

from .errors import StartError

_random = random.SystemRandom()  # two processes that were seeded alike must not choose alike
_claims = deque[socket.socket]()
_MOST_CLAIMS = 256


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, outside the range that outgoing connections take.

    No other process is given it by this function until this one ends or has asked for 256 more: it takes a while until
    somebody listens.
    """
    while True:
        port = _random.randint(15000, 32000)
        if is_free(port) and _claim(port):
            return port


def _claim(port: int) -> bool:
    """Bind a name that only one process can have; the kernel takes it back when this one ends."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0holdtrue-port-{port}")
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    if len(_claims) == _MOST_CLAIMS:
        _claims.popleft().close()
    _claims.append(claim)
    return True


def is_free(port: int) -> bool:
    """Whether we could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def check(port: int, user: str, variable: str) -> None:
    """Make sure that `user`, whose port is set by the environment variable, can have it.

    Raises:
        StartError: who has it, and what to do.
    """
    if not is_free(port):
        raise StartError(
            f"port {port} ({user}) is taken by {_owner(port)}; "
            f"end that program, set {variable} to another port, or let the platform choose: --ports free"
        )


def _owner(port: int) -> str:
    """Who listens on a port, as well as we may know."""
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            if connection.pid is None:
                return "a process of another user"
            return f"pid {connection.pid} ({' '.join(psutil.Process(connection.pid).cmdline()[:3])})"
    return "a process that we may not see"
