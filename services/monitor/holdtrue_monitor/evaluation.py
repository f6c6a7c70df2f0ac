"""One window of one revision: its figures, its event, and what they mean for alerts; in one transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from holdtrue_contracts import columns
from holdtrue_contracts.common.v1.measures_pb2 import MEASURE_KIND_DRIFT, MEASURE_KIND_QUALITY, Measure
from holdtrue_contracts.monitor.v1.alerts_pb2 import ALERT_STATUS_RESOLVED, Alert
from holdtrue_contracts.monitor.v1.evaluations_pb2 import WindowEvaluated
from holdtrue_core.ids import uuid7
from holdtrue_stats.decision import rate
from holdtrue_stats.result import Status

from holdtrue_monitor.domain import alerts, measures, notices, readings
from holdtrue_monitor.domain.alerts import Judged, Memory
from holdtrue_monitor.domain.buckets import ANSWERED, FAILED, SHED, Labelled, Scores
from holdtrue_monitor.domain.notices import Surroundings, Watched
from holdtrue_monitor.domain.readings import Limits, Reading
from holdtrue_monitor.store.alerts import AlertStore
from holdtrue_monitor.store.catalog import CatalogStore
from holdtrue_monitor.store.validity import Tested, ValidityStore
from holdtrue_monitor.store.windows import WindowStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncpg import Record
    from holdtrue_core.clock import Clock
    from holdtrue_events.outbox import Transaction

    from holdtrue_monitor.domain.measures import Performance
    from holdtrue_monitor.domain.reference import Reference
    from holdtrue_monitor.references import References
    from holdtrue_monitor.settings import MonitorSettings
    from holdtrue_monitor.store.windows import Window

_MONTH_SECONDS = 30 * 86_400
_SAME_INCIDENT = timedelta(hours=1)


class Evaluation:
    """Evaluates windows."""

    def __init__(self, references: References, settings: MonitorSettings, clock: Clock) -> None:
        """Judge by the limits that the settings name."""
        self._references = references
        self._settings = settings
        self._clock = clock
        self._limits = Limits(settings.least_labels, settings.allowed_drop, settings.severe_drop, settings.error_rate)
        self._rate = rate(settings.drift_budget, _MONTH_SECONDS / settings.window_seconds)

    async def evaluate(self, tx: Transaction, revision: str, start_ns: int) -> None:
        """Say how a revision did in a window, unless that was said meanwhile."""
        row = await CatalogStore(tx).watched(revision)
        store = WindowStore(tx)
        window = await store.lock(revision, start_ns) if row else None
        if row is None or window is None:
            return
        scores = (await store.scores([revision], window.start_ns, window.end_ns)).get(revision)
        if scores is None:
            await store.settle(window, None)
            return
        found = await self._references.find(tx, row["deployment_id"], revision, row["model_version"])
        if found is None:
            return
        labelled = await store.labelled([revision], window.start_ns, window.end_ns)
        await self._state(tx, row, window, found.reference, scores, labelled.get(revision, Labelled.empty()))

    async def _state(  # noqa: PLR0913, PLR0917 - what a window consists of
        self, tx: Transaction, row: Record, window: Window, reference: Reference, scores: Scores, labelled: Labelled
    ) -> None:
        tested = await self._test(tx, row, reference)
        contradicted = tested.watch.invalid
        performance = measures.performance(reference, scores, labelled, contradicted=contradicted)
        serving = measures.serving(scores)
        seen = [
            *readings.validity(tested.residual, contradicted=contradicted),
            *readings.performance(reference, performance, self._limits),
            *readings.serving(serving, self._limits),
        ]
        drift = _earlier(window)
        if window.event is None:
            drift, judged = await self._drift(tx, row, window, reference, performance.rows)
            seen += judged
        event = _event(row, window, performance, scores)
        event.measures.extend([*performance.measures, *serving, *drift])
        tx.publish(event)
        await WindowStore(tx).settle(window, event)
        if row["live"]:
            watched = Watched(
                tx.actor.tenant,
                row["deployment_id"],
                row["name"],
                row["model_id"],
                row["model_version"],
                row["revision"],
            )
            await self._watch(tx, watched, window, reference, seen)

    async def _test(self, tx: Transaction, row: Record, reference: Reference) -> Tested:
        """Hold all labels of the revision against its calibration, if enough are new."""
        store, before = ValidityStore(tx), Tested.of(row)
        watch = before.watch.step((await store.labels(row["revision"])).cells, reference.calibration)
        if watch is before.watch or watch.last is None:
            return before
        after = Tested(watch, measures.residual(watch.last))
        await store.put(row["revision"], after)
        return after

    async def _drift(
        self, tx: Transaction, row: Record, window: Window, reference: Reference, rows: int
    ) -> tuple[list[Measure], list[Reading]]:
        """Add the window to those not yet judged for drift, and judge them once there are rows enough."""
        store = WindowStore(tx)
        revision, since = row["revision"], row["drift_from_ns"]
        if not reference.known or window.start_ns < since:
            return [], []
        total = row["drift_rows"] + rows
        if total < self._settings.drift_rows:
            await store.put_drift(revision, since, total, None)
            return [], []
        served = await store.served(revision, since, window.end_ns)
        if served is None:
            return [], []
        result = measures.drifted(reference, served, self._rate, self._settings.drift_rows)
        if result.status is not Status.OK:
            return [], []
        drifted = {name: float(result.psi_adjusted[i]) for i, name in enumerate(reference.names) if result.drifted[i]}
        await store.put_drift(revision, window.end_ns, 0, drifted)
        told = measures.drift_measures(reference.names, result, total)
        return told, list(readings.drift(reference, result, told))

    async def _watch(
        self, tx: Transaction, watched: Watched, window: Window, reference: Reference, seen: list[Reading]
    ) -> None:
        """Let each reading raise, change or resolve its alert."""
        store = AlertStore(tx)
        now = self._clock.now()
        keys = {notices.key(watched, reading.kind, reading.subject): reading for reading in seen}
        memories = await store.memories(list(keys))
        known = await store.latest(list(keys), now - _SAME_INCIDENT)
        for key, reading in keys.items():
            judged = Judged(window.start_ns, window.end_ns, reading.verdict)
            memories[key] = memories.get(key, Memory()).after(judged)
            alert = known.get(key)
            is_open = alert is not None and alert.status != ALERT_STATUS_RESOLVED
            change = alerts.decide(memories[key], judged, is_open=is_open)
            if change is None:
                continue
            around = await _surroundings(tx, watched, reference, memories[key], alert if is_open else None)
            before = alert or _new(watched, key)
            span = window.start_ns, window.end_ns
            after = notices.changed(before, change, reading, span, memories[key], around, now)
            await store.put(after, change, reading.subject, now)
        await store.put_memories(memories)


async def _surroundings(
    tx: Transaction, watched: Watched, reference: Reference, memory: Memory, alert: Alert | None
) -> Surroundings:
    drifted = await tx.fetchval(
        "SELECT drifted FROM revision WHERE tenant = $1 AND revision = $2", tx.actor.tenant, watched.revision
    )
    first = memory.run[0].from_ns
    since = min(first, alert.first_bad_window_ns) if alert and alert.first_bad_window_ns else first
    return Surroundings(
        open_alerts=frozenset(
            (alert.kind, subject) for subject, alert in await AlertStore(tx).open_of(watched.revision)
        ),
        drifted=drifted,
        importances=dict(zip(reference.names, reference.importances.tolist(), strict=True)),
        labels=await WindowStore(tx).labels_since(watched.revision, since),
    )


def _new(watched: Watched, key: str) -> Alert:
    return Alert(
        alert_id=uuid7(),
        alert_key=key,
        deployment_id=watched.deployment_id,
        deployment_name=watched.deployment_name,
        model_id=watched.model_id,
        revision=watched.revision,
        model_version=watched.model_version,
        runbook=notices.RUNBOOK,
    )


def _event(row: Record, window: Window, performance: Performance, scores: Scores) -> WindowEvaluated:
    return WindowEvaluated(
        deployment_id=row["deployment_id"],
        revision=row["revision"],
        model_version=row["model_version"],
        from_ns=window.start_ns,
        to_ns=window.end_ns,
        restatement=window.restatement + 1,
        all_segments=True,
        rows=performance.rows,
        labelled=performance.labelled,
        flagged=performance.flagged,
        answered=int(scores.requests[ANSWERED]),
        failed=int(scores.requests[FAILED]),
        shed=int(scores.requests[SHED]),
        latency=columns.pack(scores.latency.clip(0, 2**32 - 1).astype("uint32")),
        p50_seconds=measures.latency_quantile(scores.latency, 0.5),
        p99_seconds=measures.latency_quantile(scores.latency, 0.99),
    )


def _earlier(window: Window) -> list[Measure]:
    """What was said of drift when the window closed: late labels do not change it."""
    told: Iterable[Measure] = window.event.measures if window.event else ()
    return [m for m in told if m.kind in {MEASURE_KIND_DRIFT, MEASURE_KIND_QUALITY}]
