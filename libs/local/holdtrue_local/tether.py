"""Become another program that dies with its starter: `tether.py SIGNAL STARTER_PID PROGRAM ARG…`.

A program of its own, because the kernel forgets the parent-death signal when a process changes its user or enters a
user namespace: it has to be set last. It runs as `python -I -S` (about 15 ms) and leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, make sure that the starter still lives, become the program."""
    signal, starter = int(sys.argv[1]), int(sys.argv[2])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused the parent-death signal")
    if os.getppid() != starter:
        sys.exit("the starter ended before this program began")
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606  the program comes from our own code


if __name__ == "__main__":
    main()
