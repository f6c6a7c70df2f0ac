from __future__ import annotations

import asyncio

import asyncpg
import pytest
from holdtrue_storage.provision import provision


async def _run(dsn: str, role: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn.replace("postgres@", f"{role}@"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_service_may_use_its_own_schema_and_no_other(database_dsn: str) -> None:
    await provision(database_dsn, "registry")
    await provision(database_dsn, "trainer")
    await _run(database_dsn, "registry", "CREATE TABLE registry.secret (n int); INSERT INTO registry.secret VALUES (1)")
    for statement in (
        "SELECT * FROM registry.secret",
        "CREATE TABLE registry.mine (n int)",
        "CREATE TABLE public.mine (n int)",
        "CREATE SCHEMA another",
        "DROP TABLE registry.secret",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _run(database_dsn, "trainer", statement)


async def test_it_may_be_repeated_and_raced(database_dsn: str) -> None:
    await asyncio.gather(*(provision(database_dsn, "monitor") for _ in range(8)))
    await provision(database_dsn, "monitor")
    await _run(database_dsn, "monitor", "CREATE TABLE monitor.thing (n int)")


async def test_a_password_is_set_whatever_its_characters(database_dsn: str) -> None:
    await provision(database_dsn, "deployer", 'it\'s \\ $1 %I "x"')
    connection = await asyncpg.connect(database_dsn)
    stored = await connection.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'deployer'")
    await connection.close()
    assert stored.startswith("SCRAM-SHA-256$")


async def test_a_name_that_is_not_safe_is_refused(database_dsn: str) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        await provision(database_dsn, "x; DROP DATABASE y")
