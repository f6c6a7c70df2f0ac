"""Methods about refused records."""
# ruff: noqa: N802  methods are named by the protocol

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1 import quarantine_pb2 as pb
from holdtrue_core.rpc import actor_of, timestamp
from holdtrue_lake.protection import Protection
from holdtrue_lake.rejects import read_rejects
from holdtrue_lake.reoffer import Original, reoffer

from holdtrue_registry.rpc.methods import DatasetMethods, find, locked, reason_of
from holdtrue_registry.rpc.paging import numbers_of, page_size, token
from holdtrue_registry.store.replay import ReplayStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_core.rpc import ServicerContext
    from holdtrue_lake.rejects import Place, Reject

    from holdtrue_registry.domain.datasets import Dataset

MOST_REPLAYED, MOST_REPLAYED_BYTES = 20_000, 16 << 20
"""Records, and bytes of them, that one call offers again."""
MOST_PAGE_BYTES = 2 << 20
"""Original bytes on one page; what a message may be is more."""


class QuarantineMethods(DatasetMethods):
    """Refused records."""

    async def ListQuarantine(
        self, request: pb.ListQuarantineRequest, context: ServicerContext
    ) -> pb.ListQuarantineResponse:
        """List refused records, newest first."""
        size, after = page_size(request.page_size), _place(request.page_token)
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await find(tx, request.dataset)
            hidden = await ReplayStore(tx).places(dataset.id)
        found = await asyncio.to_thread(
            read_rejects,
            self._lake,
            dataset.id,
            batch_id=request.batch_id,
            code=request.code,
            after=after,
            size=size,
            most_bytes=MOST_PAGE_BYTES,
            hidden=hidden,
        )
        raw = await self._opened(dataset, found.page, actor_of(context).tenant) if request.with_bytes else {}
        return pb.ListQuarantineResponse(
            records=[_view(record, raw.get(record.place)) for record in found.page],
            next_page_token="" if found.last else token("/".join(map(str, found.page[-1].place))),
            total=sum(found.codes.values()),
            codes=found.codes,
        )

    async def ReplayQuarantine(
        self, request: pb.ReplayQuarantineRequest, context: ServicerContext
    ) -> pb.ReplayQuarantineResponse:
        """Offer refused records again: in one transaction they are marked and sent, so that each is offered once."""
        reason = reason_of(request, "say why, for example what has changed in the rules; it is kept with the records")
        until = request.until.ToDatetime(UTC) if request.HasField("until") else datetime.now(UTC)
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await locked(tx, request.dataset, 0)
            store = ReplayStore(tx)
            found = await asyncio.to_thread(
                read_rejects,
                self._lake,
                dataset.id,
                batch_id=request.batch_id,
                code=request.code,
                size=MOST_REPLAYED,
                most_bytes=MOST_REPLAYED_BYTES,
                until=until,
                hidden=await store.places(dataset.id),
            )
            raw = await self._opened(dataset, found.page, tx.actor.tenant)
            offered = await asyncio.to_thread(reoffer, dataset.id, [Original(*each) for each in raw.items()])
            if not request.dry_run:
                for batch, places in offered.batches:
                    await store.add(dataset.id, places, batch.batch_id, reason)
                    tx.publish(batch)
        count = sum(len(places) for _, places in offered.batches)
        return pb.ReplayQuarantineResponse(
            records=count,
            batch_ids=[batch.batch_id for batch, _ in offered.batches],
            left=sum(found.codes.values()) - len(found.page),
            skipped=offered.skipped,
            until=timestamp(until),
        )

    async def _opened(self, dataset: Dataset, records: Sequence[Reject], tenant: str) -> dict[Place, bytes]:
        """Return the original bytes of records; none of persons whose keys are gone."""
        protection = Protection.of(dataset.id, dataset.schema)
        if protection is None:
            return {record.place: record.raw for record in records}
        subjects = {record.subject for record in records if record.subject}
        keys = await self._persons.keys.by_pseudonym(tenant, subjects)
        return {record.place: protection.reveal_raw(record.raw, record.subject, keys) for record in records}


def _place(page_token: str) -> Place | None:
    if not page_token:
        return None
    time, partition, offset, row = numbers_of(page_token, 4)
    return time, partition, offset, row


def _view(record: Reject, raw: bytes | None) -> pb.RejectedRecord:
    """Return a record, with its original bytes where they are known."""
    _, partition, offset, row = record.place
    return pb.RejectedRecord(
        partition=partition,
        offset=offset,
        row=row,
        batch_id=record.batch_id,
        refused_at=timestamp(record.refused_at),
        schema_id=record.schema_id,
        rules_digest=record.rules,
        faults=[
            pb.RecordFault(code=str(f.code), column=f.column, expected=f.expected, got=f.got, rule=f.rule)
            for f in record.faults
        ],
        size=len(record.raw if raw is None else raw),
        raw=raw or b"",
    )
