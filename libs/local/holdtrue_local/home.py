"""Where the platform keeps what it downloads and what it stores."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


def home() -> Path:
    """The platform's own folder: `HOLDTRUE_HOME`, by default `~/.local/share/holdtrue`."""
    chosen = os.environ.get("HOLDTRUE_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".local" / "share" / "holdtrue"


def cache_dir() -> Path:
    """Downloads (Kafka's jars, Java), shared by `up` and the tests; made when missing."""
    path = home() / "cache"
    path.mkdir(parents=True, exist_ok=True)
    return path


def default_data_dir() -> Path:
    """What `up` stores unless `--data` names another folder."""
    return home() / "data"


@contextmanager
def exclusive(path: Path) -> Generator[None]:
    """Hold the lock file `path`; a second holder, in any process, waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
