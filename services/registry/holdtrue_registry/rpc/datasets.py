"""DatasetService."""
# ruff: noqa: N802  methods are named by the protocol

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from holdtrue_contracts.registry.v1 import dataset_service_pb2 as pb
from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceServicer
from holdtrue_core.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
)
from holdtrue_core.ids import uuid7
from holdtrue_core.rpc import actor_of, timestamp
from holdtrue_lake.schema import schema_id, schema_problems

from holdtrue_registry.commands import put_rules
from holdtrue_registry.domain.names import name_problem
from holdtrue_registry.rpc.erasure import ErasureMethods
from holdtrue_registry.rpc.expiry import ExpiryMethods
from holdtrue_registry.rpc.history import HistoryMethods
from holdtrue_registry.rpc.methods import check_batches, find, version_of
from holdtrue_registry.rpc.paging import last_of, number_of, page_size, token
from holdtrue_registry.rpc.quarantine import QuarantineMethods
from holdtrue_registry.rpc.rules import RuleMethods
from holdtrue_registry.rules import checked, schema_of
from holdtrue_registry.store.datasets import DatasetStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdtrue_contracts.actor import Actor
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema
    from holdtrue_core.rpc import ServicerContext

    from holdtrue_registry.domain.datasets import Batch, Dataset
    from holdtrue_registry.rpc.methods import Workplace
    from holdtrue_registry.settings import RegistrySettings

SERVICE = pb.DESCRIPTOR.services_by_name["DatasetService"].full_name
MOST_EXAMPLES = 20
_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 0.5


class DatasetServicer(
    HistoryMethods, RuleMethods, QuarantineMethods, ErasureMethods, ExpiryMethods, DatasetServiceServicer
):
    """Datasets and their versions."""

    def __init__(self, place: Workplace, settings: RegistrySettings) -> None:
        """Work there."""
        super().__init__(place)
        self._version_rows = settings.version_rows
        self._publish_seconds = settings.publish_seconds

    async def CreateDataset(
        self, request: pb.CreateDatasetRequest, context: ServicerContext
    ) -> pb.CreateDatasetResponse:
        """Create a dataset."""
        from_rules = request.rules and not request.HasField("schema")
        schema = schema_of(request.rules) if from_rules else request.schema
        _check_new(request, schema)
        rules = checked(request.name, schema, request.rules) if request.rules else None
        rows = request.version_rows or self._version_rows
        async with self._outbox.transaction(actor_of(context)) as tx:
            created = await DatasetStore(tx).create(uuid7(), request.name, schema_id(schema), schema, rows)
            if created is None:
                raise AlreadyExists(f"a dataset called {request.name!r} exists; use it or choose another name")
            if rules:
                put = await put_rules(tx, self._blobs, created, rules, request.rules, "the dataset is new")
                created = replace(created, rules_digest=put.digest)
        return pb.CreateDatasetResponse(dataset=_view(created))

    async def GetDataset(self, request: pb.GetDatasetRequest, context: ServicerContext) -> pb.GetDatasetResponse:
        """Return a dataset by name or id."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            return pb.GetDatasetResponse(dataset=_view(await find(tx, request.dataset)))

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: ServicerContext) -> pb.ListDatasetsResponse:
        """List datasets by name."""
        size = page_size(request.page_size)
        async with self._outbox.transaction(actor_of(context)) as tx:
            found = await DatasetStore(tx).page(last_of(request.page_token), size)
        more = token(found[-1].name) if len(found) == size else ""
        return pb.ListDatasetsResponse(datasets=map(_view, found), next_page_token=more)

    async def GetDatasetVersion(
        self, request: pb.GetDatasetVersionRequest, context: ServicerContext
    ) -> pb.GetDatasetVersionResponse:
        """Return a version; number 0 is the newest."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await find(tx, request.dataset)
            return pb.GetDatasetVersionResponse(version=await version_of(tx, dataset, request.version))

    async def ListDatasetVersions(
        self, request: pb.ListDatasetVersionsRequest, context: ServicerContext
    ) -> pb.ListDatasetVersionsResponse:
        """List versions, newest first."""
        size = page_size(request.page_size)
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await find(tx, request.dataset)
            found = await DatasetStore(tx).versions(dataset.id, number_of(request.page_token), size)
        more = token(str(found[-1].version)) if len(found) == size else ""
        return pb.ListDatasetVersionsResponse(versions=found, next_page_token=more)

    async def PublishVersion(
        self, request: pb.PublishVersionRequest, context: ServicerContext
    ) -> pb.PublishVersionResponse:
        """Close a version that holds the named batches."""
        actor = actor_of(context)
        check_batches(request.batch_ids)
        async with self._outbox.transaction(actor) as tx:
            dataset = await find(tx, request.dataset)
        batches = await self._ingested(actor, dataset, set(request.batch_ids), self._patience(context))
        version = await self._closing.close(actor, dataset.id, lambda _: True)
        if version is None:
            async with self._outbox.transaction(actor) as tx:
                found = await DatasetStore(tx).get(dataset.id)
                if found is None or not found.accepted:
                    raise _nothing_to_publish(dataset, batches)
                version = await version_of(tx, found, 0)
        return pb.PublishVersionResponse(
            version=version,
            quarantined=_codes(batches),
            examples=[example for batch in batches for example in batch.examples][:MOST_EXAMPLES],
        )

    def _patience(self, context: ServicerContext) -> float:
        """Seconds to wait, so that the answer is there before the caller's deadline."""
        remaining = cast("float | None", context.time_remaining())  # its annotation forgets calls without a deadline
        return self._publish_seconds if remaining is None else min(self._publish_seconds, remaining - _ANSWER_SECONDS)

    async def _ingested(self, actor: Actor, dataset: Dataset, wanted: set[str], seconds: float) -> list[Batch]:
        """Return the batches when all are ingested; raises DeadlineExceeded."""
        until = time.monotonic() + seconds
        while True:
            async with self._outbox.transaction(actor) as tx:
                batches = await DatasetStore(tx).batches(dataset.id, sorted(wanted))
            missing = wanted - {batch.batch_id for batch in batches}
            remaining = until - time.monotonic()
            if not missing:
                return batches
            if remaining <= 0:
                raise DeadlineExceeded(
                    f"{len(missing)} of {len(wanted)} batches of dataset {dataset.name!r} were not ingested within "
                    f"{seconds:.0f} s, the first is {min(missing)}: check that they were sent to data.v1 with the "
                    "dataset's id and ask again; what was sent is not lost"
                )
            await self._progress.wait(min(_LOOK_SECONDS, remaining))


def _check_new(request: pb.CreateDatasetRequest, schema: DatasetSchema) -> None:
    problems = list(schema_problems(schema))
    if name := name_problem(request.name):
        problems.insert(0, ("name", name))
    if request.version_rows < 0:
        problems.append(("version_rows", f"expected 0 or more, got {request.version_rows}"))
    if problems:
        text = "; ".join(f"{field}: {description}" for field, description in problems[:10])
        raise InvalidArgument(text, violations=[FieldViolation(*problem) for problem in problems])


def _nothing_to_publish(dataset: Dataset, batches: Sequence[Batch]) -> FailedPrecondition:
    refused = [example for batch in batches for example in batch.examples]
    why = f"every record was refused, for example {refused[0]}" if refused else "send records to data.v1 first"
    return FailedPrecondition(f"dataset {dataset.name!r} has no rows yet: {why}", reason="NO_ROWS")


def _codes(batches: Sequence[Batch]) -> Counter[str]:
    total: Counter[str] = Counter()
    for batch in batches:
        total.update(batch.codes)
    return total


def _view(dataset: Dataset) -> pb.Dataset:
    return pb.Dataset(
        dataset_id=dataset.id,
        name=dataset.name,
        schema_id=dataset.schema_id,
        schema=dataset.schema,
        latest_version=dataset.latest_version,
        accepted=dataset.accepted,
        quarantined=dataset.quarantined,
        created_at=timestamp(dataset.created_at),
        version_rows=dataset.version_rows,
        rules_digest=dataset.rules_digest,
    )
