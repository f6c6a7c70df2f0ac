"""A version closes at the commit that was looked at; what has come since waits for the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.registry.v1.datasets_pb2 import BrokenExpectation
from holdtrue_core.ids import uuid7
from holdtrue_events.outbox import Outbox
from holdtrue_lake.commits import Commit
from holdtrue_lake.schema import schema_id
from holdtrue_registry.app import PACKAGES
from holdtrue_registry.history import close_version
from holdtrue_registry.store.datasets import DatasetStore
from holdtrue_registry.store.suspicion import SuspicionStore

from tests.component.databases import migrated
from tests.component.registry.harness import schema

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holdtrue_registry.domain.datasets import Dataset

ACTOR = Actor("default", "test", ActorKind.SERVICE)


@pytest.fixture
async def outbox(database_dsn: str) -> AsyncGenerator[Outbox]:
    async with migrated(database_dsn, PACKAGES) as database:
        yield Outbox(database, "test")


def commit(number: int, rows: int) -> Commit:
    return Commit(
        number=number,
        app_id="app",
        first_offset=number,
        last_offset=number,
        schema_id="s",
        accepted=rows,
        quarantined=0,
        digest=str(number),
        from_us=1,
        to_us=2,
        ingested_us=1_700_000_000_000_000 + number,
        batches=[],
    )


async def add(outbox: Outbox, dataset: Dataset, *commits: Commit) -> None:
    async with outbox.transaction(ACTOR) as tx:
        for each in commits:
            await DatasetStore(tx).add_commit(dataset.id, each)


async def now(outbox: Outbox, dataset: Dataset) -> Dataset:
    async with outbox.transaction(ACTOR) as tx:
        found = await DatasetStore(tx).get(dataset.id)
    assert found is not None
    return found


async def test_what_came_while_rows_were_judged_waits_for_the_next_version(outbox: Outbox) -> None:
    async with outbox.transaction(ACTOR) as tx:
        dataset = await DatasetStore(tx).create(uuid7(), "payments", schema_id(schema()), schema(), 100)
    assert dataset is not None
    await add(outbox, dataset, commit(0, 5), commit(1, 0), commit(2, 7), commit(3, 1))

    async with outbox.transaction(ACTOR) as tx:
        locked = await DatasetStore(tx).lock(dataset.id)
        assert locked is not None
        first = await close_version(tx, locked, 1, [])
    between = await now(outbox, dataset)
    async with outbox.transaction(ACTOR) as tx:
        second = await close_version(tx, between, 3, [BrokenExpectation(rule="mean")])
        suspicions = await SuspicionStore(tx).open(dataset.id)
    after = await now(outbox, dataset)

    assert ([(r.first, r.last) for r in first.ranges], first.rows) == ([(0, 1)], 5)
    assert (between.open_rows, between.latest_version) == (8, 1)
    assert between.open_since is not None
    assert between.open_since.timestamp() == pytest.approx(1_700_000_000.000002)
    assert ([(r.first, r.last) for r in second.ranges], second.rows) == ([(0, 3)], 13)
    assert [(each.version, str(each.commits)) for each in suspicions] == [(2, "2-3")]
    assert (after.open_rows, after.open_since) == (0, None)
