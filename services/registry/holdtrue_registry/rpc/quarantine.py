"""Methods about refused records."""
# ruff: noqa: N802  methods are named by the protocol

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1 import quarantine_pb2 as pb
from holdtrue_core.rpc import actor_of, timestamp
from holdtrue_lake.rejects import read_rejects

from holdtrue_registry.rpc.methods import DatasetMethods, find
from holdtrue_registry.rpc.paging import numbers_of, page_size, token

if TYPE_CHECKING:
    from holdtrue_core.rpc import ServicerContext
    from holdtrue_lake.rejects import Place, Reject

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
        found = await asyncio.to_thread(
            read_rejects,
            self._lake,
            dataset.id,
            batch_id=request.batch_id,
            code=request.code,
            after=after,
            size=size,
            most_bytes=MOST_PAGE_BYTES,
        )
        return pb.ListQuarantineResponse(
            records=[_view(record, with_bytes=request.with_bytes) for record in found.page],
            next_page_token="" if found.last else token("/".join(map(str, found.page[-1].place))),
            total=sum(found.codes.values()),
            codes=found.codes,
        )


def _place(page_token: str) -> Place | None:
    if not page_token:
        return None
    time, partition, offset, row = numbers_of(page_token, 4)
    return time, partition, offset, row


def _view(record: Reject, *, with_bytes: bool) -> pb.RejectedRecord:
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
        size=len(record.raw),
        raw=record.raw if with_bytes else b"",
    )
