"""One service's schema in PostgreSQL: a pool, and transactions as units of work."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import asyncpg
from holdtrue_core.errors import HoldtrueError, InvalidArgument, Unavailable
from holdtrue_core.lifecycle import Resource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from asyncpg.pool import PoolConnectionProxy
    from holdtrue_contracts.actor import Actor

    Connection = PoolConnectionProxy[asyncpg.Record]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_COMMIT = "COMMIT"
_CONNECT_SECONDS = 10
_COMMAND_SECONDS = 60
_SESSION = {
    "synchronous_commit": "on",  # acknowledged means on disk
    "idle_in_transaction_session_timeout": "60s",  # a frozen process does not hold locks for ever
    "timezone": "UTC",
}
_TRANSIENT = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, query cancelled
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.TransactionRollbackError,  # serialization failure, deadlock
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
_CONNECTING = (*_TRANSIENT, OSError, TimeoutError)
_NO_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)  # in text, in jsonb


class Transaction:
    """What happens in one database transaction, in the name of one actor.

    Attributes:
        database: Where it runs.
        connection: The asyncpg connection, for what this class does not offer.
        actor: In whose name; `actor.tenant` belongs into every key.
    """

    prepared: ClassVar[Mapping[str, str]] = {}
    """PREPARE statements, by name, that each session has run before the first transaction of a subclass."""

    def __init__(self, database: Database, connection: Connection, actor: Actor) -> None:
        """Bind to a connection with a transaction open; use `Database.transaction`."""
        self.database = database
        self.connection = connection
        self.actor = actor
        self._hooks: list[Callable[[], object]] = []

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Return all rows."""
        return await self.connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """Return the first row, or None."""
        return await self.connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:  # noqa: ANN401  any type that a column can have
        """Return the first column of the first row, or None."""
        return await self.connection.fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement; return its command tag, for example "UPDATE 1"."""
        return await self.connection.execute(query, *args)

    async def executemany(self, query: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of arguments."""
        await self.connection.executemany(query, rows)

    def after_commit(self, hook: Callable[[], object]) -> None:
        """Call `hook` after a commit, never after a rollback; it must not raise."""
        self._hooks.append(hook)

    def ending(self) -> str:
        """Return the SQL that ends it, sent as one message; a subclass puts its statements before COMMIT."""
        return _COMMIT

    def committed(self) -> None:
        """Run the hooks; called by `Database.transaction`."""
        for hook in self._hooks:
            hook()


T = TypeVar("T", bound=Transaction)


class Database(Resource):
    """A service's own schema. As a part of an app it opens its pool at start."""

    name = "database"

    def __init__(self, dsn: str, schema: str, pool_size: int = 8) -> None:
        """Name the server and the schema; nothing is opened before `start`."""
        super().__init__()
        self.schema = checked_name(schema)
        self._dsn = dsn
        self._pool_size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._signals: dict[str, asyncio.Event] = {}

    async def open(self) -> None:
        """Open the pool; raises Unavailable when the server cannot be reached."""
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._pool_size,
                timeout=_CONNECT_SECONDS,
                command_timeout=_COMMAND_SECONDS,
                server_settings={**_SESSION, "search_path": self.schema, "application_name": f"holdtrue {self.schema}"},
                init=_prepare,
                reset=_keep_session,
                connection_class=_Session,
            )
        except _CONNECTING as error:
            raise self._unavailable(error) from error

    async def close(self) -> None:
        """Close the pool after the transactions under way."""
        if self._pool is not None:
            await self._pool.close()

    def signal(self, channel: str) -> asyncio.Event:
        """Return the event by which a worker of this process learns that there is something to do."""
        return self._signals.setdefault(channel, asyncio.Event())

    def transaction(self, actor: Actor) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction: committed at the end of the block, rolled back by any exception.

        Raises InvalidArgument for a text with a NUL character, which PostgreSQL cannot hold, and Unavailable
        (retriable) where the database, not the statement, is at fault: away, overloaded, full, deadlock,
        serialization. After an Unavailable of the commit itself the outcome is unknown: repeat only what
        is idempotent.
        """
        return self.unit_of_work(Transaction, actor)

    @asynccontextmanager
    async def unit_of_work(self, kind: Callable[[Database, Connection, Actor], T], actor: Actor) -> AsyncGenerator[T]:
        """Open a transaction of a subclass of `Transaction`; otherwise like `transaction`."""
        async with self.acquire() as connection:
            tx = kind(self, connection, actor)
            await _begin(connection, tx.prepared)
            try:
                yield tx
                outcome = await connection.execute(tx.ending())
            except BaseException:
                await _roll_back(connection)
                raise
            if outcome != _COMMIT:  # PostgreSQL says so without an error
                raise RuntimeError("a statement of the transaction had failed and was ignored: all was rolled back")
            tx.committed()

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Connection]:
        """Lend a connection, outside a transaction; leave no session state on it. Raises like `transaction`."""
        pool = self._opened()
        try:
            connection = await pool.acquire()
        except _CONNECTING as error:
            raise self._unavailable(error) from error
        try:
            yield connection
        except HoldtrueError:
            raise
        except _NO_TEXT as error:
            raise InvalidArgument("a text holds a NUL character, which cannot be kept; leave it out") from error
        except Exception as error:
            if isinstance(error, _TRANSIENT) or is_lost(connection):
                raise self._unavailable(error) from error
            raise
        finally:
            await pool.release(connection)

    def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        if self._pool is None:
            raise RuntimeError(f"the database of {self.schema} is not open: start it before the parts that use it")
        return self._pool

    def _unavailable(self, error: Exception) -> Unavailable:
        text = f"the database of {self.schema} cannot answer now ({type(error).__name__}: {error}); try again"
        return Unavailable(text, reason="DATABASE_UNAVAILABLE")


def is_lost(connection: Connection) -> bool:
    """True where the server ended the session: asyncpg then takes the connection from who holds it."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def checked_name(name: str) -> str:
    """Return a name that is safe inside SQL (schema, role); raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a schema: use a-z, 0-9 and _, first a letter, at most 63 characters")
    return name


class _Session(asyncpg.Connection):  # pyright: ignore[reportMissingTypeArgument]  it has none when it runs
    """A connection that remembers what was prepared on it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  asyncpg's own
        super().__init__(*args, **kwargs)
        self.prepared: set[str] = set()


async def _begin(connection: Connection, prepared: Mapping[str, str]) -> None:
    """Open a transaction in one message, at the first of a session with what is to be prepared before."""
    known = cast("_Session", connection).prepared
    missing = [statement for name, statement in prepared.items() if name not in known]
    await connection.execute(";".join([*missing, "BEGIN"]))
    known.update(prepared)


async def _roll_back(connection: Connection) -> None:
    """Leave the connection clean for the next; one that does not even roll back is thrown away."""
    if is_lost(connection):
        return
    try:
        await connection.execute("ROLLBACK")
    except Exception:  # noqa: BLE001  the error that led here is the one to raise
        connection.terminate()


async def _prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Let jsonb columns be Python values."""
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


async def _keep_session(_connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Save the round trip of asyncpg's default: we leave nothing behind on a session."""
