"""Calls to the services: one channel each, an actor, a deadline, and errors of the platform's own kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import grpc
from holdtrue_contracts.actor import local_person
from holdtrue_core.channels import MAX_MESSAGE_BYTES, as_actor, blocking_channel

from holdtrue.errors import HoldtrueError, Unavailable, from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.descriptor import FileDescriptor

    from holdtrue.endpoints import Endpoints

CONTROL_SECONDS = 30.0
"""Deadline of a call unless it says otherwise."""

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
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _translated(error) from error

    def begin(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, timeout: float
    ) -> Callable[[], Response]:
        """Begin a call; the function that comes back waits for the answer, or raises HoldtrueError."""
        future = method.future(request, timeout=timeout, metadata=self._metadata)

        def wait() -> Response:
            try:
                return future.result()
            except grpc.RpcError as error:
                raise _translated(error) from error

        return wait

    def stream(self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request) -> Iterator[Response]:
        """Yield what a method answers, without a deadline; raises HoldtrueError when the stream breaks."""
        answers = method(request, metadata=self._metadata)
        try:
            yield from answers
        except grpc.RpcError as error:
            raise _translated(error) from error
        finally:
            answers.cancel()

    def close(self) -> None:
        """Close all channels."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


def _translated(error: grpc.RpcError) -> HoldtrueError:
    result = from_rpc_error(error)
    if isinstance(result, Unavailable) and not result.hint:
        result.hint = "see what runs: holdtrue status"
    return result
