"""Rows arrive exactly once, whatever is repeated, raced or killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deltalake.exceptions import CommitFailedError
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_JSON_LINES, DatasetSchema
from holdtrue_lake import log as module
from holdtrue_lake.table import DatasetTable, Fenced, Offer, Source
from holdtrue_lake.validation import validate
from holdtrue_lake.versions import read_quarantine, read_version

if TYPE_CHECKING:
    from deltalake import DeltaTable

SOURCE = Source("cluster", "topic", 3)
ALL = [(0, 1_000_000)]


def offer(schema: DatasetSchema, offset: int, now: datetime, batch: str = "", *, bad: int = 1) -> Offer:
    good = {"amount": offset, "country": "DE", "known": True, "fraud": 0, "at": 1_700_000_000 + offset}
    records = [good] * 2 + [good | {"fraud": "x"}] * bad
    content = b"\n".join(json.dumps(record).encode() for record in records)
    return Offer(offset, batch or f"batch-{offset}", validate(schema, content, RECORD_FORMAT_JSON_LINES, now))


def test_a_commit_says_what_it_holds(tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime) -> None:
    table = DatasetTable(tmp_path, dataset_id, schema)

    commit = table.ingest(SOURCE, [offer(schema, 7, now), offer(schema, 9, now, bad=0)], now)

    assert commit is not None
    assert (commit.number, commit.first_offset, commit.last_offset) == (0, 7, 9)
    assert (commit.accepted, commit.quarantined) == (4, 1)
    assert (commit.from_us, commit.to_us) == (1_700_000_007_000_000, 1_700_000_009_000_000)
    assert [(b.batch_id, b.rows, b.accepted, b.quarantined) for b in commit.batches] == [
        ("batch-7", 3, 2, 1),
        ("batch-9", 2, 2, 0),
    ]
    assert commit.batches[0].codes == {"WRONG_TYPE": 1}
    assert commit.batches[0].examples == ["row 2, column 'fraud': expected a whole number, got 'x' (WRONG_TYPE)"]
    assert DatasetTable(tmp_path, dataset_id, schema).commits(-1) == [commit]
    assert table.commits(0) == []
    assert table.position(SOURCE) == 9


def test_what_the_table_has_is_skipped(tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime) -> None:
    table = DatasetTable(tmp_path, dataset_id, schema)
    offers = [offer(schema, offset, now) for offset in range(4)]
    table.ingest(SOURCE, offers[:3], now)

    again = DatasetTable(tmp_path, dataset_id, schema)

    assert again.ingest(SOURCE, offers[:3], now) is None
    overlapping = again.ingest(SOURCE, offers, now)
    assert overlapping is not None
    assert (overlapping.number, overlapping.first_offset) == (1, 3)
    assert read_version(tmp_path, dataset_id, ALL).column("_off").to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert read_quarantine(tmp_path, dataset_id).column("_off").to_pylist() == [0, 1, 2, 3]


def test_a_batch_sent_again_counts_once(tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime) -> None:
    now = datetime.now(now.tzinfo)  # batch ids are forgotten after a week
    first = DatasetTable(tmp_path, dataset_id, schema)
    first.ingest(SOURCE, [offer(schema, 0, now, "a"), offer(schema, 1, now, "b"), offer(schema, 2, now, "a")], now)

    commit = DatasetTable(tmp_path, dataset_id, schema).ingest(
        SOURCE, [offer(schema, 3, now, "b"), offer(schema, 4, now, "c")], now
    )

    assert commit is not None
    assert (commit.accepted, commit.repeated) == (2, 1)
    assert read_version(tmp_path, dataset_id, ALL).column("_off").to_pylist() == [0, 0, 1, 1, 4, 4]
    assert read_quarantine(tmp_path, dataset_id).column("_off").to_pylist() == [0, 1, 4]


def test_a_writer_that_looked_too_early_is_fenced_and_looks_again(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime
) -> None:
    early, quick = (DatasetTable(tmp_path, dataset_id, schema) for _ in range(2))
    quick.ingest(SOURCE, [offer(schema, 0, now), offer(schema, 1, now)], now)

    commit = early.ingest(SOURCE, [offer(schema, 1, now), offer(schema, 2, now)], now)

    assert commit is not None
    assert (commit.number, commit.first_offset) == (1, 2)
    assert read_version(tmp_path, dataset_id, ALL).column("_off").to_pylist() == [0, 0, 1, 1, 2, 2]


def test_writers_of_two_partitions_never_share_a_commit_number(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime
) -> None:
    one, two = (DatasetTable(tmp_path, dataset_id, schema) for _ in range(2))

    commits = [
        one.ingest(SOURCE, [offer(schema, 0, now, "a")], now),
        two.ingest(Source("cluster", "topic", 4), [offer(schema, 0, now, "b")], now),
    ]

    assert [commit.number for commit in commits if commit] == [0, 1]


def test_a_recreated_topic_starts_anew(tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime) -> None:
    table = DatasetTable(tmp_path, dataset_id, schema)
    table.ingest(SOURCE, [offer(schema, 5, now, "a")], now)

    commit = table.ingest(Source("cluster", "topic made again", 3), [offer(schema, 0, now, "b")], now)

    assert commit is not None
    assert commit.accepted == 2


def test_records_that_reached_quarantine_before_a_crash_are_not_kept_twice(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = DatasetTable(tmp_path, dataset_id, schema)
    append = module.append

    def die_before_rows(target: DeltaTable, *rest: object) -> None:
        if target is table._rows:
            raise KeyboardInterrupt
        append(target, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "append", die_before_rows)
    with pytest.raises(KeyboardInterrupt):
        table.ingest(SOURCE, [offer(schema, 0, now), offer(schema, 1, now)], now)

    monkeypatch.undo()
    after = DatasetTable(tmp_path, dataset_id, schema)
    after.ingest(SOURCE, [offer(schema, offset, now) for offset in range(3)], now)
    assert read_quarantine(tmp_path, dataset_id).column("_off").to_pylist() == [0, 1, 2]
    assert read_version(tmp_path, dataset_id, ALL).num_rows == 6


def test_endless_fencing_is_an_error_and_not_a_loop(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always(*_: object) -> None:
        raise CommitFailedError("Concurrent transaction failed.")

    monkeypatch.setattr(module, "append", always)

    with pytest.raises(Fenced, match="met other writers"):
        DatasetTable(tmp_path, dataset_id, schema).ingest(SOURCE, [offer(schema, 0, now)], now)


@pytest.mark.parametrize("name", ["../escape", "", "/etc", "not-a-uuid"])
def test_an_id_cannot_name_a_place(tmp_path: Path, schema: DatasetSchema, name: str) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        DatasetTable(tmp_path, name, schema)


def test_two_writers_that_kill_themselves_at_random_lose_and_repeat_nothing(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema
) -> None:
    """Both take every message, so that each is the other's zombie, and judge by rules that change all the time."""
    messages, kills, seed = 30, 0, 0
    program = Path(__file__).with_name("killed_writer.py")
    command = [sys.executable, str(program), str(tmp_path), dataset_id, str(messages)]
    done = False
    while not done:
        writers = [subprocess.Popen([*command, str(seed + index)]) for index in range(2)]
        codes = [writer.wait(60) for writer in writers]
        seed += 2
        kills += codes.count(-signal.SIGKILL)
        assert set(codes) <= {0, -signal.SIGKILL}
        done = 0 in codes

    assert kills >= 5
    rows = read_version(tmp_path, dataset_id, ALL)
    refused = read_quarantine(tmp_path, dataset_id)
    found = [
        (row["_off"], row["_row"]) for table in (rows, refused) for row in table.select(["_off", "_row"]).to_pylist()
    ]
    assert sorted(found) == [(offset, row) for offset in range(messages) for row in range(3)]
    assert 0 < refused.num_rows < messages
    commits = DatasetTable(tmp_path, dataset_id, schema).commits(-1)
    assert [commit.number for commit in commits] == list(range(len(commits)))
    assert all(c.accepted + c.quarantined == sum(b.rows for b in c.batches) for c in commits)
