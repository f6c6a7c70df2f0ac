"""Leases on tables, on a real PostgreSQL with several processes' worth of pools."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from holdtrue_lake.leases import PostgresLeases, TableBusy, TableLeaseLost
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import migrate
from holdtrue_storage.provision import provision

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SHORT = timedelta(seconds=1)


@pytest.fixture
async def databases(database_dsn: str) -> AsyncGenerator[list[Database]]:
    """Three pools of one service, as three processes have."""
    await provision(database_dsn, "registry")
    async with AsyncExitStack() as stack:
        pools: list[Database] = []
        for _ in range(3):
            database = Database(database_dsn.replace("postgres@", "registry@"), "registry", pool_size=4)
            await database.open()
            stack.push_async_callback(database.close)
            pools.append(database)
        await migrate(pools[0], ["holdtrue_lake"])
        yield pools


async def test_there_is_one_writer_however_many_want_to_be(databases: list[Database]) -> None:
    inside, most, turns = 0, 0, 0

    async def work(leases: PostgresLeases, name: str) -> None:
        nonlocal inside, most, turns
        while True:
            try:
                async with leases.writer("acme", "dataset", name):
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0)
                    turns += 1
                    inside -= 1
                    return
            except TableBusy:
                continue

    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(work(PostgresLeases(databases[number % 3]), f"writer {number}"))

    assert (most, turns) == (1, 12)


async def test_tables_and_tenants_do_not_hinder_each_other(databases: list[Database]) -> None:
    leases = PostgresLeases(databases[0])

    async with (
        leases.writer("acme", "one", "a"),
        leases.writer("acme", "two", "b"),
        leases.writer("other", "one", "c") as writer,
        leases.reader("acme", "one", "d"),
    ):
        assert await writer.alone()
        with pytest.raises(TableBusy, match="a is writing the table of dataset one; try again"):
            async with leases.writer("acme", "one", "e"):
                pytest.fail("a second writer came in")


async def test_a_writer_is_alone_when_the_readers_have_left_and_no_new_one_comes_in(databases: list[Database]) -> None:
    one, two = PostgresLeases(databases[0]), PostgresLeases(databases[1])

    async with one.writer("acme", "dataset", "eraser") as writer:
        async with two.reader("acme", "dataset", "trainer"):
            assert not await writer.alone()
            with pytest.raises(TableBusy, match="eraser is writing"):
                async with two.reader("acme", "dataset", "late"):
                    pytest.fail("a reader came in")
        assert await writer.alone()
    async with two.reader("acme", "dataset", "next"):
        pass


async def test_a_cancelled_reader_is_told(databases: list[Database]) -> None:
    one, two = PostgresLeases(databases[0]), PostgresLeases(databases[1], SHORT)
    reading = asyncio.Event()

    async def read() -> None:
        async with two.reader("acme", "dataset", "trainer"):
            reading.set()
            await asyncio.Event().wait()

    async with one.writer("acme", "dataset", "eraser") as writer:
        reader = asyncio.create_task(read())
        await reading.wait()
        assert await writer.alone(cancel=True)
        with pytest.raises(TableLeaseLost, match="has ended or was cancelled"):
            await reader


async def test_the_lease_of_a_dead_writer_ends_and_that_of_a_living_one_does_not(databases: list[Database]) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(PostgresLeases(databases[0], SHORT).writer("acme", "living", "a"))
        async with databases[1].acquire() as connection:  # what a killed process leaves behind
            await connection.execute(
                """INSERT INTO table_lease (tenant, dataset_id, id, kind, holder, leased_until)
                VALUES ('acme', 'dead', 'x', 'writer', 'b', clock_timestamp() + interval '2 seconds')"""
            )
        leases = PostgresLeases(databases[2])
        while True:
            try:
                await stack.enter_async_context(leases.writer("acme", "dead", "c"))
                break
            except TableBusy:
                continue
        with pytest.raises(TableBusy):
            await stack.enter_async_context(leases.writer("acme", "living", "d"))


async def test_an_error_inside_is_that_error_and_frees_the_table(databases: list[Database]) -> None:
    leases = PostgresLeases(databases[0])

    with pytest.raises(KeyError):
        async with leases.writer("acme", "dataset", "a"):
            raise KeyError("inside")
    async with leases.writer("acme", "dataset", "b"):
        pass
