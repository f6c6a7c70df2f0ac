"""Windows: which must be evaluated, and what was said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_contracts.monitor.v1.evaluations_pb2 import WindowEvaluated
from holdtrue_stats.histogram import State

from holdtrue_monitor.domain.buckets import Labelled, Scores, Served

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from holdtrue_storage.database import Transaction

_STALE = """
SELECT w.revision, w.start_ns, w.end_ns, w.restatement FROM evaluated_window w
WHERE w.tenant = $1 AND w.touched > w.evaluated AND w.end_ns <= $2
  AND (w.restatement < 0 OR w.evaluated_at <= clock_timestamp() - $3::interval)
ORDER BY w.end_ns, w.revision LIMIT $4"""
_WATERMARKS = """
SELECT m.latest_ns FROM watermark m WHERE m.tenant = $1 AND m.latest_ns >= $2"""
_LOCK = """
SELECT * FROM evaluated_window
WHERE tenant = $1 AND revision = $2 AND start_ns = $3 AND touched > evaluated FOR UPDATE"""
_SETTLE = """
UPDATE evaluated_window SET evaluated = touched, restatement = $4, evaluated_at = clock_timestamp(), event = $5,
    rows = $6, labelled = $7
WHERE tenant = $1 AND revision = $2 AND start_ns = $3"""
_SCORES = """
SELECT revision, scores FROM served_bucket
WHERE tenant = $1 AND revision = ANY($2::text[]) AND start_ns >= $3 AND start_ns < $4"""
_LABELLED = """
SELECT revision, data FROM labelled_bucket
WHERE tenant = $1 AND revision = ANY($2::text[]) AND start_ns >= $3 AND start_ns < $4"""
_SERVED = """
SELECT scores, features FROM served_bucket WHERE tenant = $1 AND revision = $2 AND start_ns >= $3 AND start_ns < $4"""
_PASSED = """
SELECT w.event FROM evaluated_window w JOIN revision r USING (tenant, revision)
WHERE w.tenant = $1 AND r.deployment_id = ANY($2::text[]) AND w.event IS NOT NULL
  AND w.start_ns >= $3 AND w.end_ns <= $4
ORDER BY w.end_ns DESC, w.revision LIMIT $5"""


@dataclass(frozen=True, slots=True)
class Window:
    """A window whose counts changed since it was evaluated. `restatement` of what was last said, -1 if nothing was."""

    revision: str
    start_ns: int
    end_ns: int
    restatement: int
    event: WindowEvaluated | None = None


class WindowStore:
    """Windows and the counts in them, in one transaction."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction, for its tenant."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def stale(self, until_ns: int, restate_after: timedelta, limit: int) -> list[Window]:
        """Return windows that ended and must be evaluated (again), in the order of their ends."""
        rows = await self._tx.fetch(_STALE, self._tenant, until_ns, restate_after, limit)
        return [Window(row["revision"], row["start_ns"], row["end_ns"], row["restatement"]) for row in rows]

    async def watermarks(self, since_ns: int) -> list[int]:
        """Return how far each partition is that had data since then."""
        return [row["latest_ns"] for row in await self._tx.fetch(_WATERMARKS, self._tenant, since_ns)]

    async def lock(self, revision: str, start_ns: int) -> Window | None:
        """Lock a window that still must be evaluated: from now on its counts stand still."""
        row = await self._tx.fetchrow(_LOCK, self._tenant, revision, start_ns)
        if row is None:
            return None
        event = WindowEvaluated.FromString(row["event"]) if row["event"] else None
        return Window(revision, start_ns, row["end_ns"], row["restatement"], event)

    async def settle(self, window: Window, event: WindowEvaluated | None) -> None:
        """Store what was said of a locked window; None: nothing, it has no predictions yet."""
        said = (event.restatement, event.SerializeToString(), event.rows, event.labelled) if event else (-1, None, 0, 0)
        await self._tx.execute(_SETTLE, self._tenant, window.revision, window.start_ns, *said)

    async def scores(self, revisions: Sequence[str], from_ns: int, to_ns: int) -> dict[str, Scores]:
        """Return the decisions and requests of a span, by revision that has any."""
        found: dict[str, Scores] = {}
        for row in await self._tx.fetch(_SCORES, self._tenant, revisions, from_ns, to_ns):
            part = Scores.from_bytes(row["scores"])
            found[row["revision"]] = found[row["revision"]] + part if row["revision"] in found else part
        return found

    async def labelled(self, revisions: Sequence[str], from_ns: int, to_ns: int) -> dict[str, Labelled]:
        """Return the labels of a span, by revision that has any."""
        found: dict[str, Labelled] = {}
        for row in await self._tx.fetch(_LABELLED, self._tenant, revisions, from_ns, to_ns):
            part = Labelled.from_bytes(row["data"])
            found[row["revision"]] = found[row["revision"]] + part if row["revision"] in found else part
        return found

    async def served(self, revision: str, from_ns: int, to_ns: int) -> Served | None:
        """Return all counts of predictions of a span; None if there are none."""
        total: Served | None = None
        for row in await self._tx.fetch(_SERVED, self._tenant, revision, from_ns, to_ns):
            part = Served(Scores.from_bytes(row["scores"]), State.from_bytes(row["features"]))
            total = part if total is None else total + part
        return total

    async def labels_since(self, revision: str, from_ns: int) -> int:
        """Return the number of labels of evaluated windows that begin at or after a time."""
        query = "SELECT sum(labelled) FROM evaluated_window WHERE tenant = $1 AND revision = $2 AND start_ns >= $3"
        return int(await self._tx.fetchval(query, self._tenant, revision, from_ns) or 0)

    async def put_drift(self, revision: str, from_ns: int, rows: int, drifted: dict[str, float] | None) -> None:
        """Store how far the revision was judged for drift, the rows since, and (unless None) what drifted."""
        await self._tx.execute(
            """UPDATE revision SET drift_from_ns = $3, drift_rows = $4, drifted = coalesce($5, drifted)
            WHERE tenant = $1 AND revision = $2""",
            self._tenant,
            revision,
            from_ns,
            rows,
            drifted,
        )

    async def passed(
        self, deployment_ids: Sequence[str], from_ns: int, to_ns: int, limit: int
    ) -> list[WindowEvaluated]:
        """Return evaluated windows, newest first, as they were last stated."""
        rows = await self._tx.fetch(_PASSED, self._tenant, deployment_ids, from_ns, to_ns, limit)
        return [WindowEvaluated.FromString(row["event"]) for row in rows]
