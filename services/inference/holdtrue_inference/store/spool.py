"""The spool: predictions on local disk from before the reply until Kafka has them.

Every start of the process begins a spool of its own, a folder named by its id:

    <first number>.segment   append-only, pieces numbered from 1 without gaps
    progress                 rounds of the relay, see `holdtrue_inference.store.progress`

One thread appends, another reads behind it. Folders that an earlier process left are read to their end and removed.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import structlog
from holdtrue_contracts.ids import uuid7

from holdtrue_inference.domain.errors import SpoolFull
from holdtrue_inference.store.frames import (
    HEADER_BYTES,
    DamagedFrame,
    DiskFull,
    begin_file,
    cut_torn_tail,
    frame,
    read_frame,
    write_whole,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SEGMENT_BYTES = 64 << 20
_SUFFIX = ".segment"

_log = structlog.stdlib.get_logger("holdtrue.inference.spool")


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place between two pieces: number of the next one, its segment by first number, its offset there in bytes."""

    number: int = 1
    segment: int = 1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the spools may hold: bytes, and seconds since Kafka last had everything."""

    cap_bytes: int = 8 << 30
    cap_seconds: float = 24 * 3600.0
    segment_bytes: int = SEGMENT_BYTES


class Usage:
    """Bytes in all spools of this process. One thread adds, another takes away; nobody needs a lock."""

    def __init__(self, limits: Limits, present: int = 0) -> None:
        """Begin with the bytes that are already there."""
        self._limits = limits
        self._appended = present
        self._released = 0
        self.emptied_at = time.monotonic()
        """When Kafka last had everything."""

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return self._appended - self._released

    @property
    def full(self) -> bool:
        """Whether nothing more may be taken: a limit is reached."""
        return self.bytes >= self._limits.cap_bytes or self.waiting_seconds >= self._limits.cap_seconds

    @property
    def waiting_seconds(self) -> float:
        """Seconds since Kafka last had everything."""
        return time.monotonic() - self.emptied_at

    def add(self, count: int) -> None:
        """Bytes were appended."""
        self._appended += count

    def remove(self, count: int) -> None:
        """Bytes were deleted."""
        self._released += count


class SpoolWriter:
    """Appends to the spool of this process."""

    def __init__(self, root: Path, usage: Usage, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Begin a new spool below `root`."""
        self.spool_id = uuid7()
        self.folder = root / self.spool_id
        self.folder.mkdir(mode=0o700, parents=True)
        self._usage = usage
        self._segment_bytes = segment_bytes
        self._file = -1
        self._changing = threading.Lock()  # held while the file is exchanged, so that another thread may sync it
        self._begin_segment(1)

    def append(self, payloads: Sequence[bytes]) -> int:
        """Write the payloads as pieces that follow one another, all or none; return the number of the last.

        When this returns they survive the death of the process; `sync` makes them survive a loss of power.
        Raises SpoolFull if the disk has no room for them.
        """
        data = b"".join([frame(self.next_number + index, payload) for index, payload in enumerate(payloads)])
        try:
            if self._size >= self._segment_bytes:
                self._begin_segment(self.next_number)
            write_whole(self._file, self._size, data)
        except DiskFull:
            raise SpoolFull(f"the disk of the prediction log is full; make room below {self.folder.parent}") from None
        self._size += len(data)
        self._usage.add(len(data))
        self.next_number += len(payloads)
        return self.next_number - 1

    def sync(self) -> None:
        """Make what was appended survive a loss of power; from any thread.

        Raises OSError, after which nothing can be trusted: the process must end.
        """
        with self._changing:
            file = os.dup(self._file)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

    def _begin_segment(self, number: int) -> None:
        file = begin_file(self.folder / _name(number))
        with self._changing:
            if self._file >= 0:
                os.fdatasync(self._file)
                os.close(self._file)
            self._file = file
        self._size, self.next_number = 0, number


class SpoolReader:
    """Reads a spool from a position on, also while it is written."""

    def __init__(self, folder: Path, usage: Usage, position: Position) -> None:
        """Begin at a position that was read or recorded before, or at the first piece."""
        self.folder = folder
        self.position = position
        self._usage = usage
        self._file = -1

    def read(self, limit: int) -> list[bytes]:
        """The next whole pieces, in order: until one more would exceed `limit` bytes, at least one if there is any.

        A damaged segment is set aside, loudly; reading goes on behind it.
        """
        pieces: list[bytes] = []
        size = 0
        while size < limit and (piece := self._next()) is not None:
            pieces.append(piece)
            size += len(piece)
        return pieces

    def release(self, position: Position) -> None:
        """Delete the segments that end before the position."""
        for first, path in segments(self.folder):
            if first < position.segment:
                self._usage.remove(path.stat().st_size)
                path.unlink()

    def seek(self, position: Position) -> None:
        """Go on at another position."""
        self.close()
        self.position = position

    def close(self) -> None:
        """Release the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def remove(self) -> None:
        """Delete the whole spool."""
        self.close()
        self._usage.remove(sum(path.stat().st_size for _, path in segments(self.folder)))
        shutil.rmtree(self.folder)

    def _next(self) -> bytes | None:
        """The next piece; None at the end of what is written."""
        try:
            piece = self._read()
            if piece is None:
                following = self._following()
                if following is None:
                    return None
                piece = self._read()  # the segment is finished now, and this was added before that
                if piece is None:
                    self._check_end(following)
                    return self._turn_over(following)
        except DamagedFrame as error:
            return self._turn_over(self._set_aside(error))
        place = self.position
        self.position = Position(place.number + 1, place.segment, place.offset + HEADER_BYTES + len(piece))
        return piece

    def _read(self) -> bytes | None:
        place = self.position
        if self._file < 0:
            try:
                self._file = os.open(self.folder / _name(place.segment), os.O_RDONLY)
            except FileNotFoundError:
                raise DamagedFrame("the segment is gone") from None
        return read_frame(self._file, place.offset, place.number)

    def _following(self) -> int | None:
        """The segment after this one."""
        return min((first for first, _ in segments(self.folder) if first > self.position.segment), default=None)

    def _check_end(self, following: int) -> None:
        if self.position.number != following:
            raise DamagedFrame(
                f"it ends before piece {self.position.number}, and the next segment begins with {following}"
            )

    def _turn_over(self, following: int) -> bytes | None:
        self.seek(Position(following, following, 0))
        return self._next()

    def _set_aside(self, damage: DamagedFrame) -> int:
        """Keep a damaged segment out of the way and return the next; raises what is wrong with it if it is the last."""
        following = self._following()
        if following is None:
            raise damage
        path = self.folder / _name(self.position.segment)
        aside = self.folder.parent / f"{self.folder.name}-{path.stem}.damaged"
        _log.error("a segment of the spool is damaged and set aside", file=str(aside), damage=str(damage))
        if path.exists():
            self._usage.remove(path.stat().st_size)
            path.rename(aside)
        return following


def leftovers(root: Path) -> list[Path]:
    """Folders of spools that earlier processes left below `root`, oldest first, their torn tails cut."""
    folders: list[Path] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if not segments(folder):
            shutil.rmtree(folder)
            continue
        folders.append(folder)
        for first, path in segments(folder)[-1:]:
            before = path.stat().st_size
            cut_torn_tail(path, first)
            if path.stat().st_size < before:
                _log.warning("cut a torn tail", file=str(path), bytes=before - path.stat().st_size)
    return folders


def size_of(folders: Sequence[Path]) -> int:
    """Bytes of the segments of these spools."""
    return sum(path.stat().st_size for folder in folders for _, path in segments(folder))


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Segments of a spool with their first numbers, in order."""
    return sorted((int(path.stem), path) for path in folder.glob(f"*{_SUFFIX}"))


def _name(number: int) -> str:
    return f"{number:020d}{_SUFFIX}"
