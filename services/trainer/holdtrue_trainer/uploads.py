"""Receive a model file: looked at from its first bytes on, of a limited size, nothing left if it fails."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from holdtrue_core.errors import InvalidArgument, ResourceExhausted
from holdtrue_models.content import BROUGHT, recognise
from holdtrue_models.errors import MalformedModel
from holdtrue_models.onnx_limits import STANDARD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdtrue_storage.blobs import Blobs

_ENOUGH = 8
"""Bytes by which a file is recognised."""


async def receive(pieces: AsyncIterator[bytes], blobs: Blobs) -> tuple[str, int]:
    """Keep the file that the pieces make as a blob; return its digest and its size.

    Raises InvalidArgument for what cannot be brought along or is too large, ResourceExhausted if the disk is full.
    """
    # A file without a name: it is gone with this process, however that ends.
    with tempfile.TemporaryFile() as anonymous:
        file = cast("BinaryIO", anonymous)
        beginning = b""
        async for piece in pieces:
            if len(beginning) < _ENOUGH:
                beginning += piece[:_ENOUGH]
                if len(beginning) >= _ENOUGH:
                    _check(beginning)
            await asyncio.to_thread(_append, file, piece)
        _check(beginning)
        file.flush()
        digest = await asyncio.to_thread(blobs.put_file, Path(f"/proc/self/fd/{file.fileno()}"))
        return digest, file.tell()


def _append(file: BinaryIO, piece: bytes) -> None:
    if file.tell() + len(piece) > STANDARD.file_bytes:
        raise InvalidArgument.of("data", f"a model has at most {STANDARD.file_bytes:,} bytes")
    try:
        file.write(piece)
        file.flush()
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise ResourceExhausted("the disk for temporary files is full: make room", reason="DISK_FULL") from error


def _check(beginning: bytes) -> None:
    if not beginning:
        raise InvalidArgument.of("data", "the file is empty; send the bytes of a model")
    try:
        kind = recognise(beginning)
    except MalformedModel as error:
        raise InvalidArgument.of("data", str(error)) from error
    if kind not in BROUGHT:
        raise InvalidArgument.of("data", f"the file is {kind}; bring a model along as one of {', '.join(BROUGHT)}")
