"""What surrounds every call of the control plane: the actor, the translation of errors, limits, metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError
from holdtrue_contracts.actor import DEFAULT_TENANT, METADATA_KEY, Actor, ActorKind
from prometheus_client import Counter, Histogram

from holdtrue_core.errors import DeadlineExceeded, HoldtrueError, Internal, InvalidArgument, Unavailable, to_trailers
from holdtrue_core.ids import uuid7

MAX_SECONDS = 300.0
"""A call ends after this even if its caller would wait longer; streams may last."""

ServicerContext = grpc.aio.ServicerContext[Any, Any]

_ANYBODY = Actor(DEFAULT_TENANT, "anonymous", ActorKind.APPLICATION)
_CALLS = Counter("holdtrue_rpc_calls", "Calls answered", ["method", "code"])
_SECONDS = Histogram("holdtrue_rpc_seconds", "Time to answer a call, seconds", ["method"])
_log = structlog.stdlib.get_logger("holdtrue.rpc")


def actor_of(context: ServicerContext) -> Actor:
    """Return who calls, as the metadata say, or `anonymous`; raises InvalidArgument where they cannot be read."""
    for key, value in context.invocation_metadata() or ():
        if key == METADATA_KEY:
            return _read_actor(value if isinstance(value, bytes) else value.encode())
    return _ANYBODY


def _read_actor(header: bytes) -> Actor:
    try:
        return Actor.from_header(header)
    except ValueError as error:
        raise InvalidArgument.of(f"metadata {METADATA_KEY}", str(error)) from error


class Interceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of a server; `stopping` ends the streams."""

    def __init__(self, stopping: asyncio.Event) -> None:
        """Keep the event that the server sets when it stops."""
        self._stopping = stopping

    async def intercept_service(  # pyright: ignore[reportIncompatibleMethodOverride]  any method, not one pair of types
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401
        """Return the method's handler, wrapped; None for a method that nobody has."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        codec = _readable(handler.request_deserializer), handler.response_serializer
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(_unary(method, handler.unary_unary), *codec)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(_unary(method, handler.stream_unary), *codec)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream), *codec)
        return grpc.stream_stream_rpc_method_handler(self._stream(method, handler.stream_stream), *codec)

    def _stream(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
        async def answer(request: Any, context: ServicerContext) -> None:  # noqa: ANN401  any message
            async with _surrounded(method, context):
                sent = _read(method, request)
                await _until(self._stopping, _write_all(behaviour(sent, context), context))

        return answer


def _readable(read: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Return a reader that returns what is wrong with bytes instead of raising it, so that the caller can be told."""
    if read is None:
        return None

    def parse(data: bytes) -> Any:  # noqa: ANN401  any message
        try:
            return read(data)
        except DecodeError as error:
            return error

    return parse


def _read(method: str, request: Any) -> Any:  # noqa: ANN401  any message, or an iterator of some
    """Return what was sent; raises InvalidArgument, for an iterator where it meets it, if it could not be read."""
    if isinstance(request, DecodeError):
        raise InvalidArgument(f"the bytes are no request of {method}: {request}", reason="UNREADABLE") from request
    return _read_all(method, request) if hasattr(request, "__aiter__") else request


async def _read_all(method: str, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _read(method, request)


def _unary(method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def answer(request: Any, context: ServicerContext) -> Any:  # noqa: ANN401  any message
        async with _surrounded(method, context):
            sent = _read(method, request)
            try:
                async with asyncio.timeout(MAX_SECONDS):
                    return await behaviour(sent, context)
            except TimeoutError as error:
                raise DeadlineExceeded(f"{method} took longer than {MAX_SECONDS:g} s; ask for less at once") from error

    return answer


async def _write_all(answers: AsyncIterator[Any] | Awaitable[None], context: ServicerContext) -> None:
    if isinstance(answers, Awaitable):
        await answers  # a servicer that writes to the context by itself
        return
    async for answer in answers:
        await context.write(answer)


async def _until(stopping: asyncio.Event, work: Awaitable[None]) -> None:
    """Do the work; raise Unavailable as soon as the server stops."""
    working, stop = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Unavailable("the server is stopping; connect again and resume", reason="STOPPING")
        working.result()
    finally:
        for task in (working, stop):
            task.cancel()
        await asyncio.gather(working, stop, return_exceptions=True)


@asynccontextmanager
async def _surrounded(method: str, context: ServicerContext) -> AsyncGenerator[None]:
    """Bind the actor to the log, turn errors into statuses, count the call and its time."""
    started = time.perf_counter()
    code = grpc.StatusCode.OK
    try:
        with structlog.contextvars.bound_contextvars(method=method, actor=actor_of(context).name):
            yield
    except grpc.aio.AbortError:
        code = context.code()
        raise
    except asyncio.CancelledError:
        code = grpc.StatusCode.CANCELLED
        raise
    except HoldtrueError as error:
        code = error.code
        await _abort(context, error)
    except Exception:  # noqa: BLE001  it is logged and the caller gets its id
        code = grpc.StatusCode.INTERNAL
        await _abort(context, _hidden(method))
    finally:
        _CALLS.labels(method, getattr(code, "name", str(code))).inc()
        _SECONDS.labels(method).observe(time.perf_counter() - started)


def _hidden(method: str) -> Internal:
    """Log the exception in hand under an id; return an error that names only the id."""
    error_id = uuid7()
    _log.exception("a call failed by our fault", method=method, error_id=error_id)
    return Internal(f"internal error {error_id}; the log of the service has its cause", metadata={"error_id": error_id})


async def _abort(context: ServicerContext, error: HoldtrueError) -> NoReturn:
    await context.abort(error.code, error.message, to_trailers(error))
