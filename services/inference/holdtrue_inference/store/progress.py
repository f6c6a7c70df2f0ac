"""How far a spool has gone to Kafka, so that what is sent again after a crash is sent under the same name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from holdtrue_inference.store.frames import HEADER_BYTES, cut_torn_tail, frame, read_frame, write_whole
from holdtrue_inference.store.spool import Position  # noqa: TC001  msgspec reads the annotations

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "progress"
_MAX_BYTES = 1 << 20


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event of a round: its batch id, and which of the round's chunks are in it."""

    batch_id: str
    chunks: list[int]


class Round(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of the spool and the events that it becomes, numbered from `sequence` on.

    A round is recorded before its first event is sent, so the round before it has arrived.
    """

    start: Position
    stop: Position
    sequence: int
    messages: list[Message]

    @property
    def next_sequence(self) -> int:
        """Number of the first event of the round after."""
        return self.sequence + len(self.messages)


class Progress:
    """The rounds of one spool; only the last matters."""

    def __init__(self, folder: Path) -> None:
        """Open or begin the record in a spool's folder."""
        self._path = folder / _FILE
        self._path.touch(mode=0o600)
        self._number = cut_torn_tail(self._path, 1)
        self.last = self._read_last()
        """The last round; None before the first."""

    def record(self, current: Round) -> None:
        """Write down a round, so that it survives a loss of power.

        Raises DiskFull, and OSError after which nothing can be trusted.
        """
        if self._path.stat().st_size > _MAX_BYTES:
            self._begin_anew()
        self._append(msgspec.json.encode(current))
        self.last = current

    def _append(self, data: bytes) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            write_whole(file, os.fstat(file).st_size, frame(self._number, data))
            os.fdatasync(file)
        finally:
            os.close(file)
        self._number += 1

    def _begin_anew(self) -> None:
        """Let the last round begin a new file."""
        fresh = self._path.with_suffix(".new")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_whole(file, 0, frame(1, msgspec.json.encode(self.last)))
            os.fdatasync(file)
        finally:
            os.close(file)
        fresh.rename(self._path)
        self._number = 2

    def _read_last(self) -> Round | None:
        file = os.open(self._path, os.O_RDONLY)
        try:
            offset, number, last = 0, 1, None
            while (payload := read_frame(file, offset, number)) is not None:
                offset, number, last = offset + HEADER_BYTES + len(payload), number + 1, payload
        finally:
            os.close(file)
        return None if last is None else msgspec.json.decode(last, type=Round)
