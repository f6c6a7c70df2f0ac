"""A service's place in PostgreSQL: its role, and its schema that only this role may use."""

from __future__ import annotations

import asyncpg

from .database import checked_name

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('holdtrue provision', 0))"


async def provision(admin_dsn: str, service: str, password: str | None = None) -> None:
    """Create role and schema, both named `service`, in the database of `admin_dsn`; harmless when they exist.

    The role may log in and owns the schema; it has rights on nothing else. `password` None leaves the role without one
    (for sockets that trust), otherwise it is set anew.
    """
    name = checked_name(service)
    connection = await asyncpg.connect(admin_dsn)
    try:
        await _create_role(connection, name)
        async with connection.transaction():
            await connection.execute(_LOCK)
            await _grant(connection, name)
            if password is not None:
                await connection.execute(
                    await connection.fetchval(
                        "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", name, password
                    )
                )
    finally:
        await connection.close()


async def _create_role(connection: asyncpg.Connection[asyncpg.Record], name: str) -> None:
    """Roles belong to the whole server: another database may be making the same one at this moment."""
    if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
        return
    try:
        await connection.execute(f"CREATE ROLE {name} LOGIN NOINHERIT")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return


async def _grant(connection: asyncpg.Connection[asyncpg.Record], name: str) -> None:
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name} AUTHORIZATION {name}")
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {name}")
    await connection.execute(f"REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON SCHEMA {name} FROM PUBLIC")
