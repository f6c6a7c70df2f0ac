"""The Open Inference Protocol over gRPC. Handlers take and give bytes, and there are no interceptors on their way."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from typing import TYPE_CHECKING, Any, cast

import grpc
import structlog
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from holdtrue_contracts.oip import SERVICE, client
from holdtrue_contracts.oip import inference_pb2 as oip
from holdtrue_core import errors, health
from holdtrue_core.health import Health

from holdtrue_inference.domain import descriptions
from holdtrue_inference.domain.errors import (
    Expired,
    InvalidInput,
    NotServing,
    Overloaded,
    Refused,
    SpoolFull,
    UnknownModel,
)
from holdtrue_inference.domain.request_ids import RequestIds
from holdtrue_inference.lane import Failed, Lane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from holdtrue_inference.domain.routing import Deployment
    from holdtrue_inference.metrics import Traffic
    from holdtrue_inference.serving import Serving
    from holdtrue_inference.settings import InferenceSettings
    from holdtrue_inference.workers.replica import Replica

ROUTING_KEY = "holdtrue-routing-key"
"""Metadata by which a caller keeps its requests on one revision; without it every request is routed for itself."""
DEFAULT_SECONDS = 1.0
MAX_SECONDS = 30.0
MAX_MESSAGE_BYTES = 16 << 20
MAX_STREAMS = 1_000
"""Requests of one connection at a time. The transport also counts those whose reply is on its way, up to as many again,
and refuses what exceeds the limit: so a caller may safely have half of it in flight."""
EXTENSIONS = ("model_repository", "parameters")
_MICROSECONDS = 1_000_000
_RETRY_AFTER = "retry-after-ms"
_ERRORS: dict[type[Refused], tuple[type[errors.HoldtrueError], str]] = {
    UnknownModel: (errors.NotFound, "UNKNOWN_MODEL"),
    NotServing: (errors.Unavailable, "NOT_SERVING"),
    Overloaded: (errors.ResourceExhausted, "OVERLOADED"),
    SpoolFull: (errors.Unavailable, "SPOOL_FULL"),
    Expired: (errors.DeadlineExceeded, "EXPIRED"),
}
_BACKLOG = 100  # requests of one stream that are read ahead

Context = grpc.aio.ServicerContext[Any, Any]

_log = structlog.stdlib.get_logger("holdtrue.inference.rpc")


class InferenceService:
    """The protocol's methods."""

    def __init__(self, serving: Serving, replica: Replica, traffic: Traffic) -> None:
        """Take what is served."""
        self._serving = serving
        self._replica = replica
        self._traffic = traffic
        self._ids = RequestIds()
        self._version = importlib.metadata.version("holdtrue-inference")

    def handler(self) -> grpc.GenericRpcHandler:
        """All methods, as a server takes them."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream),
        }
        for name in ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig",
                     "RepositoryIndex"):  # fmt: skip
            handlers[name] = _described(name, getattr(self, f"_{name}"))
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def _infer(self, data: bytes, context: Context) -> bytes:
        try:
            return await self._answer(data, context)
        except errors.HoldtrueError as error:
            await _abort(context, error)
        raise AssertionError("abort raises")

    async def _answer(self, data: bytes, context: Context) -> bytes:
        """The reply's bytes; counts what is refused, for the revision too if it is about the one it was routed to."""
        arrival_ns = time.time_ns()
        lane: Lane | None = None
        try:
            request = _parse(data)
            request_id = self._ids.next(arrival_ns)
            lane = self._route(request, request_id, context)
            return await lane.submit(request, request_id, arrival_ns, _remaining(request, context))
        except (Refused, Failed) as refusal:
            error = to_error(refusal)
            self._traffic.failed(error.code.name)
            if lane is not None and self._concerns(lane, refusal):
                lane.fail(error.code.name)
            raise error from refusal

    def _concerns(self, lane: Lane, refusal: Refused | Failed) -> bool:
        """Whether a failure counts against the revision: wrong input does only where another revision might take it."""
        if not isinstance(refusal, InvalidInput):
            return True
        fellows = next((d.targets for d in self._serving.table.deployments.values() if lane in d.targets), ())
        return any(fellow.signature != lane.signature for fellow in fellows)

    def _route(self, request: oip.ModelInferRequest, request_id: bytes, context: Context) -> Lane:
        deployment = self._serving.table.deployment(request.model_name)
        if request.model_version:
            return deployment.pinned(request.model_version)
        return deployment.choose(_routing_key(context) or request_id if deployment.keyed else request_id)

    async def _stream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Answer in the order of the requests; a bad one is answered by its error, and the stream goes on."""
        pending: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_BACKLOG)

        async def read() -> None:
            async for data in requests:
                await pending.put(asyncio.create_task(self._stream_answer(data, context)))
            await pending.put(None)

        reader = asyncio.create_task(read())
        try:
            while (task := await pending.get()) is not None:
                yield await task
        finally:
            reader.cancel()
            while not pending.empty():
                left = pending.get_nowait()
                if left is not None:
                    left.cancel()

    async def _stream_answer(self, data: bytes, context: Context) -> bytes:
        try:
            reply = oip.ModelInferResponse.FromString(await self._answer(data, context))
        except errors.HoldtrueError as error:
            return oip.ModelStreamInferResponse(error_message=error.message).SerializeToString()
        return oip.ModelStreamInferResponse(infer_response=reply).SerializeToString()

    def _ServerLive(self, _: oip.ServerLiveRequest) -> oip.ServerLiveResponse:  # noqa: N802  the protocol's names
        return oip.ServerLiveResponse(live=True)

    def _ServerReady(self, _: oip.ServerReadyRequest) -> oip.ServerReadyResponse:  # noqa: N802
        return oip.ServerReadyResponse(ready=self._replica.ready)

    def _ServerMetadata(self, _: oip.ServerMetadataRequest) -> oip.ServerMetadataResponse:  # noqa: N802
        return oip.ServerMetadataResponse(name="holdtrue", version=self._version, extensions=EXTENSIONS)

    def _ModelReady(self, request: oip.ModelReadyRequest) -> oip.ModelReadyResponse:  # noqa: N802
        try:
            self._lane(request.name, request.version)
        except Refused:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=not self._serving.draining)

    def _ModelMetadata(self, request: oip.ModelMetadataRequest) -> oip.ModelMetadataResponse:  # noqa: N802
        deployment, lane = self._lane(request.name, request.version)
        versions = [request.version] if request.version else deployment.versions
        return descriptions.metadata(deployment.name, versions, lane.signature, lane.revision.kind)

    def _ModelConfig(self, request: oip.ModelConfigRequest) -> oip.ModelConfigResponse:  # noqa: N802
        deployment, lane = self._lane(request.name, request.version)
        return descriptions.config(deployment.name, lane.signature, lane.revision.kind)

    def _RepositoryIndex(self, request: oip.RepositoryIndexRequest) -> oip.RepositoryIndexResponse:  # noqa: N802
        response = oip.RepositoryIndexResponse()
        for entry in self._replica.index():
            if not request.ready or entry.state == "READY":
                response.models.append(entry)
        return response

    def _lane(self, name: str, version: str) -> tuple[Deployment[Lane], Lane]:
        deployment = self._serving.table.deployment(name)
        lane = deployment.pinned(version) if version else deployment.default
        if lane is None:
            raise NotServing(f"model {name!r} has no revision with traffic yet; name one of {deployment.versions}")
        return deployment, lane


class InferenceServer:
    """The part of the service that answers gRPC: the protocol, health and reflection."""

    name = "grpc"

    def __init__(self, settings: InferenceSettings, service: InferenceService, serving: Serving) -> None:
        """Take host, port and grace from the settings."""
        self._address = f"{settings.host}:{settings.grpc_port}"
        self._grace = settings.grace_seconds / 2
        self._service = service
        self._serving = serving
        self._health = Health([SERVICE])
        self._stopped = asyncio.Event()
        self.port = 0
        """The port that is bound, after the start."""

    async def start(self) -> None:
        """Bind and answer; raises RuntimeError where the port is taken."""
        self._server = grpc.aio.server(options=_options())
        self._server.add_generic_rpc_handlers((self._service.handler(),))
        self._health.add_to(self._server)
        names = [SERVICE, health.SERVICE, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server, _pool())
        await self.announce(ready=False)
        self.port = self._server.add_insecure_port(self._address)
        await self._server.start()
        _log.info("listening", port=self.port)

    async def run(self) -> None:
        """Serve until the stop."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Take no new requests, answer those in hand, record what failed."""
        self._serving.draining = True
        await self._server.stop(self._grace)
        self._serving.record_failures()
        self._stopped.set()

    async def announce(self, *, ready: bool) -> None:
        """Say whether the service may be used."""
        await self._health.announce(ready=ready)


def to_error(refusal: Refused | Failed) -> errors.HoldtrueError:
    """The refusal as every caller of the platform sees errors."""
    text = str(refusal)
    if isinstance(refusal, Failed):
        return errors.Internal(f"the request failed in here; the log knows more under {text}")
    if isinstance(refusal, InvalidInput):
        violation = errors.FieldViolation(refusal.field, refusal.description)
        return errors.InvalidArgument(text, violations=[violation], metadata=refusal.metadata)
    metadata = {_RETRY_AFTER: str(refusal.retry_after_ms)} if isinstance(refusal, Overloaded) else None
    error, reason = _ERRORS[type(refusal)]
    return error(text, reason=reason, metadata=metadata)


async def _abort(context: Context, error: errors.HoldtrueError) -> None:
    trailers: list[tuple[str, str | bytes]] = list(errors.to_trailers(error))
    if _RETRY_AFTER in error.metadata:
        trailers.append((_RETRY_AFTER, error.metadata[_RETRY_AFTER]))
    await context.abort(error.code, error.message, tuple(trailers))


def _described(name: str, describe: Callable[[Any], Message]) -> grpc.RpcMethodHandler[Any, Any]:
    """A method that only describes: from bytes to bytes, refusals as errors."""
    parse: Callable[[bytes], Message] = getattr(oip, f"{name}Request").FromString

    async def handle(data: bytes, context: Context) -> bytes:
        try:
            return describe(parse(data)).SerializeToString()
        except DecodeError as error:
            await _abort(context, errors.InvalidArgument(f"the bytes are no {name}Request: {error}"))
        except Refused as refusal:
            await _abort(context, to_error(refusal))
        raise AssertionError("abort raises")

    return grpc.unary_unary_rpc_method_handler(handle)


def _parse(data: bytes) -> oip.ModelInferRequest:
    try:
        return oip.ModelInferRequest.FromString(data)
    except DecodeError as error:
        raise InvalidInput("request", f"the bytes are no ModelInferRequest: {error}") from error


def _remaining(request: oip.ModelInferRequest, context: Context) -> float:
    """Seconds until the request's deadline: the transport's, lowered by the parameter `timeout` in microseconds."""
    remaining = cast("float | None", context.time_remaining())  # None where the caller set no deadline
    seconds = DEFAULT_SECONDS if remaining is None else min(remaining, MAX_SECONDS)
    if request.parameters:
        wish = client.parameter_value(request.parameters["timeout"]) if "timeout" in request.parameters else None
        if isinstance(wish, int) and wish > 0:
            seconds = min(seconds, wish / _MICROSECONDS)
    return seconds


def _routing_key(context: Context) -> bytes | None:
    for name, value in context.invocation_metadata() or ():
        if name == ROUTING_KEY:
            return value if isinstance(value, bytes) else value.encode()
    return None


def _pool() -> DescriptorPool:
    """What reflection knows: the protocol's private messages beside the standard ones."""
    pool = DescriptorPool()
    for file in (oip.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool


def _options() -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.keepalive_time_ms", 60_000),
    ]
