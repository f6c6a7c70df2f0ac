from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from holdtrue_contracts.actor import Actor, ActorKind
from holdtrue_contracts.monitor.v1 import monitor_service_pb2 as monitor
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import (
    AlertServiceServicer,
    AlertServiceStub,
    add_AlertServiceServicer_to_server,
)
from holdtrue_contracts.registry.v1 import dataset_service_pb2
from holdtrue_core import interceptors
from holdtrue_core.channels import _service_config
from holdtrue_core.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    from_rpc_error,
)
from holdtrue_core.rpc import (
    GrpcServer,
    Servicer,
    ServicerContext,
    actor_of,
    as_actor,
    channel,
    check_health,
    datetime_of,
    timestamp,
)
from holdtrue_core.settings import ServiceSettings
from prometheus_client import REGISTRY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import AlertServiceAsyncStub

    Metadata = tuple[tuple[str, str], ...]

SERVICE = "holdtrue.monitor.v1.AlertService"
LIST = f"/{SERVICE}/ListAlerts"


class Alerts(AlertServiceServicer):
    """Answers as its test tells it."""

    def __init__(self) -> None:
        self.answer: Callable[[ServicerContext], Any] = lambda _: monitor.ListAlertsResponse()
        self.subscribed = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def ListAlerts(  # noqa: N802
        self,
        request: monitor.ListAlertsRequest,  # noqa: ARG002
        context: ServicerContext,
    ) -> monitor.ListAlertsResponse:
        answer = self.answer(context)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def Acknowledge(self, request: monitor.AcknowledgeRequest, context: ServicerContext) -> NoReturn:  # noqa: N802
        raise NotImplementedError

    async def Subscribe(  # noqa: N802
        self,
        request: monitor.SubscribeRequest,
        context: ServicerContext,  # noqa: ARG002
    ) -> AsyncIterator[monitor.AlertNotification]:
        yield monitor.AlertNotification(resume_token="1")  # noqa: S106  it is no secret
        if request.resume_token == "fail":  # noqa: S105
            raise InvalidArgument.of("resume_token", "expected a number")
        self.subscribed.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@asynccontextmanager
async def serving(alerts: Alerts, **options: int) -> AsyncGenerator[GrpcServer]:
    settings = ServiceSettings(grace_seconds=20)
    server = GrpcServer(settings, [Servicer(add_AlertServiceServicer_to_server, alerts, SERVICE)], **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def calling(alerts: Alerts, **options: int) -> AsyncGenerator[AlertServiceAsyncStub]:
    async with serving(alerts, **options) as server, channel(f"127.0.0.1:{server.port}") as connection:
        yield AlertServiceStub(connection)


async def failure(
    stub: AlertServiceAsyncStub, request: monitor.ListAlertsRequest | None = None, metadata: Metadata = ()
) -> Exception:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListAlerts(request or monitor.ListAlertsRequest(), metadata=metadata)
    return from_rpc_error(caught.value)


def raising(error: Exception) -> Callable[[ServicerContext], Any]:
    def answer(_context: ServicerContext) -> NoReturn:
        raise error

    return answer


async def test_an_error_of_the_domain_reaches_the_caller_whole() -> None:
    alerts = Alerts()
    alerts.answer = raising(NotFound("deployment x: there is none", reason="NO_DEPLOYMENT", metadata={"name": "x"}))
    async with calling(alerts) as stub:
        error = await failure(stub)
    assert type(error) is NotFound
    assert (error.message, error.reason, error.metadata) == (
        "deployment x: there is none",
        "NO_DEPLOYMENT",
        {"name": "x"},
    )


async def test_a_fault_of_ours_gives_only_an_id_that_is_in_the_log() -> None:
    alerts = Alerts()
    alerts.answer = raising(RuntimeError("the password is 123"))
    with structlog.testing.capture_logs() as logs:
        async with calling(alerts) as stub:
            error = await failure(stub)
    assert type(error) is Internal
    assert "123" not in error.message
    assert error.metadata["error_id"] in error.message
    assert [log["error_id"] for log in logs if log["log_level"] == "error"] == [error.metadata["error_id"]]


async def test_the_actor_is_read_from_the_metadata() -> None:
    alerts, seen = Alerts(), list[Actor]()

    def answer(context: ServicerContext) -> monitor.ListAlertsResponse:
        seen.append(actor_of(context))
        return monitor.ListAlertsResponse()

    alerts.answer = answer
    me = Actor("default", "Zoë", ActorKind.PERSON, ("operator",))
    async with calling(alerts) as stub:
        await stub.ListAlerts(monitor.ListAlertsRequest(), metadata=as_actor(me))
        await stub.ListAlerts(monitor.ListAlertsRequest())
        error = await failure(stub, metadata=(("holdtrue-actor", "nonsense"),))
    assert seen == [me, Actor("default", "anonymous", ActorKind.APPLICATION)]
    assert type(error) is InvalidArgument
    assert error.violations[0].field == "metadata holdtrue-actor"


async def test_a_call_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interceptors, "MAX_SECONDS", 0.05)
    alerts = Alerts()
    alerts.answer = lambda _: asyncio.Event().wait()
    async with calling(alerts) as stub:
        error = await failure(stub)
    assert type(error) is DeadlineExceeded
    assert "took longer than 0.05 s" in error.message


async def test_messages_have_a_limit() -> None:
    request = monitor.ListAlertsRequest(filter=monitor.AlertFilter(deployment="x" * 2000))
    async with serving(Alerts(), max_message_bytes=1000) as server, channel(f"127.0.0.1:{server.port}") as connection:
        error = await failure(AlertServiceStub(connection), request)
    assert "larger than max" in error.args[0]


async def test_health_is_serving_only_while_ready() -> None:
    async with serving(Alerts()) as server:
        address = f"127.0.0.1:{server.port}"
        for ready in (None, True, False):
            if ready is not None:
                await server.announce(ready=ready)
            assert [await check_health(address, 5, name) for name in ("", SERVICE)] == [bool(ready)] * 2
        assert not await check_health(address, 5, "unknown.Service")
    assert not await check_health(address, 0.2)


async def test_whoever_watches_the_health_does_not_hold_up_the_stop() -> None:
    async with serving(Alerts()) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as connection:
        watch: Any = health_pb2_grpc.HealthStub(connection).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.announce(ready=True)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(5):  # half the grace would be 10 s
            await server.stop()


async def test_a_stream_ends_retriably_when_the_server_stops_and_its_servicer_is_cancelled() -> None:
    alerts = Alerts()
    async with serving(alerts) as server, channel(f"127.0.0.1:{server.port}") as connection:
        stream: Any = AlertServiceStub(connection).Subscribe(monitor.SubscribeRequest())
        assert (await stream.read()).resume_token == "1"  # noqa: S105
        await alerts.subscribed.wait()
        async with asyncio.timeout(5):
            await server.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        error = from_rpc_error(caught.value)
        assert type(error) is Unavailable
        assert (error.reason, error.retriable) == ("STOPPING", True)
        await asyncio.wait_for(alerts.cancelled.wait(), 5)


async def test_a_caller_that_leaves_cancels_the_servicer() -> None:
    alerts = Alerts()
    async with calling(alerts) as stub:
        stream = stub.Subscribe(monitor.SubscribeRequest())
        await stream.read()
        await alerts.subscribed.wait()
        stream.cancel()
        await asyncio.wait_for(alerts.cancelled.wait(), 5)


async def test_an_error_in_a_stream_reaches_the_caller() -> None:
    async with calling(Alerts()) as stub:
        stream = stub.Subscribe(monitor.SubscribeRequest(resume_token="fail"))  # noqa: S106
        await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert type(from_rpc_error(caught.value)) is InvalidArgument


async def test_calls_in_hand_are_answered_before_the_stop() -> None:
    alerts, begun, go_on = Alerts(), asyncio.Event(), asyncio.Event()

    async def answer() -> monitor.ListAlertsResponse:
        begun.set()
        await go_on.wait()
        return monitor.ListAlertsResponse()

    alerts.answer = lambda _: answer()
    async with serving(alerts) as server, channel(f"127.0.0.1:{server.port}") as connection:
        stub: Any = AlertServiceStub(connection)
        call = asyncio.ensure_future(stub.ListAlerts(monitor.ListAlertsRequest()))
        await begun.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        go_on.set()
        assert await call == monitor.ListAlertsResponse()
        await stopping


async def test_calls_are_counted_by_method_and_code() -> None:
    def count(code: str) -> float:
        return REGISTRY.get_sample_value("holdtrue_rpc_calls_total", {"method": LIST, "code": code}) or 0

    before = count("OK"), count("NOT_FOUND")
    alerts = Alerts()
    async with calling(alerts) as stub:
        await stub.ListAlerts(monitor.ListAlertsRequest())
        alerts.answer = raising(NotFound("x"))
        await failure(stub)
    assert (count("OK"), count("NOT_FOUND")) == (before[0] + 1, before[1] + 1)
    assert (REGISTRY.get_sample_value("holdtrue_rpc_seconds_count", {"method": LIST}) or 0) >= 2


async def test_reflection_names_the_services() -> None:
    async with serving(Alerts()) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as connection:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(connection)  # pyright: ignore[reportArgumentType]  it takes both kinds
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = await stub.ServerReflectionInfo(iter([request])).read()
        names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names


async def test_a_taken_port_is_refused() -> None:
    async with serving(Alerts()) as server:
        second = GrpcServer(ServiceSettings(grpc_port=server.port), [])
        with pytest.raises(RuntimeError, match=str(server.port)):
            await second.start()


def test_only_reads_are_repeated() -> None:
    config = json.loads(_service_config([dataset_service_pb2.DESCRIPTOR, monitor.DESCRIPTOR]))
    (group,) = config["methodConfig"]
    assert group["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    methods = {name["method"] for name in group["name"]}
    assert {"GetDataset", "ListDatasets", "GetHealth", "ListAlerts", "EvaluateSpan"} <= methods
    assert methods.isdisjoint({"CreateDataset", "PublishVersion", "Subscribe", "Acknowledge", "RecordLabels"})


async def test_a_read_is_repeated_while_the_server_is_unavailable() -> None:
    alerts, calls = Alerts(), list[int]()

    def answer(_context: ServicerContext) -> monitor.ListAlertsResponse:
        calls.append(1)
        if len(calls) < 3:
            raise Unavailable("not yet")
        return monitor.ListAlertsResponse()

    alerts.answer = answer
    async with serving(alerts) as server:
        address = f"127.0.0.1:{server.port}"
        async with channel(address, monitor.DESCRIPTOR) as connection:
            await AlertServiceStub(connection).ListAlerts(monitor.ListAlertsRequest())
        assert len(calls) == 3
        calls.clear()
        async with channel(address) as connection:
            assert type(await failure(AlertServiceStub(connection))) is Unavailable
        assert len(calls) == 1


def test_times_travel_in_utc_to_the_microsecond() -> None:
    time = datetime(2026, 7, 28, 12, 0, 0, 123456, timezone(timedelta(hours=2)))
    assert datetime_of(timestamp(time)) == time
    assert datetime_of(timestamp(time)).tzinfo is UTC
    with pytest.raises(ValueError, match="no time zone"):
        timestamp(datetime(2026, 7, 28))  # noqa: DTZ001
