"""The alarm about records that Kafka removed before they were counted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from holdtrue_contracts.common.v1.measures_pb2 import MEASURE_KIND_QUALITY, MEASURE_STATUS_OK, Measure
from holdtrue_contracts.monitor.v1.alerts_pb2 import ALERT_STATUS_OPEN, SEVERITY_CRITICAL, Alert
from holdtrue_core.ids import uuid7

from holdtrue_monitor.domain.alerts import Change
from holdtrue_monitor.domain.notices import RUNBOOK
from holdtrue_monitor.domain.readings import FOLD_GAP
from holdtrue_monitor.store.alerts import AlertStore

if TYPE_CHECKING:
    from datetime import datetime

    from holdtrue_events.outbox import Transaction


async def raise_gap(tx: Transaction, topic: str, partition: int, lost: tuple[int, int], now: datetime) -> None:
    """Raise, or bring up to date, the alert about offsets from lost[0] to before lost[1]."""
    subject = f"{topic}-{partition}"
    key = f"{tx.actor.tenant}///{FOLD_GAP}/{subject}"
    store = AlertStore(tx)
    known = (await store.latest([key], now - timedelta(0))).get(key)
    alert = known or Alert(alert_id=uuid7(), alert_key=key, kind=FOLD_GAP, severity=SEVERITY_CRITICAL, runbook=RUNBOOK)
    if known is None:
        alert.status = ALERT_STATUS_OPEN
        alert.raised_at.FromDatetime(now)
    count = lost[1] - lost[0]
    span = f"{lost[0]} to {lost[1] - 1}"
    alert.title = f"{count} records of {subject} were removed by Kafka before they were counted: {span}"
    measure = Measure(name="lost_records", kind=MEASURE_KIND_QUALITY, value=count, lower=count, upper=count, n=count)
    measure.status, measure.subject = MEASURE_STATUS_OK, subject
    alert.measure.CopyFrom(measure)
    await store.put(alert, Change.UPDATED if known else Change.RAISED, subject, now)
