"""Methods about erasing persons."""
# ruff: noqa: N802  methods are named by the protocol

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1 import erasure_pb2 as pb
from holdtrue_core.errors import InvalidArgument
from holdtrue_core.rpc import actor_of, timestamp
from holdtrue_lake.erasure import Erased
from holdtrue_lake.subjects import normal

from holdtrue_registry.domain.datasets import commit_ranges
from holdtrue_registry.history import models_of
from holdtrue_registry.rpc.methods import DatasetMethods, reason_of
from holdtrue_registry.rpc.paging import last_of, page_size, token
from holdtrue_registry.store.datasets import DatasetStore, every_dataset
from holdtrue_registry.store.history import HistoryStore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from holdtrue_contracts.actor import Actor
    from holdtrue_core.rpc import ServicerContext
    from holdtrue_events.outbox import Transaction
    from holdtrue_lake.erasures import Erasure

    from holdtrue_registry.domain.datasets import Dataset

MOST_IDENTIFIER = 1000
_TELLING = 8
"""Identifiers with fewer characters stand in a sentence by chance."""


class ErasureMethods(DatasetMethods):
    """Erasing persons."""

    async def EraseSubject(self, request: pb.EraseSubjectRequest, context: ServicerContext) -> pb.EraseSubjectResponse:
        """Queue the erasure of a person, or only count what there is."""
        actor = actor_of(context)
        reason = _reason(request)
        if len(request.identifier) > MOST_IDENTIFIER:
            expected = f"expected at most {MOST_IDENTIFIER} characters"
            raise InvalidArgument.of("identifier", f"{expected}, got {len(request.identifier)}")
        if request.dry_run:
            return pb.EraseSubjectResponse(erasure=await self._counted(actor, request.identifier))
        queue = self._erasing.queue
        erasure_id = await queue.ask(actor, request.identifier, reason, urgent=request.now)
        if request.now:
            self._erasing.wake()
        return pb.EraseSubjectResponse(erasure=await self._view(actor, await queue.get(actor.tenant, erasure_id)))

    async def GetErasure(self, request: pb.GetErasureRequest, context: ServicerContext) -> pb.GetErasureResponse:
        """Say how far an erasure is."""
        actor = actor_of(context)
        found = await self._erasing.queue.get(actor.tenant, request.erasure_id)
        return pb.GetErasureResponse(erasure=await self._view(actor, found))

    async def ListErasures(self, request: pb.ListErasuresRequest, context: ServicerContext) -> pb.ListErasuresResponse:
        """List erasures, newest first."""
        size, before = page_size(request.page_size), last_of(request.page_token)
        tenant = actor_of(context).tenant
        found = await self._erasing.queue.page(tenant, before, size, unfinished=request.open)
        more = token(found[-1].id) if len(found) == size else ""
        return pb.ListErasuresResponse(erasures=map(_head, found), next_page_token=more)

    async def _counted(self, actor: Actor, identifier: str) -> pb.Erasure:
        """Return what all datasets hold about a person."""
        queue = self._erasing.queue
        pseudonym = await queue.pseudonym(actor.tenant, identifier)
        datasets = [dataset async for dataset in every_dataset(self._outbox, actor)]
        ids = [dataset.id for dataset in datasets]
        held = await queue.holds(actor.tenant, pseudonym, ids) if pseudonym else {}
        async with self._outbox.transaction(actor) as tx:
            views = [await _dataset(tx, dataset, held.get(dataset.id, Erased()), {}) for dataset in datasets]
        return pb.Erasure(pseudonym=pseudonym or "", datasets=views, datasets_total=len(views))

    async def _view(self, actor: Actor, erasure: Erasure) -> pb.Erasure:
        view = _head(erasure)
        async with self._outbox.transaction(actor) as tx:
            for dataset_id in sorted({*erasure.held, *erasure.checked}):
                if dataset := await DatasetStore(tx).get(dataset_id):
                    held, check = erasure.held.get(dataset_id, Erased()), erasure.checked.get(dataset_id, {})
                    view.datasets.append(await _dataset(tx, dataset, held, check))
        return view


def _reason(request: pb.EraseSubjectRequest) -> str:
    reason = reason_of(request, "say why, for example by the number of the request; it is kept with the erasure")
    name = normal(request.identifier)
    if len(name) >= _TELLING and name.casefold() in reason.casefold():
        raise InvalidArgument.of("reason", "it names the person and would be kept: leave the identifier out")
    return reason


def _head(erasure: Erasure) -> pb.Erasure:
    checks = erasure.checked.values()
    leaves: Mapping[str, str] = (erasure.proof or {}).get("leaves", {}) if erasure.done_at else {}
    return pb.Erasure(
        erasure_id=erasure.id,
        state=_state(erasure),
        reason=erasure.reason,
        asked_by=erasure.asked_by,
        asked_at=timestamp(erasure.asked_at),
        deadline=timestamp(erasure.deadline),
        done_at=timestamp(erasure.done_at) if erasure.done_at else None,
        pseudonym=erasure.pseudonym or "",
        datasets_done=sum(not check["found"] and not check["trouble"] for check in checks),
        datasets_total=erasure.total,
        remainders=[
            pb.ErasureRemainder(topic=topic, gone_at=timestamp(datetime.fromisoformat(at)))
            for topic, at in sorted(leaves.items())
        ],
        overdue=erasure.done_at is None and erasure.deadline < datetime.now(UTC),
    )


def _state(erasure: Erasure) -> pb.ErasureState.ValueType:
    if erasure.done_at:
        return pb.ERASURE_STATE_DONE
    return pb.ERASURE_STATE_RUNNING if erasure.began_at else pb.ERASURE_STATE_WAITING


async def _dataset(tx: Transaction, dataset: Dataset, held: Erased, check: Mapping[str, Any]) -> pb.ErasedDataset:
    """Return what a dataset held about a person, who learned from it, and what was found since."""
    holding = (
        [v.number for v in await HistoryStore(tx).versions(dataset) if v.commits & held.commits] if held.commits else []
    )
    return pb.ErasedDataset(
        dataset_id=dataset.id,
        name=dataset.name,
        protected=bool(dataset.schema.subject),
        rows=held.rows,
        quarantined=held.quarantined,
        commits=commit_ranges(held.commits),
        versions=holding,
        models=await models_of(tx, dataset, holding),
        checked_at=timestamp(datetime.fromisoformat(check["at"])) if check else None,
        files=check.get("files", 0),
        bytes=check.get("bytes", 0),
        found=[
            pb.ErasureTrace(file=f["file"], where=f["where"], pseudonym=f["pseudonym"]) for f in check.get("found", ())
        ],
        trouble=check.get("trouble", ""),
    )
