"""Limit this process, then become the program given.

    python -I -m holdtrue_models.worker.launch LIMITS PARENT PROGRAM …

What is set here is inherited by whatever the program starts: no more memory, processor time, file size or open files
than allowed, no core dumps, no network where the system allows it, and death with the parent.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

import msgspec
from holdtrue_core.process import die_with_parent

from holdtrue_models.worker.limits import Limits

_NEW_USER = 0x10000000
_NEW_NETWORK = 0x40000000
_AFTER_WARNING = 5  # seconds of processor time from SIGXCPU, which says why, to SIGKILL


def apply(limits: Limits) -> None:
    """Set the limits of this process. Processor time is the wall time: the program works in one thread."""
    seconds = max(1, int(limits.wall_seconds))
    if limits.wall_seconds:
        _limit(resource.RLIMIT_CPU, seconds, seconds + _AFTER_WARNING)
    _limit(resource.RLIMIT_AS, limits.memory_bytes)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(what: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, never above what this process has been given."""
    _, given = resource.getrlimit(what)
    wanted = (soft, soft if hard is None else hard)
    resource.setrlimit(what, wanted if given == resource.RLIM_INFINITY else (min(soft, given), min(wanted[1], given)))


def leave_network() -> bool:
    """Move this process to a network of its own without any connection; return whether the system allowed it."""
    if sys.platform != "linux":
        return False
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    return any(unshare(flags) == 0 for flags in (_NEW_NETWORK, _NEW_NETWORK | _NEW_USER))


def main(arguments: list[str]) -> None:
    """Become the program. Order matters: a new user namespace clears the parent-death signal."""
    limits, parent, *program = arguments
    isolated = leave_network()
    die_with_parent(int(parent))
    apply(msgspec.json.decode(limits, type=Limits))
    os.environ["HOLDTRUE_CHILD_NETWORK"] = "none" if isolated else "not isolated"
    os.execv(program[0], program)  # noqa: S606 - our own program, without a shell


if __name__ == "__main__":
    main(sys.argv[1:])
