"""Forward-only migrations: `NNNN_name.sql` files of packages, applied once, in order, by one process at a time.

Each file runs in one transaction together with its record (package, name, sha256). A file that was changed after it was
applied, that is gone, or that comes before one already applied is refused: the schema is then not what the program
thinks. Repair by a new migration, or by running the version of the program that wrote the schema.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import structlog
from holdtrue_core.lifecycle import Resource

from .database import is_lost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .database import Connection, Database

_FILE = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_LOCK = "SELECT pg_advisory_lock(hashtextextended('holdtrue migrations of ' || $1, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('holdtrue migrations of ' || $1, 0))"
_TABLE = """
CREATE TABLE IF NOT EXISTS migration (
    package text NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (package, name)
)"""
_SECONDS = 3600.0  # for one file, or for waiting for another process
_log = structlog.stdlib.get_logger("holdtrue.migrations")


class MigrationError(Exception):
    """The schema in the database is not what this program's migrations make."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file of a package."""

    package: str
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Hex digest of its text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


class Migrations(Resource):
    """Applies what is missing when the app starts, after the database and before everything that uses it."""

    name = "migrations"

    def __init__(self, database: Database, packages: Sequence[str]) -> None:
        """Name the packages in order: the shared ones first, the service's own last."""
        super().__init__()
        self._database = database
        self._packages = packages

    async def open(self) -> None:
        """Migrate."""
        await migrate(self._database, self._packages)


async def migrate(database: Database, packages: Sequence[str]) -> None:
    """Bring the schema up to date; several processes may call it at once.

    Raises MigrationError where a recorded file was changed, is missing, or would be overtaken.
    """
    wanted = [migration for package in packages for migration in _migrations(package)]
    async with database.acquire() as connection:
        await connection.execute(_LOCK, database.schema, timeout=_SECONDS)
        try:
            await _apply(connection, wanted)
        finally:
            if not is_lost(connection):
                await connection.execute(_UNLOCK, database.schema)


async def _apply(connection: Connection, wanted: Sequence[Migration]) -> None:
    await connection.execute(_TABLE)
    rows = await connection.fetch("SELECT package, name, sha256 FROM migration")
    for migration in pending(wanted, {(row["package"], row["name"]): row["sha256"] for row in rows}):
        async with connection.transaction():
            await connection.execute(migration.sql, timeout=_SECONDS)
            await connection.execute(
                "INSERT INTO migration (package, name, sha256) VALUES ($1, $2, $3)",
                migration.package,
                migration.name,
                migration.sha256,
            )
        _log.info("migrated", package=migration.package, migration=migration.name)


def pending(wanted: Sequence[Migration], applied: dict[tuple[str, str], str]) -> list[Migration]:
    """Return what is still to be applied, given the sha256 of what was, by package and name; raises MigrationError."""
    known = {(migration.package, migration.name): migration for migration in wanted}
    for (package, name), sha256 in applied.items():
        if (package, name) not in known:
            raise MigrationError(
                f"{package}/{name} was applied to this schema but is missing in this program: run a newer one"
            )
        if known[package, name].sha256 != sha256:
            raise MigrationError(
                f"{package}/{name} was changed after it was applied: restore it and add a new migration"
            )
    last = {package: max(name for other, name in applied if other == package) for package, _ in applied}
    missing = [migration for migration in wanted if (migration.package, migration.name) not in applied]
    for migration in missing:
        if migration.name < last.get(migration.package, ""):
            raise MigrationError(
                f"{migration.package}/{migration.name} would be overtaken by {last[migration.package]}: renumber it"
            )
    return missing


def _migrations(package: str) -> Iterator[Migration]:
    folder = files(package) / "migrations"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        if not _FILE.fullmatch(file.name):
            raise MigrationError(f"{package}/migrations/{file.name}: name it NNNN_what_it_does.sql")
        yield Migration(package, file.name, file.read_text(encoding="utf-8"))
