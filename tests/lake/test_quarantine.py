"""What was refused is kept once, whatever crashes and however the rules change meanwhile."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_JSON_LINES, DatasetSchema, RecordsOffered
from holdtrue_core.clock import SystemClock
from holdtrue_lake import log
from holdtrue_lake.faults import Code
from holdtrue_lake.ingest import Ingester, Target
from holdtrue_lake.quarantine import QUARANTINE, Standard
from holdtrue_lake.rejects import read_rejects
from holdtrue_lake.rules import rules_bytes
from holdtrue_lake.rules_yaml import load
from holdtrue_lake.schema import schema_id
from holdtrue_lake.storage import make_table, quarantine_uri
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.validation import Validated, compile_for, validate
from holdtrue_lake.versions import read_quarantine, read_version
from holdtrue_storage.blobs import DirectoryBlobs

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from deltalake import DeltaTable

SOURCE = Source("cluster", "topic", 3)
ALL = [(0, 1_000_000)]
RULES = {name: load(f"version: 1\ncolumns: {{amount: {{{name}: 1}}}}") for name in ("min", "max")}
"""Rows have amounts 0 and 2: each rule set refuses another one."""


def payload(*amounts: float) -> bytes:
    rows = ({"amount": amount, "country": "DE", "known": True, "fraud": 0, "at": 1_700_000_000} for amount in amounts)
    return "\n".join(map(json.dumps, rows)).encode()


class Crashed(BaseException):
    """Stands for a kill."""


@pytest.fixture
def crash_before_rows(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every append of rows crashes until `undo`; what is refused is kept."""
    append = log.append

    def dying(table: DeltaTable, *rest: object) -> None:
        if not table.table_uri.rstrip("/").endswith("_quarantine"):
            raise Crashed
        append(table, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "append", dying)
    return monkeypatch


def offers(schema: DatasetSchema, offsets: range) -> list[Offer]:
    def judged(standard: Standard) -> Validated:
        checker = compile_for(schema, RULES[standard.rules])
        return validate(schema, payload(0, 2), RECORD_FORMAT_JSON_LINES, standard.now, checker=checker)

    return [Offer(offset, f"batch-{offset}", judged) for offset in offsets]


def places(rows: pa.Table) -> list[tuple[int, int]]:
    return list(zip(rows.column("_off").to_pylist(), rows.column("_row").to_pylist(), strict=True))


def test_a_replay_after_a_crash_judges_by_the_rules_of_the_first_try(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime, crash_before_rows: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Crashed):
        DatasetTable(tmp_path, dataset_id, schema).ingest(SOURCE, offers(schema, range(5, 9)), now, "min")
    crash_before_rows.undo()

    table = DatasetTable(tmp_path, dataset_id, schema)
    later = now + timedelta(hours=1)
    part = table.ingest(SOURCE, offers(schema, range(5, 7)), later, "max")
    last = table.ingest(SOURCE, offers(schema, range(5, 11)), later, "max")

    assert part is not None
    assert last is not None
    assert (part.rules, part.first_offset, part.last_offset) == ("min", 5, 6)
    assert (last.rules, last.first_offset, last.last_offset) == ("max", 9, 10)
    assert [(c.first_offset, c.last_offset, c.rules) for c in table.commits(-1)] == [
        (5, 6, "min"), (7, 8, "min"), (9, 10, "max"),
    ]  # fmt: skip
    rows, refused = read_version(tmp_path, dataset_id, ALL), read_quarantine(tmp_path, dataset_id)
    assert places(rows) == [*((offset, 1) for offset in range(5, 9)), (9, 0), (10, 0)]
    assert places(refused) == [*((offset, 0) for offset in range(5, 9)), (9, 1), (10, 1)]
    assert set(rows.slice(0, 4).column("_ingest_time").to_pylist()) == {now}
    assert refused.column("rules").to_pylist() == ["min"] * 4 + ["max"] * 2


def test_a_writer_that_was_left_behind_judges_nothing_by_its_old_rules(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime
) -> None:
    """The new rules refuse nothing here, so that only what the quarantine's log says can fence the old writer."""

    def judged(standard: Standard) -> Validated:
        checker = compile_for(schema, RULES[standard.rules])
        return validate(schema, payload(2, 2), RECORD_FORMAT_JSON_LINES, standard.now, checker=checker)

    behind, ahead = (DatasetTable(tmp_path, dataset_id, schema) for _ in range(2))
    ahead.ingest(SOURCE, [Offer(0, "batch-0", judged)], now, "min")

    assert behind.ingest(SOURCE, [Offer(0, "batch-0", judged)], now, "max") is None
    assert read_quarantine(tmp_path, dataset_id).num_rows == 0
    assert places(read_version(tmp_path, dataset_id, ALL)) == [(0, 0), (0, 1)]


def test_a_writer_that_was_left_behind_takes_over_the_standard_of_who_crashed(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime, crash_before_rows: pytest.MonkeyPatch
) -> None:
    behind = DatasetTable(tmp_path, dataset_id, schema)
    with pytest.raises(Crashed):
        DatasetTable(tmp_path, dataset_id, schema).ingest(SOURCE, offers(schema, range(2)), now, "min")
    crash_before_rows.undo()

    behind.ingest(SOURCE, offers(schema, range(3)), now, "max")

    assert places(read_version(tmp_path, dataset_id, ALL)) == [(0, 1), (1, 1), (2, 0)]
    assert places(read_quarantine(tmp_path, dataset_id)) == [(0, 0), (1, 0), (2, 1)]


def test_a_quarantine_of_an_earlier_release_goes_on(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema, now: datetime
) -> None:
    old = pa.schema([field for field in QUARANTINE if field.name not in {"rules", "faults"}])
    table = make_table(quarantine_uri(tmp_path, dataset_id), old, log.SETTINGS)
    entry = {
        "_part": 3, "_off": 0, "_row": 0, "_ingest_time": now, "batch_id": "b", "schema_id": "s",
        "code": "MISSING", "reason": "row 0, column 'x': expected a number, got None (MISSING)", "raw": b"{}",
    }  # fmt: skip
    write_deltalake(table, pa.Table.from_pylist([entry], old), mode="append")
    assert read_rejects(tmp_path, dataset_id).page[0].rules == ""

    DatasetTable(tmp_path, dataset_id, schema).ingest(SOURCE, offers(schema, range(1, 2)), now, "min")

    [new, before] = read_rejects(tmp_path, dataset_id).page
    assert (new.rules, new.faults[0].rule, new.faults[0].code) == ("min", "amount.min", Code.OUT_OF_RANGE)
    assert (before.faults[0].code, before.faults[0].expected) == (Code.MISSING, entry["reason"])


def test_the_ingester_finds_rules_by_their_digest_and_survives_what_is_in_a_message(
    tmp_path: Path, dataset_id: str, schema: DatasetSchema
) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    rules = blobs.put(rules_bytes(RULES["min"]))
    target = Target(dataset_id, "payments", schema_id(schema), schema, rules)
    ingester = Ingester(tmp_path / "lake", blobs, SystemClock())
    messages = [
        RecordsOffered(batch_id="good", format=RECORD_FORMAT_JSON_LINES, inline=payload(0, 2)),
        RecordsOffered(batch_id="no blob", format=RECORD_FORMAT_JSON_LINES, blob_digest="0" * 64),
        RecordsOffered(batch_id="other schema", schema_id="s", format=RECORD_FORMAT_JSON_LINES, inline=payload(2)),
        RecordsOffered(batch_id="no format", inline=b"?"),
    ]

    assert not ingester.has_table(dataset_id)
    commit = ingester.ingest(target, SOURCE, list(enumerate(messages)))

    assert commit is not None
    assert (commit.accepted, commit.quarantined, commit.rules) == (1, 4, rules)
    assert [batch.codes for batch in commit.batches] == [
        {"OUT_OF_RANGE": 1}, {"MALFORMED": 1}, {"UNKNOWN_SCHEMA": 1}, {"MALFORMED": 1},
    ]  # fmt: skip
    assert ingester.has_table(dataset_id)
    assert ingester.commits(target, -1) == [commit]
    assert Ingester(tmp_path / "lake", blobs, SystemClock()).ingest(target, SOURCE, list(enumerate(messages))) is None
