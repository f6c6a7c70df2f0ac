"""Memory without a name that two processes share."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile


def shared(size: int) -> int:
    """Return a descriptor of `size` bytes of zeros, which nobody can make shorter: that would end who maps it."""
    if sys.platform != "linux":
        return _unlinked(size)
    descriptor = os.memfd_create("holdtrue", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def frozen(data: bytes) -> int:
    """Return a descriptor of these bytes, which nobody can change where the system knows how to prevent it."""
    if sys.platform != "linux":
        descriptor = _unlinked(len(data))
    else:
        descriptor = os.memfd_create("holdtrue", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    _write(descriptor, data)
    if sys.platform == "linux":
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def read_all(descriptor: int) -> bytes:
    """Return the bytes of a descriptor, wherever others have read it to."""
    size = os.fstat(descriptor).st_size
    data = bytearray()
    while len(data) < size and (chunk := os.pread(descriptor, size - len(data), len(data))):
        data += chunk
    return bytes(data)


def _unlinked(size: int) -> int:
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())


def _write(descriptor: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written : written + (1 << 24)], written)
