"""Pieces in a file: whole or not there, whatever is cut, turned or full."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from holdtrue_inference.store import frames
from holdtrue_inference.store.frames import DamagedFrame, DiskFull, cut_torn_tail, frame, read_frame, write_whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.inference.full_disk import writing_at_most

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAYLOADS = [b"first", b"", b"the third one"]
FRAMES = [frame(number, payload) for number, payload in enumerate(PAYLOADS, start=1)]
WHOLE = b"".join(FRAMES)
ENDS = [0, *(sum(map(len, FRAMES[:count])) for count in (1, 2, 3))]

in_one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def file(path: Path) -> Iterator[int]:
    """The file, open for reading and appending."""
    opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    yield opened
    os.close(opened)


def read(file: int, first: int = 1) -> list[bytes]:
    """All pieces of an open file."""
    pieces: list[bytes] = []
    offset = 0
    while (piece := read_frame(file, offset, first + len(pieces))) is not None:
        pieces.append(piece)
        offset += frames.HEADER_BYTES + len(piece)
    return pieces


@in_one_file
@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(0, 2**63))
def test_what_was_written_is_read(file: int, payloads: list[bytes], first: int) -> None:
    os.ftruncate(file, 0)
    os.write(file, b"".join(frame(first + i, payload) for i, payload in enumerate(payloads)))
    assert read(file, first) == payloads


@pytest.mark.parametrize("size", range(len(WHOLE) + 1))
def test_a_file_that_ends_anywhere_has_its_whole_pieces(path: Path, file: int, size: int) -> None:
    os.write(file, WHOLE[:size])
    whole = sum(end <= size for end in ENDS[1:])
    assert read(file) == PAYLOADS[:whole]
    assert cut_torn_tail(path, 1) == whole + 1
    assert path.read_bytes() == WHOLE[: ENDS[whole]]
    os.write(file, frame(whole + 1, b"next"))
    assert read(file) == [*PAYLOADS[:whole], b"next"]


@pytest.mark.parametrize(
    "garbage", [bytes(1), bytes(15), bytes(16), bytes(100), b"\xff" * 40, FRAMES[0], FRAMES[2][:-1]]
)
def test_garbage_after_the_last_piece_is_cut(path: Path, garbage: bytes) -> None:
    path.write_bytes(WHOLE + garbage)
    assert cut_torn_tail(path, 1) == 4
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize("place", range(len(WHOLE)))
def test_a_turned_bit_anywhere_is_noticed(path: Path, file: int, place: int) -> None:
    hit = sum(end <= place for end in ENDS[1:])
    for bit in range(8):
        damaged = bytearray(WHOLE)
        damaged[place] ^= 1 << bit
        os.ftruncate(file, 0)
        os.write(file, damaged)
        with suppress(DamagedFrame):
            assert read_frame(file, ENDS[hit], hit + 1) is None, "the length may reach beyond the end"
        assert cut_torn_tail(path, 1) == hit + 1
        assert path.read_bytes() == WHOLE[: ENDS[hit]]


def test_another_piece_in_its_place_is_damage(file: int) -> None:
    os.write(file, WHOLE)
    with pytest.raises(DamagedFrame, match="offset 0: expected piece 2, got 1 of 5 bytes"):
        read_frame(file, 0, 2)


def test_a_length_beyond_the_limit_is_damage(file: int) -> None:
    os.write(file, frames._HEADER.pack(frames.MAX_BYTES + 1, 0, 1))
    with pytest.raises(DamagedFrame, match="expected piece 1, got 1 of"):
        read_frame(file, 0, 1)


def test_a_write_is_whole(file: int, path: Path) -> None:
    write_whole(file, 0, FRAMES[0])
    write_whole(file, len(FRAMES[0]), FRAMES[1] + FRAMES[2])
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize("taken", range(len(FRAMES[2])))
def test_a_write_for_which_there_is_no_room_leaves_nothing(
    file: int, path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    write_whole(file, 0, FRAMES[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", writing_at_most(taken))
        with pytest.raises(DiskFull):
            write_whole(file, len(FRAMES[0]), FRAMES[1] + FRAMES[2])
    assert path.read_bytes() == FRAMES[0]
    write_whole(file, len(FRAMES[0]), FRAMES[1] + FRAMES[2])
    assert read(file) == PAYLOADS


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, OSError)])
def test_a_full_disk_is_told_from_a_broken_one(
    path: Path, file: int, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(kind):
            write_whole(file, 0, FRAMES[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(kind):
            frames.begin_file(path.with_name("other"))
    assert path.read_bytes() == b""


def test_a_file_is_begun_only_once(path: Path, file: int) -> None:
    del file
    with pytest.raises(FileExistsError):
        frames.begin_file(path)
