"""Find the running platform of a data folder, and ask it how it is.

`up` holds a lock on `<data>/run/up/lock` as long as it lives, whatever ends it, and answers every connection to
`<data>/run/up/control.sock` with its status as JSON. Nothing heavy is imported here: `status` has to be quick.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from .errors import AlreadyRunningError
from .home import private_dir, socket_dir

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path


_TRIES = 5  # somebody who only looks (`running`) holds the lock for a moment, too


def run_dir(data: Path) -> Path:
    """Where the running platform keeps its lock and its socket."""
    return socket_dir(data / "run" / "up")


def control_socket(data: Path) -> Path:
    """Where the running platform answers."""
    return run_dir(data) / "control.sock"


def claim(data: Path) -> TextIOWrapper:
    """Make the data folder ours until the returned file is closed or this process ends.

    Raises:
        AlreadyRunningError: it is somebody else's.
    """
    lock = (private_dir(run_dir(data)) / "lock").open("a+")
    for _ in range(_TRIES):
        if _lock(lock, fcntl.LOCK_EX):
            break
        time.sleep(0.02)
    else:
        lock.close()
        raise AlreadyRunningError(
            f"the platform already runs on {data} (pid {running(data)}); see it with `holdtrue status`, "
            "end it with `holdtrue down`, or name another folder with --data"
        )
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def running(data: Path) -> int | None:
    """The process id of the `up` that holds the data folder, None when there is none."""
    path = run_dir(data) / "lock"
    if not path.exists():
        return None
    with path.open() as lock:
        return None if _lock(lock, fcntl.LOCK_SH) else int(lock.read() or 0)


def _lock(file: TextIOWrapper, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def status(data: Path, seconds: float = 5.0) -> dict[str, Any] | None:
    """What the running platform says about itself (`Platform.status`), None when it does not run.

    Raises:
        TimeoutError: it runs, but does not answer.
    """
    if running(data) is None:
        return None
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            return _ask(control_socket(data), seconds)
        except (FileNotFoundError, ConnectionRefusedError):  # it runs, but listens only in a moment
            time.sleep(0.02)
        except TimeoutError:
            break
    raise TimeoutError(f"the platform on {data} runs, but does not answer within {seconds:g} s")


def _ask(path: Path, seconds: float) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        with connection.makefile("rb") as answer:
            return json.load(answer)
