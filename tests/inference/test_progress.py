"""The record of how far a spool has gone: the last round that was written down whole, whatever happens to the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from holdtrue_inference.store import progress
from holdtrue_inference.store.frames import DiskFull
from holdtrue_inference.store.progress import Message, Progress, Round
from holdtrue_inference.store.spool import Position

from tests.inference.full_disk import writing_at_most

if TYPE_CHECKING:
    from pathlib import Path


def round_(number: int) -> Round:
    start, stop = Position(number, 1, 100 * number), Position(number + 1, 1, 100 * (number + 1))
    return Round(start, stop, 2 * number, [Message(f"batch {number}", [0, 2]), Message(f"other {number}", [1])])


def test_it_begins_with_nothing(tmp_path: Path) -> None:
    assert Progress(tmp_path).last is None


def test_the_last_round_is_found_again(tmp_path: Path) -> None:
    record = Progress(tmp_path)
    for number in range(3):
        record.record(round_(number))
        assert record.last == Progress(tmp_path).last == round_(number)


def test_the_next_round_counts_on(tmp_path: Path) -> None:
    Progress(tmp_path).record(round_(4))
    last = Progress(tmp_path).last
    assert last is not None
    assert last.next_sequence == 10


def test_a_crash_at_any_byte_of_a_round_leaves_the_one_before(tmp_path: Path) -> None:
    record = Progress(tmp_path)
    record.record(round_(1))
    path = tmp_path / "progress"
    before = path.stat().st_size
    record.record(round_(2))
    content = path.read_bytes()
    again = record
    for size in range(before, len(content)):
        path.write_bytes(content[:size])
        again = Progress(tmp_path)
        assert again.last == round_(1)
    again.record(round_(3))
    assert Progress(tmp_path).last == round_(3)


def test_the_file_begins_anew_when_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_MAX_BYTES", 1_000)
    record = Progress(tmp_path)
    sizes: list[int] = []
    for number in range(30):
        record.record(round_(number))
        sizes.append((tmp_path / "progress").stat().st_size)
        assert Progress(tmp_path).last == round_(number)
    assert max(sizes) < 1_500
    assert sizes != sorted(sizes), "it began anew"
    assert [path.name for path in tmp_path.iterdir()] == ["progress"]


def test_half_of_a_new_file_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_MAX_BYTES", 1)
    record = Progress(tmp_path)
    record.record(round_(1))
    (tmp_path / "progress.new").write_bytes(b"half of a crash")
    again = Progress(tmp_path)
    assert again.last == round_(1)
    again.record(round_(2))
    assert Progress(tmp_path).last == round_(2)


@pytest.mark.parametrize("limit", [1, 1 << 20], ids=["anew", "appended"])
def test_a_full_disk_leaves_the_round_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(progress, "_MAX_BYTES", limit)
    record = Progress(tmp_path)
    record.record(round_(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", writing_at_most(20))
        with pytest.raises(DiskFull):
            record.record(round_(2))
    assert record.last == Progress(tmp_path).last == round_(1)
    record.record(round_(2))
    assert record.last == Progress(tmp_path).last == round_(2)
