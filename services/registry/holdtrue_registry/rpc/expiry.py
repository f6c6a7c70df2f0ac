"""Methods about keeping versions, and forgetting them."""
# ruff: noqa: N802  methods are named by the protocol

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1 import expiry_pb2 as pb
from holdtrue_core.errors import InvalidArgument, NotFound
from holdtrue_core.rpc import actor_of, timestamp
from holdtrue_lake.history import Hold

from holdtrue_registry.domain.datasets import commit_ranges
from holdtrue_registry.expiry import expire
from holdtrue_registry.rpc.methods import DatasetMethods, find, locked, reason_of, version_of
from holdtrue_registry.store.expiry import ExpiryStore, Pinned

if TYPE_CHECKING:
    from holdtrue_core.rpc import ServicerContext

MOST_NAME = 100
_KINDS = {Hold.MODEL: pb.PIN_KIND_MODEL, Hold.HOLD: pb.PIN_KIND_HOLD}


class ExpiryMethods(DatasetMethods):
    """Pins and expiry."""

    async def PinVersion(self, request: pb.PinVersionRequest, context: ServicerContext) -> pb.PinVersionResponse:
        """Keep a version."""
        name, reason = request.name.strip(), request.reason.strip()
        if not reason:
            raise InvalidArgument.of("reason", "say why it is kept")
        if not name or len(name) > MOST_NAME or not name.isprintable():
            expected = f"expected a name of 1 to {MOST_NAME} printable characters"
            raise InvalidArgument.of("name", f"{expected}, got {len(name)}")
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await locked(tx, request.dataset, 0)
            version = await version_of(tx, dataset, request.version)
            await ExpiryStore(tx).pin(dataset.id, version.version, name, reason)
            [pin] = [
                each
                for each in await ExpiryStore(tx).pins(dataset)
                if (each.version, each.kind, each.name) == (version.version, Hold.HOLD, name)
            ]
        return pb.PinVersionResponse(pin=_view(pin))

    async def UnpinVersion(self, request: pb.UnpinVersionRequest, context: ServicerContext) -> pb.UnpinVersionResponse:
        """Withdraw a person's pin."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await locked(tx, request.dataset, 0)
            version = await version_of(tx, dataset, request.version)
            if not await ExpiryStore(tx).unpin(dataset.id, version.version, request.name.strip()):
                raise NotFound(
                    f"version {version.version} of dataset {dataset.name!r} has no pin {request.name[:100]!r}; "
                    "models that were trained on it keep it as long as they are there",
                    hint=f"holdtrue datasets pins {dataset.name}",
                )
            left = [pin for pin in await ExpiryStore(tx).pins(dataset) if pin.version == version.version]
        return pb.UnpinVersionResponse(pins=map(_view, left))

    async def ListPins(self, request: pb.ListPinsRequest, context: ServicerContext) -> pb.ListPinsResponse:
        """Say why versions are kept."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            pins = await ExpiryStore(tx).pins(await find(tx, request.dataset))
        return pb.ListPinsResponse(pins=map(_view, pins))

    async def ExpireVersions(
        self, request: pb.ExpireVersionsRequest, context: ServicerContext
    ) -> pb.ExpireVersionsResponse:
        """Forget old versions that nobody wants to keep."""
        reason = reason_of(request, "say why; it is kept with the number of the version")
        before = request.before.ToDatetime(UTC)
        if not request.HasField("before") or before > datetime.now(UTC):
            raise InvalidArgument.of("before", "expected a time in the past: versions made before it are forgotten")
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await locked(tx, request.dataset, request.expected_version)
            done = await expire(tx, dataset, before, reason, dry_run=request.dry_run)
        return pb.ExpireVersionsResponse(
            expired=done.versions, kept=map(_view, done.kept), commits=commit_ranges(done.commits), rows=done.rows
        )


def _view(pin: Pinned) -> pb.Pin:
    return pb.Pin(
        version=pin.version,
        kind=_KINDS[pin.kind],
        name=pin.name,
        reason=pin.reason,
        created_at=timestamp(pin.created_at) if pin.created_at else None,
    )
