"""Alerts: the monitor's stream as an iterator that survives broken connections."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdtrue_contracts.monitor.v1 import monitor_service_pb2
from holdtrue_contracts.monitor.v1.alerts_pb2 import AlertStatus, Severity
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import (
    AcknowledgeRequest,
    AlertFilter,
    AlertNotification,
    ListAlertsRequest,
    ListAlertsResponse,
    SubscribeRequest,
)
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import AlertServiceStub

from holdtrue.errors import InvalidArgument, Unavailable
from holdtrue.paging import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue_contracts.monitor.v1 import alerts_pb2

    from holdtrue.connection import Connection

_TOKENS = {"now": "", "beginning": "0"}
_SEVERITIES = {"info", "warning", "critical"}
_PAGE = 500
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as it stood after a change."""

    id: str
    kind: str
    """For example "performance.realised"."""
    severity: str
    """info, warning or critical."""
    status: str
    """open, acknowledged or resolved."""
    change: str
    """What happened: raised, updated, acknowledged, resolved; "" in a list."""
    title: str
    """One line for a person."""
    deployment: str
    model_version: int
    window: tuple[datetime, datetime]
    """The window that was judged, UTC."""
    value: float
    """The figure that breached, with its 95 % interval and what it was held against (NaN: nothing)."""
    lower: float
    upper: float
    threshold: float
    n: int
    causes: tuple[str, ...]
    """Likely causes, the likeliest first."""
    raised_at: datetime
    resolved_at: datetime | None
    resume_token: str
    """`alerts(since=…)` with it goes on after this alert; "" in a list."""


class Alerts:
    """The monitor's alert service."""

    def __init__(self, connection: Connection) -> None:
        """Use `Client.alerts` instead."""
        self._connection = connection
        self._stub = AlertServiceStub(connection.channel("monitor", monitor_service_pb2.DESCRIPTOR))

    def iterate(self, deployment: str, severity: str, kind: str, since: str, *, follow: bool) -> Iterator[Alert]:
        """Yield alerts; see `Client.alerts`."""
        if severity not in _SEVERITIES:
            raise InvalidArgument(f"severity: expected one of info, warning, critical, got {severity!r}")
        least = Severity.Value(f"SEVERITY_{severity.upper()}")
        chosen = AlertFilter(deployment=deployment, min_severity=least, kind_prefix=kind)
        if follow:
            return self._follow(chosen, _TOKENS.get(since, since))
        if since not in _TOKENS:
            raise InvalidArgument(f"since: {since!r} goes with follow=True; without it all alerts are listed")
        return self._list(chosen)

    def acknowledge(self, alert_id: str, note: str) -> Alert:
        """Take an alert, saying what is being done."""
        request = AcknowledgeRequest(alert_id=alert_id, note=note)
        return _alert(self._connection.call(self._stub.Acknowledge, request).alert, "", "")

    def _list(self, chosen: AlertFilter) -> Iterator[Alert]:
        def fetch(token: str) -> ListAlertsResponse:
            request = ListAlertsRequest(filter=chosen, include_resolved=True, page_size=_PAGE, page_token=token)
            return self._connection.call(self._stub.ListAlerts, request)

        found = list(pages(fetch, lambda page: page.alerts))
        for alert in reversed(found):
            yield _alert(alert, "", "")

    def _follow(self, chosen: AlertFilter, token: str) -> Iterator[Alert]:
        pause = 0.1
        while True:
            try:
                for notification in self._subscribe(chosen, token):
                    token, pause = notification.resume_token or token, 0.1
                    if notification.HasField("alert"):
                        yield _alert(notification.alert, notification.change, notification.resume_token)
            except Unavailable:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _subscribe(self, chosen: AlertFilter, token: str) -> Iterator[AlertNotification]:
        request = SubscribeRequest(filter=chosen, resume_token=token)
        return self._connection.stream(self._stub.Subscribe, request)


def _alert(alert: alerts_pb2.Alert, change: str, token: str) -> Alert:
    measure = alert.measure
    return Alert(
        id=alert.alert_id,
        kind=alert.kind,
        severity=Severity.Name(alert.severity).removeprefix("SEVERITY_").lower(),
        status=AlertStatus.Name(alert.status).removeprefix("ALERT_STATUS_").lower(),
        change=change,
        title=alert.title,
        deployment=alert.deployment_name,
        model_version=alert.model_version,
        window=(_time(alert.from_ns), _time(alert.to_ns)),
        value=measure.value,
        lower=measure.lower,
        upper=measure.upper,
        threshold=measure.threshold if measure.HasField("threshold") else float("nan"),
        n=measure.n,
        causes=tuple(f"{cause.subject}: {cause.explanation}" for cause in alert.causes),
        raised_at=alert.raised_at.ToDatetime(UTC),
        resolved_at=alert.resolved_at.ToDatetime(UTC) if alert.HasField("resolved_at") else None,
        resume_token=token,
    )


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)
