"""Files may change as they like: versions stay what they are, whoever reads, writes or compacts at the same time."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from holdtrue_lake import compaction, rewriting, upkeep
from holdtrue_lake.compaction import Compacted, boundaries, compact
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.storage import open_table
from holdtrue_lake.table import Fenced
from holdtrue_lake.versions import DamagedFile, damaged_commits

if TYPE_CHECKING:
    from .conftest import Lake

FIRST = Ranges.of([(0, 4)])
ALL = Ranges.of([(0, 10_000)])


def run(lake: Lake, *versions: Ranges, most_rows: int = 1000) -> Compacted:
    return compact(lake.root, lake.dataset_id, versions, most_rows)


def spans(lake: Lake) -> list[tuple[int, int]]:
    return [(file.first, file.last) for file in lake.files()]


def test_the_first_version_survives_a_hundred_commits_compaction_and_vacuum(lake: Lake) -> None:
    first = [lake.append(3, partition) for partition in (2, 0, 1, 0, 2)]
    before = lake.digest(FIRST)
    for number in range(100):
        lake.append(2, number % 3)
    assert lake.digest(FIRST) == before

    run(lake, FIRST, Ranges.of([(0, 104)]))
    removed = upkeep.vacuum(lake.root, lake.dataset_id, timedelta(), alone=True)

    assert removed == 105
    assert spans(lake) == [(0, 4), (5, 104)]
    assert lake.digest(FIRST) == before
    assert lake.read(FIRST).num_rows == 15
    assert not damaged_commits(lake.root, lake.dataset_id, {commit.number: commit.digest for commit in first})


def test_files_end_where_versions_do(lake: Lake) -> None:
    for _ in range(10):
        lake.append()

    assert boundaries([FIRST, Ranges.of([(0, 1), (3, 8)])]) == [0, 2, 3, 5, 9]
    assert run(lake, FIRST, Ranges.of([(0, 1), (3, 8)])) == Compacted(removed=8, added=3)
    assert spans(lake) == [(0, 1), (2, 2), (3, 4), (5, 8), (9, 9)]
    assert run(lake, FIRST, Ranges.of([(0, 1), (3, 8)])) == Compacted(0, 0)
    assert run(lake) == Compacted(0, 0), "without a version nobody knows what belongs together"


def test_a_file_across_a_later_boundary_is_parted(lake: Lake) -> None:
    for partition in (1, 0, 1, 0, 1, 0):
        lake.append(2, partition)
    open_table(lake.place).optimize.compact()  # mixes commits, as any other engine may
    assert spans(lake) == [(0, 5)]
    digests = [lake.digest([(n, n)]) for n in range(6)]

    run(lake, Ranges.of([(0, 1)]), Ranges.of([(0, 3)]))

    assert spans(lake) == [(0, 1), (2, 3), (4, 5)]
    assert [lake.digest([(n, n)]) for n in range(6)] == digests


def test_files_have_canonical_order_limits_checksums_and_no_values_in_the_log(lake: Lake) -> None:
    for partition in (1, 0, 1, 0, 1):
        lake.append(3, partition)

    run(lake, FIRST, most_rows=9)

    files = lake.files()
    assert [file.rows for file in files] == [9, 6]
    table = pq.read_table(Path(lake.place.uri) / files[0].path)
    identity = list(zip(*(table.column(name).to_pylist() for name in ("_part", "_off", "_row")), strict=True))
    assert identity == sorted(identity)
    newest = max(Path(lake.place.uri, "_delta_log").glob("*.json")).read_text()
    assert "_event_time" in newest
    assert "amount" not in newest


def test_statistics_of_times_leave_no_row_out(lake: Lake) -> None:
    """Whoever prunes files by time must find the rows at their very ends."""
    for _ in range(5):
        lake.append()
    run(lake, FIRST)
    times = lake.read(FIRST).column("_event_time").to_pylist()

    for time in (min(times), max(times)):
        found = DeltaTable(lake.place.uri).to_pyarrow_table(filters=[("_event_time", "=", time)])
        assert found.num_rows == times.count(time)


@pytest.mark.parametrize("other", ["compaction", "deletion"])
def test_what_somebody_else_did_to_the_files_meanwhile_counts(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Both have read the same files and written their copies before either commits."""
    for _ in range(5):
        lake.append()
    replace = rewriting.replace_files

    def overtaken(*arguments: object) -> bool:
        monkeypatch.undo()
        if other == "compaction":
            run(lake, FIRST)
        else:
            open_table(lake.place).delete("_commit = 2 AND _row = 1")
        return replace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "replace_files", overtaken)
    run(lake, FIRST)

    assert lake.read(ALL).num_rows == (10 if other == "compaction" else 9)
    assert spans(lake) == [(0, 4)]
    on_disk = {path.name for path in Path(lake.place.uri).glob("*.parquet")}
    log = "".join(path.read_text() for path in Path(lake.place.uri, "_delta_log").glob("*.json"))
    assert all(name in log for name in on_disk), "a draft was left behind"


def test_an_append_meanwhile_stays(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        lake.append()
    replace = rewriting.replace_files

    def overtaken(*arguments: object) -> bool:
        lake.append()
        return replace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction, "replace_files", overtaken)
    run(lake, FIRST)

    assert spans(lake) == [(0, 4), (5, 5)]
    assert lake.read(ALL).num_rows == 12


def test_endless_overtaking_is_an_error_and_not_a_loop(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        lake.append()

    def always(*_: object, **__: object) -> None:
        raise CommitFailedError("somebody was faster")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", always)
    with pytest.raises(Fenced, match="attempts to rewrite files"):
        run(lake, FIRST)


def test_readers_writers_and_two_compactions_at_once(lake: Lake) -> None:
    """All at the same time on one table; readers also while files are removed from under later snapshots."""
    for number in range(20):
        lake.append(3, number % 2)
    versions = [Ranges.of([(0, last)]) for last in (4, 9, 19)]
    expected = [lake.digest(version) for version in versions]
    written = threading.Event()

    def write() -> int:
        try:
            return sum(lake.append(2, number % 2).accepted for number in range(8))
        finally:
            written.set()

    def shrink() -> int:
        removed = run(lake, *versions).removed
        while not written.is_set():
            removed += run(lake, *versions, Ranges.of([(0, 19 + removed)])).removed
        return removed

    def read() -> int:
        reads = 0
        while not (written.is_set() and reads):
            assert [lake.digest(version) for version in versions] == expected
            reads += 1
        return reads

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(job) for job in (write, shrink, shrink, read)]
        results = [job.result() for job in work]

    assert results[0] == 16
    assert results[1] + results[2] >= 20, "nothing was compacted meanwhile"
    assert results[3] > 0, "nothing was read meanwhile"
    assert lake.read(ALL).num_rows == 60 + 16
    assert [lake.digest(version) for version in versions] == expected


def spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "gone":
        path.unlink()
    else:  # somewhere in the first pages, where values are
        for position in range(40, 60):
            data[position] ^= 0xFF
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "gone", "flipped"])
def test_a_damaged_file_is_named_with_what_to_do(lake: Lake, how: str) -> None:
    for _ in range(10):
        lake.append(3)
    run(lake, FIRST, Ranges.of([(0, 9)]))
    damaged = lake.files()[0]
    spoil(Path(lake.place.uri) / damaged.path, how)

    with pytest.raises(
        DamagedFile, match=r"commits 0 to 4.* cannot be read .*: restore the file from a backup"
    ) as error:
        lake.read([(0, 9)])

    assert damaged.path in str(error.value)
    assert error.value.file == damaged
    assert lake.read([(5, 9)]).num_rows == 15, "what needs no damaged file is still there"


def test_compaction_never_replaces_a_damaged_file(lake: Lake) -> None:
    for _ in range(5):
        lake.append()
    before = lake.files()
    spoil(Path(lake.place.uri) / before[2].path, "cut")

    with pytest.raises(DamagedFile, match="commits 2 to 2"):
        run(lake, FIRST)

    assert lake.files() == before


def test_rows_that_are_not_what_was_ingested_are_found(lake: Lake) -> None:
    """A table may be readable and yet have other values: the commits' digests tell."""
    digests = {commit.number: commit.digest for commit in (lake.append(2, n % 2) for n in range(4))}
    assert not damaged_commits(lake.root, lake.dataset_id, digests)

    open_table(lake.place).update({"amount": "amount + 1"}, predicate="_commit = 2 AND _row = 1")

    assert damaged_commits(lake.root, lake.dataset_id, digests) == [2]


def test_files_in_use_are_not_vacuumed(lake: Lake) -> None:
    lake.append()

    with pytest.raises(ValueError, match="take the writer's lease"):
        upkeep.vacuum(lake.root, lake.dataset_id, timedelta(minutes=59))
    assert upkeep.vacuum(lake.root, lake.dataset_id) == 0


def test_an_append_under_way_outlives_a_vacuum_that_keeps_nothing(lake: Lake) -> None:
    """Its file is there before its commit is: no log knows it yet, and it must not be taken for rubbish."""
    lake.append()
    under_way = Path(lake.place.uri) / "part-of-an-append-under-way.parquet"
    under_way.write_bytes((Path(lake.place.uri) / lake.files()[0].path).read_bytes())
    hour_ago = under_way.stat().st_mtime - 2 * upkeep.SAFE.total_seconds()

    assert upkeep.vacuum(lake.root, lake.dataset_id, timedelta(), alone=True) == 0
    assert under_way.exists()
    os.utime(under_way, (hour_ago, hour_ago))
    assert upkeep.vacuum(lake.root, lake.dataset_id, timedelta(), alone=True) == 1
    assert not under_way.exists()
