"""The caller's side of gRPC; imports nothing but grpc, so that commands start quickly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
from holdtrue_contracts.actor import METADATA_KEY, Actor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.descriptor import FileDescriptor

MAX_MESSAGE_BYTES = 4 << 20
"""Largest message of the control plane."""
_READS = ("Get", "List", "Evaluate")
_RETRIES = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

Option = tuple[str, int | str]


def channel(address: str, *reads: FileDescriptor, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.aio.Channel:
    """Return a channel to `host:port` for asyncio, for the services of the files `reads`.

    Their methods that only read (Get…, List…, Evaluate…) are repeated while the server is unavailable; a change is not,
    because it may have happened.
    """
    return grpc.aio.insecure_channel(address, options=_client_options(reads, max_message_bytes))


def blocking_channel(address: str, *reads: FileDescriptor, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.Channel:
    """Return the same as `channel` for threads."""
    return grpc.insecure_channel(address, options=_client_options(reads, max_message_bytes))


def as_actor(actor: Actor) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call that `actor` makes."""
    return ((METADATA_KEY, actor.to_header().decode()),)


def message_limits(most_bytes: int) -> list[Option]:
    """Return the options that bound the messages of a channel or server."""
    return [
        ("grpc.max_receive_message_length", most_bytes),
        ("grpc.max_send_message_length", most_bytes),
        ("grpc.max_metadata_size", 16 << 10),
    ]


def _client_options(reads: Sequence[FileDescriptor], most_bytes: int) -> list[Option]:
    return [
        *message_limits(most_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.service_config", _service_config(reads)),
    ]


def _service_config(files: Sequence[FileDescriptor]) -> str:
    names = [
        {"service": service.full_name, "method": method.name}
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
        if method.name.startswith(_READS) and not method.server_streaming
    ]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": _RETRIES}]} if names else {})
