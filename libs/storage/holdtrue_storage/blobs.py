"""Content-addressed blobs: named by the SHA-256 of their bytes, checked whenever they are read.

The methods block on the disk: call them by `asyncio.to_thread` from async code.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Protocol

import structlog
from holdtrue_core.errors import Internal, InvalidArgument, NotFound, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

DEFAULT_LIMIT = 2 * 1024**3
"""Bytes that one blob may have, unless set otherwise."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_DRAFT = ".draft-"
_OLD_SECONDS = 86_400
_EXIT_FSYNC = 74  # EX_IOERR of sysexits.h
_log = structlog.stdlib.get_logger("holdtrue.blobs")


class BlobMissing(NotFound):
    """There is no blob with this digest here."""


class BlobCorrupt(Internal):
    """The bytes on disk are not those that the digest names; they are never handed out."""


class Blobs(Protocol):
    """Where blobs are kept. A digest is 64 lower-case hexadecimal digits."""

    def put(self, data: bytes) -> str:
        """Store bytes durably; return their digest. Storing the same again is harmless."""
        ...

    def put_file(self, path: Path) -> str:
        """Store a copy of a file durably; return its digest."""
        ...

    def get(self, digest: str) -> bytes:
        """Return the verified bytes; raises BlobMissing, BlobCorrupt."""
        ...

    def open_verified(self, digest: str) -> BinaryIO:
        """Return an open file, at its start, whose content was just verified; raises BlobMissing, BlobCorrupt."""
        ...

    def size(self, digest: str) -> int:
        """Return the number of bytes; raises BlobMissing."""
        ...


def checked_digest(digest: str) -> str:
    """Return a digest, which is safe as the name of a file; raises InvalidArgument for anything else."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidArgument.of("digest", f"{digest!r} is no digest: 64 lower-case hexadecimal digits are")
    return digest


class DirectoryBlobs:
    """Blobs in a private folder: `<root>/<first two digits>/<digest>`."""

    def __init__(self, root: Path, *, limit: int = DEFAULT_LIMIT) -> None:
        """Name the folder (made on the first write) and the bytes that one blob may have."""
        self._root = root
        self._limit = limit

    def put(self, data: bytes) -> str:
        """Store bytes; raises InvalidArgument over the limit, ResourceExhausted when the disk is full."""
        return self._store([data])

    def put_file(self, path: Path) -> str:
        """Store a copy of a file; raises like `put`."""
        with path.open("rb") as source:
            return self._store(_chunks(source))

    def get(self, digest: str) -> bytes:
        """Return the verified bytes."""
        with self.open_verified(digest) as file:
            return file.read()

    def open_verified(self, digest: str) -> BinaryIO:
        """Return an open file; what is read from it is what was verified, even if the name is replaced meanwhile."""
        path = self._path(digest)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise BlobMissing(f"blob {digest} is not in {self._root}: restore or copy it there") from None
        with ExitStack() as stack:
            stack.enter_context(file)
            self._verify(file, digest)
            file.seek(0)
            stack.pop_all()
        return file

    def _verify(self, file: BinaryIO, digest: str) -> None:
        hasher = hashlib.sha256()
        for chunk in _chunks(file):
            hasher.update(chunk)
        if hasher.hexdigest() != digest:
            raise BlobCorrupt(f"blob {digest} in {self._root} is corrupt: restore it")

    def size(self, digest: str) -> int:
        """Return the number of bytes."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            raise BlobMissing(f"blob {digest} is not in {self._root}: restore or copy it there") from None

    def _path(self, digest: str) -> Path:
        return self._root / checked_digest(digest)[:2] / digest

    def _store(self, chunks: Iterable[bytes]) -> str:
        _make_private(self._root)
        self._remove_old_drafts()
        handle, draft = tempfile.mkstemp(dir=self._root, prefix=_DRAFT)
        try:
            digest = self._write(handle, chunks)
            target = self._path(digest)
            _make_private(target.parent)
            # Over an equal file, too: it may have rotted, or its folder entry may not be durable yet.
            os.replace(draft, target)  # noqa: PTH105  the draft's name is a string
        except BaseException:
            os.unlink(draft)  # noqa: PTH108
            raise
        _sync_folder(target.parent)
        return digest

    def _write(self, handle: int, chunks: Iterable[bytes]) -> str:
        hasher, size = hashlib.sha256(), 0
        with os.fdopen(handle, "wb") as file, _full_disk(self._root):
            for chunk in chunks:
                size += len(chunk)
                if size > self._limit:
                    raise InvalidArgument.of(
                        "data", f"the blob has more than {self._limit} bytes, the limit of {self._root}"
                    )
                hasher.update(chunk)
                file.write(chunk)
            file.flush()
            _sync(file.fileno())
        return hasher.hexdigest()

    def _remove_old_drafts(self) -> None:
        """Remove what writers left that were killed."""
        for draft in self._root.glob(f"{_DRAFT}*"):
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > _OLD_SECONDS:
                    draft.unlink()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _make_private(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _sync(handle: int) -> None:
    """Make it durable, or end the process: after a failed fsync nobody knows what is on disk, and asking again lies."""
    try:
        os.fsync(handle)
    except OSError as error:
        _log.critical("fsync failed: ending the process, the disk needs attention", error=str(error))
        os._exit(_EXIT_FSYNC)


@contextmanager
def _full_disk(root: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceExhausted(f"the disk of {root} is full: make room", reason="DISK_FULL") from error
        raise
