"""Numbered, checked pieces in append-only files: `length, crc32, number` (little-endian), then the bytes."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_HEADER = struct.Struct("<IIQ")
_NUMBER = struct.Struct("<Q")
HEADER_BYTES = _HEADER.size
MAX_BYTES = 64 << 20
"""Bytes of one piece."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DamagedFrame(Exception):
    """The bytes at a place of a file are not what was written there."""


class DiskFull(Exception):
    """There is no room on the disk; nothing was written."""


def frame(number: int, payload: bytes) -> bytes:
    """The piece as it stands in the file."""
    return _HEADER.pack(len(payload), _checksum(number, payload), number) + payload


def begin_file(path: Path) -> int:
    """Make a file and open it for appending. Raises DiskFull, FileExistsError, or OSError for other trouble."""
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull("the disk is full") from error


def write_whole(file: int, size: int, data: bytes) -> None:
    """Append to an open file that has `size` bytes, all or nothing. Raises DiskFull, or OSError for other trouble."""
    try:
        written = os.write(file, data)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        written = 0
    if written < len(data):
        os.ftruncate(file, size)
        raise DiskFull("the disk is full")


def read_frame(file: int, offset: int, number: int) -> bytes | None:
    """The bytes of the piece `number` at the offset of an open file; None if the file ends before the piece does.

    Raises DamagedFrame if another piece, or none, stands there.
    """
    header = os.pread(file, HEADER_BYTES, offset)
    if len(header) < HEADER_BYTES:
        return None
    length, checksum, found = _HEADER.unpack(header)
    if found != number or length > MAX_BYTES:
        raise DamagedFrame(f"offset {offset}: expected piece {number}, got {found} of {length} bytes")
    payload = os.pread(file, length, offset + HEADER_BYTES)
    if len(payload) < length:
        return None
    if _checksum(number, payload) != checksum:
        raise DamagedFrame(f"offset {offset}: the checksum of piece {number} does not fit its {length} bytes")
    return payload


def cut_torn_tail(path: Path, number: int) -> int:
    """Cut the file after its last whole piece, the first being `number`; return the number after the last.

    Only a file that nobody finished may be cut: what stands behind a whole piece there was never acknowledged.
    """
    file = os.open(path, os.O_RDWR)
    try:
        offset = 0
        while (payload := _whole(file, offset, number)) is not None:
            offset += HEADER_BYTES + len(payload)
            number += 1
        os.ftruncate(file, offset)
    finally:
        os.close(file)
    return number


def _whole(file: int, offset: int, number: int) -> bytes | None:
    try:
        return read_frame(file, offset, number)
    except DamagedFrame:
        return None


def _checksum(number: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_NUMBER.pack(number)))
