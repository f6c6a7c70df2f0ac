"""What a worker and its starter say to each other: JSON behind its length, on a socket; numbers go by shared memory."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import socket

_LENGTH = struct.Struct("<I")
MAX_BYTES = 1 << 20
_SHORTEST = 0.001


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker is to load: sizes in bytes; the files are descriptors `model`, `manifest` and `shared`."""

    socket: int
    model: int
    manifest: int
    shared: int
    width: int
    rows: int


class Report(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """How loading went: seconds, resident bytes at most, seconds of a run by rows, and whether there is no network."""

    load_seconds: float
    memory_bytes: int
    run_seconds: dict[int, float]
    isolated: bool


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Something was wrong: the name of the class in `holdtrue_models.errors`, and the text."""

    error: str
    text: str


class Batch(msgspec.Struct, frozen=True, tag="batch"):
    """That many rows are in shared memory, at its begin."""

    rows: int


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The answer to the batch is in shared memory, behind the room of the rows: [rows, columns]."""

    rows: int
    columns: int


FROM_WORKER: Any = Report | Refused | Answer
TO_WORKER: Any = Batch


def send(channel: socket.socket, message: Report | Refused | Batch | Answer) -> None:
    """Send a message. Raises OSError if nobody is there."""
    data = msgspec.json.encode(message)
    channel.sendall(_LENGTH.pack(len(data)) + data)


def receive(channel: socket.socket, kind: Any, seconds: float | None = None) -> Any:  # noqa: ANN401 - one of a union
    """Receive a message of a kind, waiting for all of it no longer than `seconds`.

    Raises EOFError or OSError if the other has gone, TimeoutError, and ValueError if it does not speak as agreed.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size, deadline))
    if length > MAX_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return msgspec.json.decode(_exactly(channel, length, deadline), type=kind)


def _exactly(channel: socket.socket, size: int, deadline: float | None) -> bytes:
    data = b""
    while len(data) < size:
        channel.settimeout(None if deadline is None else max(deadline - time.monotonic(), _SHORTEST))
        chunk = channel.recv(size - len(data))
        if not chunk:
            raise EOFError("the other side has gone")
        data += chunk
    return data
