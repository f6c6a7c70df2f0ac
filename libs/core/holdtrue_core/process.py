"""Being a process that somebody started."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, signal_number: int = signal.SIGKILL) -> None:
    """Ask the kernel for a signal when the thread that started this process ends, even by kill -9.

    `parent_pid` is what the starter knows as its own pid: had it ended before this call, this process exits at once.
    Linux only; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused the parent-death signal")
    if os.getppid() != parent_pid:
        sys.exit("the starter ended before this process began")
