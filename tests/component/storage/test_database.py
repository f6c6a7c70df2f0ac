from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg
import pytest
from holdtrue_contracts.actor import service_actor
from holdtrue_core.errors import InvalidArgument, Unavailable
from holdtrue_storage.database import Database, Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ACTOR = service_actor("registry")


@pytest.fixture
async def database(service_dsn: str) -> AsyncGenerator[Database]:
    database = Database(service_dsn, "registry", pool_size=2)
    await database.open()
    async with database.acquire() as connection:
        await connection.execute("CREATE TABLE thing (name text PRIMARY KEY)")
    yield database
    await database.close()


async def _names(database: Database) -> list[str]:
    async with database.acquire() as connection:
        return [row["name"] for row in await connection.fetch("SELECT name FROM thing ORDER BY name")]


async def _backend(tx: Transaction) -> int:
    return await tx.fetchval("SELECT pg_backend_pid()")


async def _end_backend(dsn: str, pid: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    await connection.close()


async def test_a_transaction_commits_and_then_runs_its_hooks(database: Database) -> None:
    seen: list[list[str]] = []
    async with database.transaction(ACTOR) as tx:
        assert tx.actor == ACTOR
        await tx.execute("INSERT INTO thing VALUES ($1)", "a")
        await tx.executemany("INSERT INTO thing VALUES ($1)", [("b",), ("c",)])
        tx.after_commit(lambda: seen.append(["called"]))
        assert seen == []
    assert seen == [["called"]]
    assert await _names(database) == ["a", "b", "c"]


@pytest.mark.parametrize("query", ["SELECT $1", "SELECT jsonb_build_object($1::jsonb, 1)"])
async def test_a_text_that_postgresql_cannot_hold_is_the_callers_fault(database: Database, query: str) -> None:
    with pytest.raises(InvalidArgument, match="NUL"):
        async with database.transaction(ACTOR) as tx:
            await tx.fetchval(query, "a\0b")
    assert await _names(database) == []


async def test_an_exception_rolls_back_and_runs_no_hook(database: Database) -> None:
    seen: list[str] = []

    async def fail() -> None:
        async with database.transaction(ACTOR) as tx:
            await tx.execute("INSERT INTO thing VALUES ('a')")
            tx.after_commit(lambda: seen.append("called"))
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert seen == []
    assert await _names(database) == []


async def test_a_failed_statement_that_was_ignored_does_not_pass_for_a_commit(database: Database) -> None:
    seen: list[str] = []

    async def ignore() -> None:
        async with database.transaction(ACTOR) as tx:
            await tx.execute("INSERT INTO thing VALUES ('a')")
            tx.after_commit(lambda: seen.append("called"))
            with suppress(asyncpg.UniqueViolationError):
                await tx.execute("INSERT INTO thing VALUES ('a')")

    with pytest.raises(RuntimeError, match="rolled back"):
        await ignore()
    assert seen == []
    assert await _names(database) == []


async def test_a_cancelled_transaction_leaves_its_connection_clean(database: Database) -> None:
    inside = asyncio.Barrier(3)

    async def wait_inside(name: str) -> None:
        async with database.transaction(ACTOR) as tx:
            await tx.execute("INSERT INTO thing VALUES ($1)", name)
            await inside.wait()
            await tx.execute("SELECT pg_sleep(60)")

    tasks = [asyncio.create_task(wait_inside(name)) for name in "ab"]  # the whole pool
    await inside.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    async with database.transaction(ACTOR) as one, database.transaction(ACTOR) as other:
        assert await one.fetchval("SELECT count(*) FROM thing") == 0
        assert await other.fetchval("SELECT 1") == 1


async def test_a_lost_connection_is_unavailable_and_the_next_one_works(database: Database, database_dsn: str) -> None:
    async def lose() -> None:
        async with database.transaction(ACTOR) as tx:
            await tx.execute("INSERT INTO thing VALUES ('a')")
            await _end_backend(database_dsn, await _backend(tx))
            await tx.execute("INSERT INTO thing VALUES ('b')")

    with pytest.raises(Unavailable, match="registry") as raised:
        await lose()
    assert raised.value.retriable
    async with database.transaction(ACTOR) as tx:
        await tx.execute("INSERT INTO thing VALUES ('c')")
    assert await _names(database) == ["c"]


async def test_a_deadlock_is_unavailable(database: Database) -> None:
    async with database.transaction(ACTOR) as tx:
        await tx.executemany("INSERT INTO thing VALUES ($1)", [("a",), ("b",)])
    barrier = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> None:
        async with database.transaction(ACTOR) as tx:
            await tx.execute("SELECT 1 FROM thing WHERE name = $1 FOR UPDATE", first)
            await barrier.wait()
            await tx.execute("SELECT 1 FROM thing WHERE name = $1 FOR UPDATE", second)

    outcomes = await asyncio.gather(lock("a", "b"), lock("b", "a"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome] == [Unavailable]


async def test_the_statements_own_errors_stay_what_they_are(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.transaction(ACTOR) as tx:
            await tx.execute("SELECT * FROM nothing")
    with pytest.raises(asyncpg.DataError):
        async with database.transaction(ACTOR) as tx:
            await tx.execute("SELECT $1::int", "no number")
    with pytest.raises(FileNotFoundError):
        async with database.transaction(ACTOR):
            raise FileNotFoundError


async def test_a_server_that_is_away_is_unavailable() -> None:
    database = Database("postgresql://registry@127.0.0.1:1/nothing", "registry")
    with pytest.raises(Unavailable, match="try again"):
        await database.open()


async def test_json_columns_are_python_values(database: Database) -> None:
    async with database.transaction(ACTOR) as tx:
        assert await tx.fetchval("SELECT $1::jsonb", {"a": [1, None]}) == {"a": [1, None]}


async def test_a_commit_is_on_disk_before_it_is_acknowledged(database: Database) -> None:
    async with database.acquire() as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SHOW search_path") == "registry"


def test_a_schema_needs_a_name_that_is_safe() -> None:
    with pytest.raises(ValueError, match="cannot name a schema"):
        Database("postgresql://", 'public"; DROP')


def test_what_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="start it before"):
        asyncio.run(Database("postgresql://", "registry").acquire().__aenter__())
