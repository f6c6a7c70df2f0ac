"""Runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdtrue_contracts.trainer.v1.runs_pb2 import RunSpec, RunSucceeded

from holdtrue_trainer.domain.run import Failure, Run, State

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Record
    from holdtrue_storage.database import Transaction

_COLUMNS = (
    "tenant, run_id, model_id, spec, automatic, state, stage, attempts, failure, message, log_digest, result, "
    "manifest_digest, requested_at, ended_at"
)
_INSERT = f"INSERT INTO run ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"  # noqa: S608 - constant
_UPDATE = """
UPDATE run SET state = $3, stage = $4, attempts = $5, failure = $6, message = $7, log_digest = $8, result = $9,
    manifest_digest = $10, ended_at = $11
WHERE tenant = $1 AND run_id = $2"""
_PAGE = """
SELECT * FROM run
WHERE tenant = $1 AND ($2 = '' OR model_id = $2) AND ($3::timestamptz IS NULL OR (requested_at, run_id) < ($3, $4))
ORDER BY requested_at DESC, run_id DESC LIMIT $5"""


class After(NamedTuple):
    """Where a page begins: after the run with this time and id."""

    requested_at: datetime
    run_id: str


class RunStore:
    """The runs of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work within tx."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def add(self, run: Run) -> None:
        """Add a run of a model that has no open one."""
        spec = run.spec
        await self._tx.execute(
            _INSERT,
            *(self._tenant, run.id, spec.model_id, spec.SerializeToString(), run.automatic),
            *_changing(run)[:-1],
            *(run.requested_at, run.ended_at),
        )

    async def save(self, run: Run) -> None:
        """Write what has changed; the run must have been read with `lock`."""
        await self._tx.execute(_UPDATE, self._tenant, run.id, *_changing(run))

    async def get(self, run_id: str) -> Run | None:
        """Return the run."""
        query = "SELECT * FROM run WHERE tenant = $1 AND run_id = $2"
        return _optional(await self._tx.fetchrow(query, self._tenant, run_id))

    async def lock(self, run_id: str) -> Run:
        """Return a run that exists; nobody else can change it until the end of the transaction."""
        query = "SELECT * FROM run WHERE tenant = $1 AND run_id = $2 FOR UPDATE"
        return _existing(await self._tx.fetchrow(query, self._tenant, run_id))

    async def starting_with(self, prefix: str) -> list[Run]:
        """Return at most two runs whose ids begin so."""
        query = "SELECT * FROM run WHERE tenant = $1 AND starts_with(run_id, $2) LIMIT 2"
        return [_run(row) for row in await self._tx.fetch(query, self._tenant, prefix)]

    async def page(self, model_id: str, after: After | None, size: int) -> list[Run]:
        """Return runs, newest first; an empty model id means of all models."""
        requested_at, run_id = after or (None, "")
        return [_run(row) for row in await self._tx.fetch(_PAGE, self._tenant, model_id, requested_at, run_id, size)]

    async def open_of(self, model_id: str) -> Run | None:
        """Return the model's open run."""
        query = "SELECT * FROM run WHERE tenant = $1 AND model_id = $2 AND state IN ('queued', 'running')"
        return _optional(await self._tx.fetchrow(query, self._tenant, model_id))

    async def of_manifest(self, manifest_digest: str) -> Run | None:
        """Return the run that made this model version first."""
        query = "SELECT * FROM run WHERE tenant = $1 AND manifest_digest = $2 ORDER BY requested_at LIMIT 1"
        return _optional(await self._tx.fetchrow(query, self._tenant, manifest_digest))

    async def newest(self, model_id: str) -> Run:
        """Return the newest run of a model that has one, a succeeded one if there is any."""
        query = """
        SELECT * FROM run WHERE tenant = $1 AND model_id = $2
        ORDER BY (state = 'succeeded') DESC, requested_at DESC LIMIT 1"""
        return _existing(await self._tx.fetchrow(query, self._tenant, model_id))

    async def set_stage(self, run_id: str, stage: str) -> None:
        """Write where a running run is."""
        query = "UPDATE run SET stage = $3 WHERE tenant = $1 AND run_id = $2 AND state = 'running'"
        await self._tx.execute(query, self._tenant, run_id, stage)

    async def is_open(self, run_id: str) -> bool:
        """Return whether the run can still change."""
        query = "SELECT state IN ('queued', 'running') FROM run WHERE tenant = $1 AND run_id = $2"
        return bool(await self._tx.fetchval(query, self._tenant, run_id))


def _changing(run: Run) -> tuple[object, ...]:
    result = run.result
    return (
        run.state,
        run.stage,
        run.attempts,
        run.failure,
        run.message,
        run.log_digest,
        result.SerializeToString() if result else None,
        result.manifest_digest if result else None,
        run.ended_at,
    )


def _existing(row: Record | None) -> Run:
    if row is None:
        raise LookupError("there is no such run")
    return _run(row)


def _optional(row: Record | None) -> Run | None:
    return None if row is None else _run(row)


def _run(row: Record) -> Run:
    return Run(
        spec=RunSpec.FromString(row["spec"]),
        requested_at=row["requested_at"],
        automatic=row["automatic"],
        state=State(row["state"]),
        stage=row["stage"],
        attempts=row["attempts"],
        failure=None if row["failure"] is None else Failure(row["failure"]),
        message=row["message"],
        log_digest=row["log_digest"],
        result=None if row["result"] is None else RunSucceeded.FromString(row["result"]),
        ended_at=row["ended_at"],
    )
