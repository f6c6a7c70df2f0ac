"""Child processes that never outlive us, and the little that is needed around them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TETHER = Path(__file__).with_name("tether.py")
_POLL_SECONDS = 0.02


class StartError(Exception):
    """A program of the platform did not start; the message says which, why, and where its log is."""


def tethered(argv: Sequence[str], death_signal: signal.Signals) -> list[str]:
    """Extend `argv` so that the program gets `death_signal` when this process ends, however it ends."""
    return [sys.executable, "-I", "-S", str(_TETHER), str(int(death_signal)), str(os.getpid()), *argv]


def spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `argv` in a session of its own, its output appended to `log`.

    Call it from the main thread: the kernel sends the parent-death signal when the starting *thread* ends.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
        )


async def until(ready: Callable[[], bool], process: subprocess.Popen[bytes], *, seconds: float, what: str) -> None:
    """Wait until `ready()`.

    Raises:
        StartError: `process` ended first, or `seconds` passed.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise StartError(f"{what} ended with status {process.returncode} before it was ready")
        if time.monotonic() > deadline:
            raise StartError(f"{what} was not ready within {seconds:g} s")
        await asyncio.sleep(_POLL_SECONDS)


async def ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end of `process`; False when it still lives after `seconds`."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


async def stop(process: subprocess.Popen[bytes], ask: signal.Signals, grace: float) -> None:
    """Ask `process` to end, and end it and its group by force when it has not after `grace` seconds."""
    if process.poll() is None:
        process.send_signal(ask)
        await ended(process, grace)
    await kill(process)


async def kill(process: subprocess.Popen[bytes]) -> None:
    """End `process` and everything it started, at once, and wait until all of it is gone."""
    family = _family(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await ended(process, seconds=10)
    while any(map(is_alive, family)):  # noqa: ASYNC110  other people's children have no event to wait for
        await asyncio.sleep(_POLL_SECONDS)


def is_alive(pid: int) -> bool:
    """Whether `pid` is a process that still runs; a dead one that nobody has collected does not count."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _family(session: int) -> list[int]:
    """Everybody in a session: what `spawn` started and all that it started in turn."""
    return [pid for pid in psutil.pids() if _session(pid) == session]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, outside the range that outgoing connections take."""
    while True:
        port = random.randint(15000, 32000)  # noqa: S311  no secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log file, for an error message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
