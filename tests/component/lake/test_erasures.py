"""Erasures that people ask for, with keys, queue and leases in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import RECORD_FORMAT_JSON_LINES, DatasetSchema
from holdtrue_core.errors import InvalidArgument
from holdtrue_lake import erasure_round as module
from holdtrue_lake.erasure import Erased
from holdtrue_lake.erasures import DatasetErased, Erasure, Erasures, Run
from holdtrue_lake.history import History
from holdtrue_lake.leases import PostgresLeases, TableLeaseLost
from holdtrue_lake.proof import scan
from holdtrue_lake.protection import Protection
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.storage import quarantine_uri
from holdtrue_lake.subject_keys import PostgresSubjectKeys
from holdtrue_lake.subjects import MasterKey
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.validation import validate
from holdtrue_lake.versions import read_version

from tests.component.databases import migrated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from holdtrue_lake.commits import Commit
    from holdtrue_storage.database import Database, Transaction

ALL = [(0, 1_000_000)]
OFFICER = Actor("acme", "dpo", ActorKind.PERSON)
SCHEMA = DatasetSchema(
    columns=[
        ColumnSpec(name="email", dtype="string", pii=True),
        ColumnSpec(name="amount", dtype="float32"),
        ColumnSpec(name="fraud", dtype="int64"),
    ],
    label="fraud",
)
ADA, BOB = "ada.lovelace@example.org", "bob.builder@example.org"


class Died(Exception):
    """As a process dies, seen from the outside."""


def die(*_: object, **__: object) -> None:
    raise Died


class Registry:
    """What a service does with the lake: it ingests for a tenant, and runs what was asked."""

    def __init__(self, database: Database, root: Path, patience: timedelta = timedelta(minutes=1)) -> None:
        master = MasterKey(bytes(range(32)))
        self.database, self.root = database, root
        self.dataset_id = str(uuid.uuid4())
        self.keys = PostgresSubjectKeys(database, master)
        self.leases = PostgresLeases(database)
        self.erasures = Erasures(database, master, self.leases, root, patience)
        self.outcomes: list[DatasetErased] = []
        self.told: list[Erasure] = []
        self._offset = 0

    async def append(self, *emails: str, refused: str = "") -> Commit:
        entries: list[dict[str, Any]] = [{"email": email, "amount": 1, "fraud": 0} for email in emails]
        entries += [{"email": refused, "amount": 1, "fraud": "x"}] if refused else []
        payload = "\n".join(map(json.dumps, entries)).encode()
        protection = Protection(self.dataset_id, SCHEMA, "email")
        content = validate(SCHEMA, payload, RECORD_FORMAT_JSON_LINES, datetime.now(UTC))
        keys = await self.keys.of("acme", protection.identifiers(content))
        self._offset += 1
        offer = Offer(self._offset, str(self._offset), protection.protect(content, keys))
        table = DatasetTable(self.root, self.dataset_id, SCHEMA, protected=True)
        commit = table.ingest(Source("cluster", "topic", 0), [offer], datetime.now(UTC))
        assert commit is not None
        return commit

    async def run(self) -> Run:
        return await self.erasures.run("acme", [self.dataset_id], self)

    async def changed(self, _tx: Transaction, outcome: DatasetErased) -> None:
        self.outcomes.append(outcome)

    async def erased(self, _tx: Transaction, erasure: Erasure) -> None:
        self.told.append(erasure)

    def rows(self) -> int:
        return read_version(self.root, self.dataset_id, ALL).num_rows


@pytest.fixture
async def database(database_dsn: str) -> AsyncGenerator[Database]:
    async with migrated(database_dsn, ["holdtrue_lake"]) as database:
        yield database


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> Registry:
    return Registry(database, tmp_path)


async def dump(database: Database) -> str:
    """Everything that a dump of the database has."""
    async with database.acquire() as connection:
        rows = [await connection.fetch(f"SELECT * FROM {name}") for name in ("subject_key", "erasure")]  # noqa: S608
    return repr(
        [[bytes(v) if isinstance(v, memoryview) else v for v in row.values()] for table in rows for row in table]
    )


async def test_a_person_is_erased_everywhere_and_it_is_proven(registry: Registry) -> None:
    commits = [await registry.append(ADA, BOB, refused=ADA), await registry.append(BOB)]
    history = History("schema").add_commits(commit.digest for commit in commits).publish(datetime.now(UTC))
    pseudonym = (await registry.keys.of("acme", [ADA]))[ADA].pseudonym
    asked = await registry.erasures.ask(OFFICER, ADA, "art. 17")
    assert await registry.erasures.ask(OFFICER, f" {ADA} ", "again") == asked

    run = await registry.run()

    assert (run.done, run.left, registry.outcomes) == ((asked,), (), [*run.datasets])
    [outcome] = run.datasets
    assert outcome.rows == {0: 1}
    assert [(each.id, each.pseudonym, dict(each.held)) for each in registry.told] == [
        (asked, pseudonym, {registry.dataset_id: Erased(1, 1, Ranges.of([(0, 0)]))})
    ]
    assert (outcome.erased.rows, outcome.erased.quarantined, str(outcome.erased.commits)) == (1, 1, "0")
    after = history.erase(outcome.digests)
    assert after.versions[0].erasure_epoch == 1
    assert after.versions[0].digest != history.versions[0].digest
    assert registry.rows() == 2
    assert scan(registry.root, registry.dataset_id, [ADA, pseudonym]).found == ()
    assert await registry.keys.by_pseudonym("acme", [pseudonym]) == {}
    [erasure] = await registry.erasures.list("acme")
    assert (erasure.reason, erasure.asked_by, erasure.pseudonym) == ("art. 17", "dpo", pseudonym)
    assert (erasure.total, erasure.proof["datasets"][0]["rows"] if erasure.proof else None) == (1, 1)
    assert erasure.done_at is not None
    assert erasure.proof is not None
    assert erasure.proof["datasets"][0]["found"] == []
    assert erasure.proof["datasets"][0]["files"] > 0
    assert set(erasure.proof["leaves"]) == {"data.v1", "dead-letters.v1"}
    assert ADA not in await dump(registry.database)


async def test_a_key_is_made_once_however_many_want_it(database: Database) -> None:
    stores = [PostgresSubjectKeys(database, MasterKey(bytes(32))) for _ in range(4)]
    names = [f"person {number}" for number in range(20)]

    found = await asyncio.gather(*(store.of("acme", names[:: 1 - 2 * (n % 2)]) for n, store in enumerate(stores)))

    assert len({keys[name].pseudonym for keys in found for name in names}) == 20
    sealed = found[0][names[0]].seal(b"value", b"place")
    again = await stores[1].by_pseudonym("acme", [found[0][names[0]].pseudonym])
    assert again[found[0][names[0]].pseudonym].open(sealed, b"place") == b"value"
    assert (await stores[0].of("other", names[:1]))[names[0]].pseudonym != found[0][names[0]].pseudonym


@pytest.mark.parametrize("step", ["erase_rows", "vacuum", "content_digests", "scan", "changed", "erased"])
async def test_a_run_that_dies_is_done_by_the_next(
    registry: Registry, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.append(ADA, BOB, refused=ADA)
    asked = await registry.erasures.ask(OFFICER, ADA, "art. 17")

    with monkeypatch.context() as patch:
        patch.setattr(Registry if step in {"changed", "erased"} else module, step, die)
        with pytest.raises(Died):
            await registry.run()
    assert [each.done_at for each in await registry.erasures.list("acme")] == [None]

    run = await registry.run()

    assert run.done == (asked,)
    [outcome] = registry.outcomes
    assert (outcome.erased.rows, outcome.erased.quarantined) == (1, 1)
    assert set(outcome.digests) == {0}
    assert registry.rows() == 1
    assert registry.told[0].held[registry.dataset_id] == Erased(1, 1, Ranges.of([(0, 0)])), "counted before it went"
    assert bool(run.datasets) == (step != "erased"), "what is proven is not done again"


async def test_what_cannot_be_proven_is_not_done_and_becomes_overdue(registry: Registry) -> None:
    await registry.append(ADA, BOB)
    asked = await registry.erasures.ask(OFFICER, ADA, "art. 17", timedelta())
    other = await registry.erasures.ask(OFFICER, BOB, "art. 17")
    stray = registry.root / f"{registry.dataset_id}_quarantine" / "stray.txt"
    stray.write_text(f"somebody wrote down {ADA}")

    run = await registry.run()

    assert (run.done, run.left) == ((other,), (asked,))
    [overdue] = await registry.erasures.list("acme", overdue=True)
    assert overdue.id == asked
    assert overdue.proof is not None
    place = quarantine_uri(registry.root, registry.dataset_id).uri
    assert overdue.proof["datasets"][0]["found"] == [
        {"pseudonym": False, "file": f"{place}/stray.txt", "where": "bytes"}
    ]
    stray.unlink()
    assert (await registry.run()).done == (asked,)
    assert await registry.erasures.list("acme", overdue=True) == []


async def test_rows_that_were_on_their_way_go_with_the_next_run(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were protected before the key went, and reach the table after; a run that dies with them is repeated."""
    await registry.append(BOB)
    keys = await registry.keys.of("acme", [ADA])
    asked = await registry.erasures.ask(OFFICER, ADA, "art. 17")
    assert (await registry.run()).done == (asked,)
    late = Protection(registry.dataset_id, SCHEMA, "email")
    content = validate(SCHEMA, json.dumps({"email": ADA, "amount": 1, "fraud": 0}).encode(), RECORD_FORMAT_JSON_LINES,
                       datetime.now(UTC))  # fmt: skip
    table = DatasetTable(registry.root, registry.dataset_id, SCHEMA, protected=True)
    table.ingest(Source("cluster", "topic", 0), [Offer(99, "late", late.protect(content, keys))], datetime.now(UTC))
    assert registry.rows() == 2

    with monkeypatch.context() as patch:
        patch.setattr(module, "vacuum", die)
        with pytest.raises(Died):
            await registry.run()
    run = await registry.run()

    assert registry.rows() == 1
    assert (run.done, run.datasets[0].erased.rows, set(run.datasets[0].digests)) == ((), 1, {1})
    assert [each.id for each in registry.told] == [asked, asked]
    assert (await registry.run()).datasets == (), "nothing more has come"


async def test_somebody_who_comes_back_is_somebody_new(registry: Registry) -> None:
    await registry.append(ADA)
    await registry.erasures.ask(OFFICER, ADA, "art. 17")
    await registry.run()
    await registry.append(ADA)

    await registry.run()

    assert registry.rows() == 1


async def test_nothing_known_is_proven_too(registry: Registry) -> None:
    await registry.append(BOB)
    asked = await registry.erasures.ask(OFFICER, "nobody@example.org", "art. 17")

    assert (await registry.run()).done == (asked,)
    assert registry.rows() == 1
    with pytest.raises(InvalidArgument, match="name the person"):
        await registry.erasures.ask(OFFICER, "  ", "art. 17")


async def test_files_go_only_when_nobody_reads_them(registry: Registry) -> None:
    await registry.append(ADA, BOB)
    await registry.erasures.ask(OFFICER, ADA, "art. 17")
    folder = registry.root / registry.dataset_id
    before = set(folder.glob("*.parquet"))
    reading, erased = asyncio.Event(), asyncio.Event()

    async def reader() -> None:
        async with registry.leases.reader("acme", registry.dataset_id, "trainer"):
            reading.set()
            await erased.wait()
            assert before <= set(folder.glob("*.parquet")), "removed under a reader"

    async with asyncio.TaskGroup() as group:
        group.create_task(reader())
        await reading.wait()
        run = group.create_task(registry.run())
        while registry.rows() == 2:
            await asyncio.sleep(0.05)
        erased.set()
    assert run.result().done
    assert not before & set(folder.glob("*.parquet"))


async def test_what_is_in_use_or_damaged_holds_up_nothing_else(registry: Registry) -> None:
    await registry.append(ADA, BOB)
    asked = await registry.erasures.ask(OFFICER, ADA, "art. 17")
    other = str(uuid.uuid4())
    DatasetTable(registry.root, other, SCHEMA, protected=True)

    async with registry.leases.writer("acme", other, "somebody"):
        run = await registry.erasures.run("acme", [other, registry.dataset_id], registry)

    assert (run.left, registry.rows()) == ((asked,), 1)
    assert "somebody is writing" in run.troubles[other]
    erasure = await registry.erasures.get("acme", asked[:13])
    assert "somebody is writing" in erasure.checked[other]["trouble"]
    assert await registry.erasures.pressing("acme"), "the next run goes on with it"
    again = await registry.erasures.run("acme", [other, registry.dataset_id], registry)
    assert (again.done, [each.dataset_id for each in again.datasets]) == ((asked,), [other])
    assert not await registry.erasures.pressing("acme")


async def test_who_reads_for_too_long_loses_the_lease(database: Database, tmp_path: Path) -> None:
    registry = Registry(database, tmp_path, timedelta())
    registry.leases = PostgresLeases(database, timedelta(seconds=1))
    await registry.append(ADA)
    await registry.erasures.ask(OFFICER, ADA, "art. 17")

    async def read_for_ever() -> None:
        async with registry.leases.reader("acme", registry.dataset_id, "trainer"):
            assert (await registry.run()).done
            await asyncio.Event().wait()

    with pytest.raises(TableLeaseLost):
        await read_for_ever()
