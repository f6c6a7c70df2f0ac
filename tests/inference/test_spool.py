"""The spool: what was appended is read, once and in order, while it grows, after a crash, and around damage."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from holdtrue_inference.domain.errors import SpoolFull
from holdtrue_inference.store.frames import DamagedFrame, frame
from holdtrue_inference.store.spool import (
    Limits,
    Position,
    SpoolReader,
    SpoolWriter,
    Usage,
    leftovers,
    segments,
    size_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL = 1 << 30


@pytest.fixture
def usage() -> Usage:
    return Usage(Limits())


@pytest.fixture
def writer(tmp_path: Path, usage: Usage) -> Iterator[SpoolWriter]:
    """A writer that begins a segment with every batch."""
    writer = SpoolWriter(tmp_path / "spools", usage, segment_bytes=1)
    yield writer
    writer.close()


def files(writer: SpoolWriter) -> list[Path]:
    return [path for _, path in segments(writer.folder)]


@settings(max_examples=40)  # each makes and syncs files
@given(st.data(), st.integers(1, 200))
def test_everything_is_read_in_order_however_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, segment_bytes: int
) -> None:
    usage = Usage(Limits())
    writer = SpoolWriter(tmp_path_factory.mktemp("spools"), usage, segment_bytes)
    reader = SpoolReader(writer.folder, usage, Position())
    appended, read = list[bytes](), list[bytes]()
    for _ in range(data.draw(st.integers(1, 5), "steps")):
        for batch in data.draw(
            st.lists(st.lists(st.binary(max_size=60), min_size=1, max_size=3), max_size=3), "batches"
        ):
            appended += batch
            assert writer.append(batch) == len(appended)
        read += reader.read(data.draw(st.sampled_from([1, 50, ALL]), "limit"))
        if data.draw(st.booleans(), "restart"):
            reader.close()
            reader.release(reader.position)
            reader = SpoolReader(writer.folder, usage, reader.position)
    read += reader.read(ALL)
    assert read == appended
    assert reader.position.number == len(appended) + 1
    assert usage.bytes == size_of([writer.folder])
    reader.remove()
    writer.close()
    assert usage.bytes == 0
    assert not writer.folder.exists()


def test_a_read_stops_at_its_limit_but_gives_at_least_one(writer: SpoolWriter, usage: Usage) -> None:
    writer.append([b"x" * 100, b"y", b"z"])
    reader = SpoolReader(writer.folder, usage, Position())
    assert [reader.read(limit) for limit in (1, 1, 0, ALL, ALL)] == [[b"x" * 100], [b"y"], [], [b"z"], []]
    reader.close()


def test_what_is_behind_the_position_is_deleted_by_segments(writer: SpoolWriter, usage: Usage) -> None:
    for text in (b"a", b"b", b"c"):
        writer.append([text])
    reader = SpoolReader(writer.folder, usage, Position())
    assert reader.read(2) == [b"a", b"b"]
    reader.release(reader.position)
    assert [first for first, _ in segments(writer.folder)] == [2, 3]
    assert usage.bytes == 2 * len(frame(1, b"a"))
    assert reader.read(ALL) == [b"c"]
    reader.close()


@pytest.mark.parametrize("size", range(len(frame(3, b"third")) + 1))
def test_a_crash_at_any_byte_leaves_the_whole_pieces(writer: SpoolWriter, usage: Usage, size: int) -> None:
    writer.append([b"first", b"second"])
    before = files(writer)[0].stat().st_size
    with files(writer)[0].open("ab") as file:
        file.write(frame(3, b"third")[:size])
    [folder] = leftovers(writer.folder.parent)
    reader = SpoolReader(folder, usage, Position())
    whole = size == len(frame(3, b"third"))
    assert reader.read(ALL) == [b"first", b"second", *([b"third"] if whole else [])]
    assert size_of([folder]) == before + (size if whole else 0)
    reader.close()


def test_leftovers_are_in_order_and_empty_folders_go(tmp_path: Path, usage: Usage) -> None:
    writers = [SpoolWriter(tmp_path, usage) for _ in range(3)]
    for writer in writers:
        writer.close()
    for path in files(writers[1]):
        path.unlink()
    (tmp_path / "x-1.damaged").touch()
    assert leftovers(tmp_path) == [writers[0].folder, writers[2].folder]
    assert not writers[1].folder.exists()


@pytest.mark.parametrize("damage", ["turned", "cut", "empty"])
def test_a_damaged_segment_is_set_aside_and_reading_goes_on(writer: SpoolWriter, usage: Usage, damage: str) -> None:
    for text in (b"a", b"b", b"c"):
        writer.append([text, text.upper()])
    hit = files(writer)[1]
    content = hit.read_bytes()
    hit.write_bytes({"turned": content[:-1] + b"?", "cut": content[: len(content) // 2], "empty": b""}[damage])
    reader = SpoolReader(writer.folder, usage, Position())
    kept = [] if damage == "empty" else [b"b"]
    assert reader.read(ALL) == [b"a", b"A", *kept, b"c", b"C"]
    assert reader.position == Position(7, 5, 2 * len(frame(1, b"c")))
    assert not hit.exists()
    aside = [path.name for path in writer.folder.parent.glob("*.damaged")]
    assert aside == [f"{writer.spool_id}-{hit.stem}.damaged"]
    reader.close()


def test_what_is_added_to_a_segment_while_its_end_is_read_is_not_missed(
    tmp_path: Path, usage: Usage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(tmp_path, usage, segment_bytes=60)
    writer.append([b"a"])
    reader = SpoolReader(writer.folder, usage, Position())
    assert reader.read(ALL) == [b"a"]
    following, added = reader._following, [[b"b" * 60], [b"c"]]

    def meanwhile() -> int | None:
        while added:
            writer.append(added.pop(0))
        return following()

    monkeypatch.setattr(reader, "_following", meanwhile)
    assert reader.read(ALL) == [b"b" * 60, b"c"]
    assert [first for first, _ in segments(writer.folder)] == [1, 3], "none was set aside"
    reader.close()
    writer.close()


@pytest.mark.parametrize(("gone", "read"), [(0, [b"b", b"c"]), (1, [b"a", b"c"])])
def test_a_segment_that_is_gone_is_no_obstacle(writer: SpoolWriter, usage: Usage, gone: int, read: list[bytes]) -> None:
    """A crash after it was set aside leaves it in the record of progress."""
    for text in (b"a", b"b", b"c"):
        writer.append([text])
    files(writer)[gone].unlink()
    reader = SpoolReader(writer.folder, usage, Position())
    assert reader.read(ALL) == read
    reader.close()


def test_damage_in_the_last_segment_ends_the_process(writer: SpoolWriter, usage: Usage) -> None:
    """Its next start cuts what is behind the last whole piece."""
    writer.append([b"a", b"b"])
    content = files(writer)[0].read_bytes()
    files(writer)[0].write_bytes(content[:-1] + b"?")
    reader = SpoolReader(writer.folder, usage, Position())
    with pytest.raises(DamagedFrame, match="the checksum of piece 2"):
        reader.read(ALL)
    reader.close()
    [folder] = leftovers(writer.folder.parent)
    reader = SpoolReader(folder, usage, Position())
    assert reader.read(ALL) == [b"a"]
    reader.close()


@pytest.mark.parametrize("fails", ["write", "open"])
def test_a_full_disk_takes_all_of_a_batch_or_nothing(
    writer: SpoolWriter, usage: Usage, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The second batch needs a new segment: neither making it nor writing to it may fail otherwise."""
    writer.append([b"a"])
    taken = usage.bytes

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, full)
        for _ in range(2):
            with pytest.raises(SpoolFull, match="the disk of the prediction log is full; make room below"):
                writer.append([b"b", b"c"])
    assert usage.bytes == taken
    assert writer.append([b"b", b"c"]) == 3
    reader = SpoolReader(writer.folder, usage, Position())
    assert reader.read(ALL) == [b"a", b"b", b"c"]
    reader.close()


def test_another_thread_may_sync_while_segments_change(writer: SpoolWriter) -> None:
    stopping = threading.Event()
    failures: list[Exception] = []

    def sync() -> None:
        while not stopping.is_set():
            try:
                writer.sync()
            except Exception as error:  # noqa: BLE001  whatever it is
                failures.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    for _ in range(50):
        writer.append([b"piece"])
    stopping.set()
    thread.join()
    assert not failures


def test_the_spool_is_full_at_its_bytes_or_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    usage = Usage(Limits(cap_bytes=10, cap_seconds=5), present=4)
    usage.add(5)
    assert (usage.bytes, usage.full) == (9, False)
    usage.add(1)
    assert usage.full
    usage.remove(4)
    assert (usage.bytes, usage.full) == (6, False)
    now = 104.9
    assert not usage.full
    now = 105.0
    assert usage.full
    usage.emptied_at = 101.0
    assert (usage.full, usage.waiting_seconds) == (False, 4.0)
