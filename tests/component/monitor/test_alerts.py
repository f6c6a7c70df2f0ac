"""From windows to alerts, and from alerts to those who listen."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
import pytest
from holdtrue_contracts.deployer.v1.deployments_pb2 import ROLE_CHAMPION, ROLE_STANDBY, Revision
from holdtrue_contracts.monitor.v1.alerts_pb2 import (
    ALERT_STATUS_ACKNOWLEDGED,
    ALERT_STATUS_RESOLVED,
    SEVERITY_CRITICAL,
    SEVERITY_WARNING,
)
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import (
    AcknowledgeRequest,
    AlertFilter,
    AlertNotification,
    GetHealthRequest,
    Label,
    ListAlertsRequest,
    ListWindowsRequest,
    RecordLabelsRequest,
    SubscribeRequest,
)

from tests.component.monitor.harness import DEPLOYMENT, NAME, PERSON, REVISION, SLOT, Inference, deployment, until
from tests.component.monitor.test_counting import settled, truth

if TYPE_CHECKING:
    from tests.component.monitor.harness import Batch, Platform

    Stream = grpc.aio.UnaryStreamCall[SubscribeRequest, AlertNotification]

SECOND = 1_000_000_000
BEGINNING = "0"


def hour_ago() -> int:
    """The begin of a window that is long over: whatever is counted in it closes at once."""
    return (time.time_ns() // SECOND - 3600) * SECOND


async def live(  # noqa: PLR0913  what a test may want to be different
    platform: Platform, inference: Inference, begin: int, windows: int, *, precise: bool = True, shift: float = 0.0
) -> list[Batch]:
    """Predictions of some windows, one after the other, with labels that agree with the scores or contradict them."""
    batches: list[Batch] = []
    for number in range(windows):
        batch = inference.batch(400, at_ns=begin + number * SECOND, shift=shift)
        await platform.publish(batch.message)
        batches.append(batch)
        labels = truth([batch])
        await platform.label([(name, value if precise else 1 - value) for name, value in labels.items()])
    return batches


async def next_of(
    stream: grpc.aio.UnaryStreamCall[SubscribeRequest, AlertNotification], kind: str
) -> AlertNotification:
    """The next notification about alerts of a kind."""
    async with asyncio.timeout(60):
        async for notification in stream:
            if notification.alert.kind == kind:
                return notification
    raise AssertionError("the stream ended")


async def paged(platform: Platform) -> list[list[str]]:
    """Ids of the alerts, page by page."""
    found: list[list[str]] = []
    request = ListAlertsRequest(include_resolved=True, page_size=1)
    while request.page_token or not found:
        page = await platform.alerts.ListAlerts(request, metadata=PERSON)
        found.append([alert.alert_id for alert in page.alerts])
        request.page_token = page.next_page_token
    return found


@pytest.mark.timeout(180)
async def test_an_alert_is_raised_with_evidence_taken_and_resolved(platform: Platform) -> None:
    await platform.serve()
    service = await platform.start()
    inference, begin = Inference(), hour_ago()
    stream = platform.alerts.Subscribe(SubscribeRequest(resume_token=BEGINNING), metadata=PERSON)
    good = await live(platform, inference, begin, 3)
    await settled(platform, good, {name: label for batch in good for name, label in truth([batch]).items()})
    await live(platform, inference, begin + 3 * SECOND, 3, precise=False)
    raised = await next_of(stream, "performance.realised")
    assert raised.change == "raised"
    while raised.alert.first_bad_window_ns != begin + 3 * SECOND or raised.alert.measure.n < 300:
        raised = await next_of(stream, "performance.realised")  # windows are judged as their labels come
    alert = raised.alert
    assert alert.severity == SEVERITY_CRITICAL
    assert alert.measure.upper < alert.measure.threshold
    assert alert.measure.value == pytest.approx(0.25, abs=0.1)
    assert alert.retrain_evidence.realised_breach
    assert alert.retrain_evidence.quality_clean
    assert alert.retrain_evidence.new_labels >= 20
    assert NAME in alert.title
    assert (alert.deployment_id, alert.revision, alert.model_version) == (DEPLOYMENT, REVISION, 1)

    taken = await platform.alerts.Acknowledge(
        AcknowledgeRequest(alert_id=alert.alert_id, note="looking"), metadata=PERSON
    )
    assert (taken.alert.status, taken.alert.note) == (ALERT_STATUS_ACKNOWLEDGED, "looking")

    await service.kill()  # a stream resumes after the last token that was seen
    await service.start()
    await service.ready()
    token = raised.resume_token
    stream = platform.alerts.Subscribe(SubscribeRequest(resume_token=token), metadata=PERSON)
    seen = [await next_of(stream, "performance.realised")]
    assert int(seen[0].resume_token) > int(token)
    await live(platform, inference, begin + 6 * SECOND, 3)
    while seen[-1].change != "resolved":
        seen.append(await next_of(stream, "performance.realised"))
    assert "acknowledged" in [notification.change for notification in seen]
    numbers = [int(notification.resume_token) for notification in seen]
    assert numbers == sorted(set(numbers))
    assert {notification.alert.alert_id for notification in seen} == {alert.alert_id}

    listed = await platform.alerts.ListAlerts(ListAlertsRequest(include_resolved=True), metadata=PERSON)
    mine = next(a for a in listed.alerts if a.alert_id == alert.alert_id)
    assert mine.status == ALERT_STATUS_RESOLVED
    assert await paged(platform) == [[alert.alert_id] for alert in listed.alerts]
    assert len(listed.alerts) > 1

    async def published() -> bool:
        kinds = {type(e.data).__name__ for e in await platform.events("alerts.v1") if e.data.alert.kind == mine.kind}
        return {"AlertRaised", "AlertAcknowledged", "AlertResolved"} <= kinds

    await until(published, "the alert's events")
    states = [e.data.alert for e in await platform.events("alert-state.v1") if e.data.alert_key == alert.alert_key]
    assert states[-1].status == ALERT_STATUS_RESOLVED


@pytest.mark.timeout(120)
async def test_drift_is_found_and_ends_with_the_revision(platform: Platform) -> None:
    await platform.serve()
    await platform.start()
    inference, begin = Inference(), hour_ago()
    stream = platform.alerts.Subscribe(
        SubscribeRequest(filter=AlertFilter(kind_prefix="drift"), resume_token=BEGINNING), metadata=PERSON
    )
    await live(platform, inference, begin, 3, shift=0.8)
    raised = await next_of(stream, "drift.feature")
    assert raised.alert.severity >= SEVERITY_WARNING
    assert raised.alert.measure.subject in {"c0", "c1", "c2"}
    assert raised.alert.retrain_evidence.drifted_importance_share == pytest.approx(1.0)
    assert raised.alert.causes[0].subject == "feature c0"  # the most important of three that drifted alike
    windows = (await platform.monitoring.ListWindows(ListWindowsRequest(deployment=NAME), metadata=PERSON)).windows
    assert [w.from_ns for w in windows] == sorted((w.from_ns for w in windows), reverse=True)
    assert any(m.name == "psi" and m.subject == "c1" and m.value > 0.1 for w in windows for m in w.measures)
    old = Revision(revision=REVISION, slot=SLOT, model_version=1, role=ROLE_STANDBY)
    new = Revision(revision="revision-2", slot=SLOT + 1, model_version=2, role=ROLE_CHAMPION)
    await platform.publish(deployment(2, new, old))

    async def over() -> bool:
        return not (await platform.alerts.ListAlerts(ListAlertsRequest(), metadata=PERSON)).alerts

    await until(over, "alerts of a revision that serves no longer are resolved")


async def test_labels_come_through_the_door(platform: Platform) -> None:
    await platform.serve()
    await platform.start()
    inference = Inference()
    batch = inference.batch(30)
    await platform.publish(batch.message)
    labels = truth([batch])
    await settled(platform, [batch], {})
    request = RecordLabelsRequest(labels=[Label(prediction_id=name, label=value) for name, value in labels.items()])
    assert (await platform.labels.RecordLabels(request, metadata=PERSON)).recorded == len(labels)
    await settled(platform, [batch], labels)
    health = (await platform.monitoring.GetHealth(GetHealthRequest(deployment=NAME), metadata=PERSON)).revisions
    assert [(h.revision, h.labelled) for h in health] == [(REVISION, len(labels))]

    good = Label(prediction_id=batch.ids[0], label=1, revision=9)
    mistyped = batch.ids[0][:-1] + ("1" if batch.ids[0][-1] == "0" else "0")
    for wrong, message in (
        (Label(prediction_id="x", label=1), "a prediction id is"),
        (Label(label=1), "one of them"),
        (Label(prediction_id=batch.ids[0], label=0.5), "0 or 1"),
        (Label(prediction_id=mistyped, label=1), "never given out"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await platform.labels.RecordLabels(RecordLabelsRequest(labels=[good, wrong]), metadata=PERSON)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert message in (raised.value.details() or "")
        assert "labels[1]" in (raised.value.details() or "")
    await settled(platform, [batch], labels)


async def test_wrong_questions_are_answered_with_what_to_do(platform: Platform) -> None:
    await platform.start()
    for call, code, message in (
        (platform.monitoring.GetHealth(GetHealthRequest(deployment="nope"), metadata=PERSON), "NOT_FOUND", "deployed"),
        (
            platform.alerts.Acknowledge(AcknowledgeRequest(alert_id="nope"), metadata=PERSON),
            "NOT_FOUND",
            "list them first",
        ),
        (
            platform.alerts.ListAlerts(ListAlertsRequest(page_size=501), metadata=PERSON),
            "INVALID_ARGUMENT",
            "from 1 to 500",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=message) as raised:
            await call
        assert raised.value.code().name == code
    stream = platform.alerts.Subscribe(SubscribeRequest(resume_token=BEGINNING + "12"), metadata=PERSON)
    with pytest.raises(grpc.aio.AioRpcError, match="never given out"):
        await stream.read()
    async with asyncio.timeout(10):
        first = await anext(aiter(platform.alerts.Subscribe(SubscribeRequest(), metadata=PERSON)))
    assert (first.change, first.resume_token.isdecimal(), first.HasField("alert")) == ("keep_alive", True, False)
