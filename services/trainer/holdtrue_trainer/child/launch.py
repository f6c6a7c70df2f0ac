"""Limit this process, then become the program given.

    python -I -m holdtrue_trainer.child.launch LIMITS PARENT PROGRAM …

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

_NEW_USER = 0x10000000
_NEW_NETWORK = 0x40000000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one child may use. `memory_bytes` and `processes` also hold for all its processes together."""

    memory_bytes: int = 4 << 30
    wall_seconds: float = 3600.0
    file_bytes: int = 2 << 30
    open_files: int = 256
    processes: int = 32


def apply(limits: Limits) -> None:
    """Set the limits of this process. Processor time is the wall time: the child works in one thread."""
    seconds = max(1, int(limits.wall_seconds))
    for what, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (capped, capped))


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
    os.execv(program[0], program)  # noqa: S606 - the trainer's own program, without a shell


if __name__ == "__main__":
    main(sys.argv[1:])
