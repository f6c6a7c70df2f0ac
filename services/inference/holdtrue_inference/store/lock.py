"""One process for one folder."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FolderInUse(Exception):
    """Another process works in the folder."""


def lock(folder: Path) -> int:
    """Take the folder for this process, making it if it is missing; the returned file keeps it until it is closed.

    Raises FolderInUse if another process has it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(file, 20).decode() or "unknown"
        os.close(file)
        raise FolderInUse(
            f"{folder} is used by another inference process (pid {owner}); give this one a cache folder of its own"
        ) from None
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    return file
