"""Keeping versions of datasets, and forgetting them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from holdtrue_contracts.registry.v1.expiry_pb2 import (
    ExpireVersionsRequest,
    ExpireVersionsResponse,
    ListPinsRequest,
    Pin,
    PinVersionRequest,
    UnpinVersionRequest,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub

    from holdtrue.connection import Connection


class DatasetExpiry:
    """Pins and expiry: part of `Client.datasets`."""

    _connection: Connection
    _stub: DatasetServiceStub

    def pins(self, dataset: str) -> Sequence[Pin]:
        """Return why versions of a dataset are kept, newest version first; raises NotFound."""
        return self._connection.call(self._stub.ListPins, ListPinsRequest(dataset=dataset)).pins

    def pin(self, dataset: str, version: int, name: str, *, reason: str) -> Pin:
        """Keep a version, 0: the newest, under a name of a person's own; raises NotFound, InvalidArgument."""
        request = PinVersionRequest(dataset=dataset, version=version, name=name, reason=reason)
        return self._connection.call(self._stub.PinVersion, request).pin

    def unpin(self, dataset: str, version: int, name: str) -> Sequence[Pin]:
        """Withdraw a pin; return those that the version still has. Raises NotFound."""
        request = UnpinVersionRequest(dataset=dataset, version=version, name=name)
        return self._connection.call(self._stub.UnpinVersion, request).pins

    def expire(
        self, dataset: str, before: datetime, *, reason: str, dry_run: bool = False, expected: int = 0
    ) -> ExpireVersionsResponse:
        """Forget versions made before a time (with a zone), except pinned ones and the newest.

        Rows that no version has any more are deleted. `expected` is the newest version that was looked at. Raises
        NotFound, InvalidArgument, Conflict.
        """
        time = Timestamp()
        time.FromDatetime(before)
        request = ExpireVersionsRequest(
            dataset=dataset, before=time, reason=reason, dry_run=dry_run, expected_version=expected
        )
        return self._connection.call(self._stub.ExpireVersions, request)
