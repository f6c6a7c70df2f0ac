"""gRPC: how the revisions do, alerts, and the door for labels."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, ClassVar

import grpc
from holdtrue_contracts.monitor.v1 import monitor_service_pb2 as pb
from holdtrue_contracts.monitor.v1.alerts_pb2 import ALERT_STATUS_ACKNOWLEDGED, ALERT_STATUS_RESOLVED, Severity
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import (
    AlertServiceServicer,
    LabelServiceServicer,
    MonitoringServiceServicer,
)
from holdtrue_core.errors import FailedPrecondition, HoldtrueError, InvalidArgument, NotFound
from holdtrue_core.rpc import actor_of

from holdtrue_monitor.domain.alerts import Change
from holdtrue_monitor.domain.labels import Label
from holdtrue_monitor.health import evaluate
from holdtrue_monitor.store.alerts import NOTIFIED, AlertStore, Filter
from holdtrue_monitor.store.catalog import CatalogStore
from holdtrue_monitor.store.windows import WindowStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdtrue_contracts.actor import Actor
    from holdtrue_core.clock import Clock
    from holdtrue_core.rpc import ServicerContext
    from holdtrue_events.outbox import Outbox

    from holdtrue_monitor.gateway import Gateway
    from holdtrue_monitor.references import References
    from holdtrue_monitor.settings import MonitorSettings

_DEFAULT_WINDOWS, _MOST_WINDOWS = 400, 10_000
_DEFAULT_ALERTS, _MOST_ALERTS = 100, 500
_MOST_NOTE = 2_000
_BATCH = 500
_POLL_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 20.0
_LATEST_NS = 2**63 - 1
_MOST_DIGITS = 19


class ResumeExpired(HoldtrueError):
    """The notifications after the token are no longer kept."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.OUT_OF_RANGE
    http_status: ClassVar[int] = 416


def service(name: str) -> str:
    """Return the full name of one of the monitor's services."""
    return pb.DESCRIPTOR.services_by_name[name].full_name


class MonitoringServicer(MonitoringServiceServicer):
    """Figures, computed anew from the stored counts."""

    def __init__(self, outbox: Outbox, references: References, settings: MonitorSettings, clock: Clock) -> None:
        """Keep what it works with."""
        self._outbox = outbox
        self._references = references
        self._settings = settings
        self._clock = clock

    async def GetHealth(self, request: pb.GetHealthRequest, context: ServicerContext) -> pb.GetHealthResponse:  # noqa: N802
        """How the revisions did in the rolling span, the window under way included."""
        window = self._settings.window_ns
        now = int(self._clock.now().timestamp() * 1e9)
        current = now - now % window
        async with self._outbox.transaction(actor_of(context)) as tx:
            ids = await _deployments(CatalogStore(tx), request.deployment)
            span = current - self._settings.rolling_windows * window, current + window
            return pb.GetHealthResponse(revisions=await evaluate(tx, self._references, ids, span))

    async def EvaluateSpan(self, request: pb.EvaluateSpanRequest, context: ServicerContext) -> pb.EvaluateSpanResponse:  # noqa: N802
        """How the revisions did in any span, and all of them together."""
        if not request.deployment:
            raise InvalidArgument.of("deployment", "is missing; name one")
        if not 0 <= request.from_ns < request.to_ns:
            got = f"{request.from_ns} to {request.to_ns}"
            raise InvalidArgument.of("to_ns", f"the span must end after its begin, got {got}")
        window = self._settings.window_ns
        if request.to_ns > _LATEST_NS - window:
            raise InvalidArgument.of("to_ns", f"at most {_LATEST_NS - window}, got {request.to_ns}")
        span = request.from_ns - request.from_ns % window, -(-request.to_ns // window) * window
        async with self._outbox.transaction(actor_of(context)) as tx:
            ids = await _deployments(CatalogStore(tx), request.deployment)
            found = await evaluate(tx, self._references, ids, span, whole=True)
            return pb.EvaluateSpanResponse(revisions=found)

    async def ListWindows(self, request: pb.ListWindowsRequest, context: ServicerContext) -> pb.ListWindowsResponse:  # noqa: N802
        """Closed windows, newest first, in their latest restatement."""
        limit = _page(request.page_size, _DEFAULT_WINDOWS, _MOST_WINDOWS)
        async with self._outbox.transaction(actor_of(context)) as tx:
            ids = list(await _deployments(CatalogStore(tx), request.deployment))
            windows = await WindowStore(tx).passed(ids, request.from_ns, request.to_ns or _LATEST_NS, limit)
            return pb.ListWindowsResponse(windows=windows)


class AlertServicer(AlertServiceServicer):
    """Alerts, as a list and as a stream."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        """Keep what it works with."""
        self._outbox = outbox
        self._clock = clock

    async def ListAlerts(self, request: pb.ListAlertsRequest, context: ServicerContext) -> pb.ListAlertsResponse:  # noqa: N802
        """Alerts as they stand, those raised last first."""
        limit = _page(request.page_size, _DEFAULT_ALERTS, _MOST_ALERTS)
        wanted = _filter(request.filter)
        async with self._outbox.transaction(actor_of(context)) as tx:
            if wanted.deployment:
                await _deployments(CatalogStore(tx), wanted.deployment)
            found = await AlertStore(tx).list(
                wanted, resolved=request.include_resolved, before=request.page_token, limit=limit + 1
            )
            token = found[limit - 1].alert_id if len(found) > limit else ""
            return pb.ListAlertsResponse(alerts=found[:limit], next_page_token=token)

    async def Acknowledge(self, request: pb.AcknowledgeRequest, context: ServicerContext) -> pb.AcknowledgeResponse:  # noqa: N802
        """Take an alert; taking it again replaces the note."""
        if len(request.note) > _MOST_NOTE:
            raise InvalidArgument.of("note", f"at most {_MOST_NOTE} characters, got {len(request.note)}")
        actor = actor_of(context)
        async with self._outbox.transaction(actor) as tx:
            store = AlertStore(tx)
            found = await store.get(request.alert_id)
            if found is None:
                raise NotFound(f"alert {request.alert_id}: there is none with this id; list them first")
            subject, alert = found
            if alert.status == ALERT_STATUS_RESOLVED:
                raise FailedPrecondition(f"alert {request.alert_id} is over; only an open one can be taken")
            alert.status = ALERT_STATUS_ACKNOWLEDGED
            alert.acknowledged_by, alert.note = actor.name, request.note
            await store.put(alert, Change.ACKNOWLEDGED, subject, self._clock.now())
            return pb.AcknowledgeResponse(alert=alert)

    async def Subscribe(  # noqa: N802
        self, request: pb.SubscribeRequest, context: ServicerContext
    ) -> AsyncIterator[pb.AlertNotification]:
        """Changes of alerts in their order, at least once; a sign of life where nothing happens."""
        actor, wanted = actor_of(context), _filter(request.filter)
        async with self._outbox.transaction(actor) as tx:
            if wanted.deployment:
                await _deployments(CatalogStore(tx), wanted.deployment)
        position = await self._begin(actor, request.resume_token)
        told = -math.inf  # the first sign of life comes at once: without its token, a stream that breaks cannot resume
        while True:
            async with self._outbox.transaction(actor) as tx:
                found = await AlertStore(tx).after(position, _BATCH)
            for notification in found:
                position = notification.sequence
                if wanted.wants(notification.alert):
                    yield pb.AlertNotification(
                        resume_token=str(position), alert=notification.alert, change=notification.change
                    )
                    told = self._clock.monotonic()
            if self._clock.monotonic() - told >= _KEEP_ALIVE_SECONDS:
                yield pb.AlertNotification(resume_token=str(position), change="keep_alive")
                told = self._clock.monotonic()
            if not found:
                await self._news()

    async def _begin(self, actor: Actor, token: str) -> int:
        """The number of the last notification that the subscriber has seen."""
        async with self._outbox.transaction(actor) as tx:
            first, last = await AlertStore(tx).span()
        if not token:
            return last
        if not token.isdecimal() or len(token) > _MOST_DIGITS or int(token) > last:
            raise InvalidArgument.of("resume_token", f"{token[:40]!r} was never given out; leave it empty to begin now")
        if int(token) and int(token) < first - 1:
            raise ResumeExpired(
                f"resume_token: notifications after {token} are kept no longer; begin with token 0 and list the alerts",
                reason="RESUME_EXPIRED",
            )
        return int(token)

    async def _news(self) -> None:
        """Wait until this process made a notification; for those of others look once a second."""
        signal = self._outbox.database.signal(NOTIFIED)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(signal.wait(), _POLL_SECONDS)
        signal.clear()


class LabelServicer(LabelServiceServicer):
    """The door for labels."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        """Keep what it works with."""
        self._gateway = gateway
        self._clock = clock

    async def RecordLabels(self, request: pb.RecordLabelsRequest, context: ServicerContext) -> pb.RecordLabelsResponse:  # noqa: N802
        """Record labels, all or none."""
        now_ns = int(self._clock.now().timestamp() * 1e9)
        labels = [
            Label(
                label.prediction_id,
                label.external_id,
                label.label if label.HasField("label") else math.nan,
                label.revision,
                label.observed_ns or now_ns,
                "",
            )
            for label in request.labels
        ]
        await self._gateway.record(labels, actor_of(context))
        return pb.RecordLabelsResponse(recorded=len(labels))


async def _deployments(store: CatalogStore, named: str) -> dict[str, str]:
    """Names of the deployments that are meant, by id."""
    found = await store.deployments(named)
    if named and not found:
        raise NotFound(f"deployment {named!r} is not known to the monitor; has it been deployed?")
    return found


def _filter(wanted: pb.AlertFilter) -> Filter:
    if wanted.min_severity not in Severity.values():
        expected = ", ".join(f"{name} {number}" for name, number in Severity.items())
        raise InvalidArgument.of("filter.min_severity", f"expected one of {expected}; got {wanted.min_severity}")
    return Filter(wanted.deployment, wanted.min_severity, wanted.kind_prefix)


def _page(wanted: int, default: int, most: int) -> int:
    if not 0 <= wanted <= most:
        raise InvalidArgument.of("page_size", f"from 1 to {most}, or 0 for {default}; got {wanted}")
    return wanted or default
