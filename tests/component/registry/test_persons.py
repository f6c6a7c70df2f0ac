"""The master key is made once, and the registry does not start without the one that protects what it knows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from holdtrue_core.errors import FailedPrecondition
from holdtrue_registry.persons import Persons

from tests.component.databases import migrated

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from holdtrue_storage.database import Database


@pytest.fixture
async def database(database_dsn: str) -> AsyncGenerator[Database]:
    async with migrated(database_dsn, ["holdtrue_lake"]) as database:
        yield database


async def test_the_master_key_is_made_once_and_then_asked_for(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "subjects.key"
    several = [Persons(database, file) for _ in range(4)]
    await asyncio.gather(*(persons.start() for persons in several))
    made = file.read_bytes()
    assert (file.stat().st_mode & 0o777, [path.name for path in file.parent.iterdir()]) == (0o600, ["subjects.key"])

    keys = await asyncio.to_thread(several[0].keys_of, "acme", {"ada"})

    assert (await several[1].keys.of("acme", ["ada"]))["ada"].pseudonym == keys["ada"].pseudonym
    assert file.read_bytes() == made
    await Persons(database, file).start()
    for wrong in (None, bytes(32), b"short"):
        file.unlink()
        if wrong is not None:
            file.write_bytes(wrong)
        with pytest.raises(FailedPrecondition, match="restore the file"):
            await Persons(database, file).start()
        assert file.exists() == (wrong is not None), "nothing is made in its place"
        file.write_bytes(made)
