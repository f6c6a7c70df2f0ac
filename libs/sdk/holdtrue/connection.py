"""Calls to the services: one channel each, an actor, a deadline, and errors of the platform's own kind."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import grpc
from holdtrue_contracts.actor import local_person
from holdtrue_core.channels import MAX_MESSAGE_BYTES, as_actor, blocking_channel

from holdtrue.errors import DeadlineExceeded, HoldtrueError, InvalidArgument, Unavailable, from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from google.protobuf.descriptor import FileDescriptor

    from holdtrue.endpoints import Endpoints

CONTROL_SECONDS = 30.0
"""Deadline of a call unless it says otherwise."""
_TOO_LARGE = re.compile(r"message larger than max \((\d+) vs\. (\d+)\)")
_UNCONNECTED = "failed to connect to all addresses"

Request = TypeVar("Request")
Response = TypeVar("Response")


class Connection:
    """Channels to the services, opened when first used. Threads may share it."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Keep where the services are; nothing is opened yet."""
        self.endpoints = endpoints
        self.actor = local_person()
        self._metadata = as_actor(self.actor)
        self._channels: dict[str, grpc.Channel] = {}

    def channel(self, service: str, *reads: FileDescriptor, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.Channel:
        """Return the channel to a service; see `holdtrue_core.channels.channel` for the rest."""
        if service not in self._channels:
            address = self.endpoints.grpc(service)
            self._channels[service] = blocking_channel(address, *reads, max_message_bytes=max_message_bytes)
        return self._channels[service]

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float = CONTROL_SECONDS,
    ) -> Response:
        """Call a unary method with a deadline of `timeout` seconds; raises HoldtrueError."""
        with self._telling(timeout):
            return method(request, timeout=timeout, metadata=self._metadata)

    def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Response],
        requests: Iterator[Request],
        timeout: float = CONTROL_SECONDS,
    ) -> Response:
        """Send a stream of requests and return the answer to all; raises HoldtrueError."""
        with self._telling(timeout):
            return method(requests, timeout=timeout, metadata=self._metadata)

    def begin(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, timeout: float
    ) -> Callable[[], Response]:
        """Begin a call; the function that comes back waits for the answer, or raises HoldtrueError."""
        future = method.future(request, timeout=timeout, metadata=self._metadata)

        def wait() -> Response:
            with self._telling(timeout):
                return future.result()

        return wait

    def stream(self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request) -> Iterator[Response]:
        """Yield what a method answers, without a deadline; raises HoldtrueError when the stream breaks."""
        answers = method(request, metadata=self._metadata)
        try:
            with self._telling():
                yield from answers
        finally:
            answers.cancel()

    def close(self) -> None:
        """Close all channels."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    @contextmanager
    def _telling(self, timeout: float = 0.0) -> Generator[None]:
        """Raise HoldtrueError for what a call fails with."""
        try:
            yield
        except grpc.RpcError as error:
            raise self._translated(error, timeout) from error

    def _translated(self, error: grpc.RpcError, timeout: float = 0.0) -> HoldtrueError:
        """Return what a call failed with; what gRPC itself says is put into words with what to do."""
        result = from_rpc_error(error)
        if large := _TOO_LARGE.search(result.message):
            return InvalidArgument(
                f"a message of {int(large[1]):,} bytes, and at most {int(large[2]):,} are taken: send less at once",
                reason="TOO_LARGE",
            )
        if isinstance(result, DeadlineExceeded) and result.message == "Deadline Exceeded":
            text = f"no answer within {timeout:g} s"
            return DeadlineExceeded(text, hint="allow more time, or see what runs: holdtrue status")
        if isinstance(result, Unavailable) and not result.hint:
            result.hint = "see what runs: holdtrue status"
            if result.message.startswith(_UNCONNECTED):
                return Unavailable(self._unconnected(result.message), reason="UNREACHABLE", hint=result.hint)
        return result

    def _unconnected(self, text: str) -> str:
        """Return which service could not be reached, and why."""
        reason = text.rpartition("connect: ")[2] or text
        for name, addresses in self.endpoints.services.items():
            if (address := addresses.get("grpc", "")) and address in text:
                return f"nothing answers at {address}, the address of the service {name}: {reason}"
        return text
