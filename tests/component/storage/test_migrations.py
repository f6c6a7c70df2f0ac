from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import MigrationError, Migrations, migrate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

PROCESSES = 4


@pytest.fixture
async def database(service_dsn: str) -> AsyncGenerator[Database]:
    database = Database(service_dsn, "registry")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The migrations folder of an importable package."""
    folder = tmp_path / f"made_up_{uuid.uuid4().hex}" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


async def _fetch(database: Database, query: str) -> list[asyncpg.Record]:
    async with database.acquire() as connection:
        return await connection.fetch(query)


async def test_packages_are_applied_in_order_once(database: Database, package: Path) -> None:
    (package / "0002_fill.sql").write_text("INSERT INTO thing SELECT count(*) FROM job")
    (package / "0001_thing.sql").write_text("CREATE TABLE thing (jobs bigint); -- nothing more")
    part = Migrations(database, ["holdtrue_storage", package.parent.name])
    await part.open()
    await part.open()
    assert [row["jobs"] for row in await _fetch(database, "SELECT jobs FROM thing")] == [0]
    names = [row["name"] for row in await _fetch(database, "SELECT name FROM migration ORDER BY applied_at, name")]
    assert names == ["0001_job.sql", "0001_thing.sql", "0002_fill.sql"]


async def test_a_migration_that_fails_leaves_nothing_and_can_be_mended(database: Database, package: Path) -> None:
    file = package / "0001_thing.sql"
    file.write_text("CREATE TABLE thing (n int); INSERT INTO thing VALUES (1); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database, [package.parent.name])
    assert await _fetch(database, "SELECT * FROM migration") == []
    file.write_text("CREATE TABLE thing (n int)")
    await migrate(database, [package.parent.name])
    assert await _fetch(database, "SELECT * FROM thing") == []


async def test_changed_and_missing_files_are_refused(database: Database, package: Path) -> None:
    file = package / "0001_thing.sql"
    file.write_text("CREATE TABLE thing (n int)")
    await migrate(database, [package.parent.name])
    file.write_text("CREATE TABLE thing (n bigint)")
    with pytest.raises(MigrationError, match="changed"):
        await migrate(database, [package.parent.name])
    file.unlink()
    with pytest.raises(MigrationError, match="missing"):
        await migrate(database, [package.parent.name])


async def test_a_badly_named_file_is_refused(database: Database, package: Path) -> None:
    (package / "thing.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="name it NNNN_what_it_does"):
        await migrate(database, [package.parent.name])


_PROGRAM = """
import asyncio, sys
from holdtrue_storage.database import Database
from holdtrue_storage.migrations import migrate

async def main():
    database = Database(sys.argv[1], "registry")
    await database.open()
    print("ready", flush=True)
    sys.stdin.readline()
    await migrate(database, ["holdtrue_storage", sys.argv[2]])
    await database.close()

asyncio.run(main())
"""


def test_four_processes_at_once_apply_each_file_once(service_dsn: str, package: Path) -> None:
    (package / "0001_thing.sql").write_text("CREATE TABLE thing (n int); SELECT pg_sleep(0.2);")
    (package / "0002_count.sql").write_text("INSERT INTO thing VALUES (1); SELECT pg_sleep(0.2);")
    command = [sys.executable, "-c", _PROGRAM, service_dsn, package.parent.name]
    environment = {"PYTHONPATH": str(package.parent.parent)}
    processes = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n", timeout=60)
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert asyncio.run(_count(service_dsn)) == 1


async def _count(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT count(*) FROM registry.thing")
    finally:
        await connection.close()
