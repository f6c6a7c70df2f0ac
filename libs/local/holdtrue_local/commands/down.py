"""`holdtrue down`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from holdtrue.cli.exits import Exit

from holdtrue_local import control
from holdtrue_local.processes import is_alive

from .common import chosen, fail

_POLL_SECONDS = 0.05


def down(*, data: Path | None = None, timeout: float = 90.0) -> None:
    """End the platform that runs on a data folder: services first, then Kafka and PostgreSQL.

    Examples:
        holdtrue down

    Args:
        data: The data folder, by default ~/.local/share/holdtrue.
        timeout: Seconds to wait for the end.
    """
    folder = chosen(data)
    pid = control.running(folder)
    if pid is None:
        print(f"nothing runs on {folder}")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while is_alive(pid):
        if time.monotonic() > deadline:
            fail(f"pid {pid} still runs after {timeout:g} s; see `holdtrue logs`", Exit.TIMEOUT)
        time.sleep(_POLL_SECONDS)
    print("stopped")
