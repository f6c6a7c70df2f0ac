"""TrainerService over gRPC: translate, command, translate."""

from __future__ import annotations

import asyncio
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.datasets_pb2 import (
    DATASET_VERSION_STATUS_PUBLISHED,
    DATASET_VERSION_STATUS_RETRACTED,
    DATASET_VERSION_STATUS_SUSPECT,
)
from holdtrue_contracts.trainer.v1 import trainer_service_pb2 as pb
from holdtrue_contracts.trainer.v1.runs_pb2 import RunSpec, TriggerKind
from holdtrue_contracts.trainer.v1.trainer_service_pb2_grpc import TrainerServiceServicer
from holdtrue_core.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound, ResourceExhausted
from holdtrue_core.ids import uuid7
from holdtrue_core.rpc import actor_of

from holdtrue_trainer import commands, messages, uploads
from holdtrue_trainer.domain import recipe as recipes
from holdtrue_trainer.domain.run import Run, seed_of
from holdtrue_trainer.store import DatasetStore, RetrainingStore, RunStore, UploadStore
from holdtrue_trainer.store.runs import After

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdtrue_contracts.actor import Actor
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished
    from holdtrue_core.clock import Clock
    from holdtrue_core.rpc import ServicerContext
    from holdtrue_events.outbox import Outbox, Transaction
    from holdtrue_storage.blobs import Blobs

    from holdtrue_trainer.domain.policy import Policy

SERVICE = pb.DESCRIPTOR.services_by_name["TrainerService"].full_name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DEFAULT_PAGE = 100
_MAX_PAGE = 500
_MAX_REASON = 2_000
_MAX_SEED = 1 << 31
_UPLOADS = 2
"""Models that are received at the same time."""
_MAX_COOL_DOWN = 365 * 86_400.0
_RETRY_SECONDS = 0.1


class TrainerServicer(TrainerServiceServicer):
    """The verbs of runs and of retraining."""

    def __init__(
        self, outbox: Outbox, blobs: Blobs, clock: Clock, default: Policy, dataset_wait_seconds: float
    ) -> None:
        """Keep what it works with; `default` is the policy of models that have none of their own."""
        self._outbox = outbox
        self._blobs = blobs
        self._uploads = asyncio.Semaphore(_UPLOADS)
        self._clock = clock
        self._default = default
        self._patience = dataset_wait_seconds

    async def SubmitRun(self, request: pb.SubmitRunRequest, context: ServicerContext) -> pb.SubmitRunResponse:  # noqa: N802
        """Queue a run, or only say what would be queued."""
        _check_submission(request)
        recipe = _recipe(request.recipe)
        await self._check_artifact(actor_of(context), recipes.parse(recipe).artifact)
        dataset = await self._dataset(actor_of(context), request.dataset, request.dataset_version)
        run_id = uuid7()
        spec = RunSpec(
            run_id=run_id,
            model_id=request.model_id,
            model_name=request.model_name,
            dataset_id=dataset.dataset_id,
            dataset_name=dataset.name,
            dataset_version=dataset.version,
            recipe=recipe,
            seed=request.seed or recipes.parse(recipe).seed or seed_of(run_id),
            trigger=TriggerKind.TRIGGER_KIND_MANUAL,
        )
        run = Run(spec, self._clock.now())
        if request.dry_run:
            return pb.SubmitRunResponse(run=messages.run(run))
        async with self._outbox.transaction(actor_of(context)) as tx:
            run = await commands.request(tx, run, self._default)
        return pb.SubmitRunResponse(run=messages.run(run))

    async def UploadModel(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.UploadModelRequest], context: ServicerContext
    ) -> pb.UploadModelResponse:
        """Keep a model file; what cannot be brought along is refused at its first bytes."""
        actor = actor_of(context)
        if self._uploads.locked():
            raise ResourceExhausted(f"{_UPLOADS} models are being uploaded already; try again soon", reason="BUSY")
        async with self._uploads:
            digest, size = await uploads.receive((request.data async for request in request_iterator), self._blobs)
        async with self._outbox.transaction(actor) as tx:
            await UploadStore(tx).add(digest, size)
        return pb.UploadModelResponse(digest=digest, size=size)

    async def GetRun(self, request: pb.GetRunRequest, context: ServicerContext) -> pb.GetRunResponse:  # noqa: N802
        """Return one run."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            return pb.GetRunResponse(run=messages.run(await _find(tx, request.run_id)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: ServicerContext) -> pb.ListRunsResponse:  # noqa: N802
        """Return runs, newest first; the token is the time and the id of the last one."""
        size, after = _page_size(request.page_size), _after(request.page_token)
        async with self._outbox.transaction(actor_of(context)) as tx:
            found = await RunStore(tx).page(request.model_id, after, size + 1)
        token = f"{found[size - 1].requested_at.isoformat()} {found[size - 1].id}" if len(found) > size else ""
        return pb.ListRunsResponse(runs=[messages.run(item) for item in found[:size]], next_page_token=token)

    async def CancelRun(self, request: pb.CancelRunRequest, context: ServicerContext) -> pb.CancelRunResponse:  # noqa: N802
        """End an open run; its process is stopped within seconds."""
        if len(request.reason) > _MAX_REASON:
            raise InvalidArgument.of("reason", f"at most {_MAX_REASON} characters, got {len(request.reason)}")
        async with self._outbox.transaction(actor_of(context)) as tx:
            found = await _find(tx, request.run_id)
            reason = request.reason or f"cancelled by {tx.actor.name}"
            run = await commands.cancel(tx, found.id, reason, self._clock.now())
        return pb.CancelRunResponse(run=messages.run(run))

    async def PutRetrainingPolicy(  # noqa: N802
        self, request: pb.PutRetrainingPolicyRequest, context: ServicerContext
    ) -> pb.PutRetrainingPolicyResponse:
        """Replace the policy of a model."""
        _check_policy(request.policy)
        wanted = messages.policy_of(request.policy)
        async with self._outbox.transaction(actor_of(context)) as tx:
            await commands.remember(tx, request.policy.model_id, lambda memory: memory.with_policy(wanted))
        return pb.PutRetrainingPolicyResponse(policy=messages.policy(request.policy.model_id, wanted))

    async def GetRetrainingPolicy(  # noqa: N802
        self, request: pb.GetRetrainingPolicyRequest, context: ServicerContext
    ) -> pb.GetRetrainingPolicyResponse:
        """Return the policy of a model and what it last decided."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            found = await RetrainingStore(tx).get(request.model_id)
        if found is None:
            raise NotFound(
                f"model {request.model_id!r} has no retraining policy here: train it once, or set a policy",
                reason="POLICY_UNKNOWN",
            )
        memory, last_decision = found
        return pb.GetRetrainingPolicyResponse(
            policy=messages.policy(request.model_id, memory.policy), last_decision=last_decision
        )

    async def _check_artifact(self, actor: Actor, digest: str) -> None:
        if not digest:
            return
        async with self._outbox.transaction(actor) as tx:
            known = await UploadStore(tx).has(digest)
        if not known:
            raise InvalidArgument.of("recipe", f"artifact: no model file {digest} was uploaded; upload it first")

    async def _dataset(self, actor: Actor, name: str, version: int) -> DatasetVersionPublished:
        """Return a dataset version that may be trained on. Waits for the registry's word, which comes as an event."""
        give_up = self._clock.monotonic() + self._patience
        while True:
            async with self._outbox.transaction(actor) as tx:
                found = await DatasetStore(tx).find(name, version)
                if found is not None:
                    return _trainable(found)
                if self._clock.monotonic() >= give_up:
                    raise await _unknown_dataset(tx, name, version)
            await asyncio.sleep(_RETRY_SECONDS)


_UNUSABLE = {
    DATASET_VERSION_STATUS_SUSPECT: ("suspect", "see what is not as expected, and clear it if its rows are right"),
    DATASET_VERSION_STATUS_RETRACTED: ("retracted", "train on another version"),
}


def _trainable(dataset: DatasetVersionPublished) -> DatasetVersionPublished:
    if dataset.status != DATASET_VERSION_STATUS_PUBLISHED:
        state, do = _UNUSABLE.get(dataset.status, ("not usable", "train on another version"))
        raise FailedPrecondition(
            f"version {dataset.version} of dataset {dataset.name!r} is {state}: {do}",
            reason="DATASET_NOT_USABLE",
            hint=f"holdtrue datasets show {dataset.name}@{dataset.version}",
        )
    return dataset


async def _unknown_dataset(tx: Transaction, name: str, version: int) -> NotFound:
    store = DatasetStore(tx)
    newest = await store.find(name)
    if newest is not None:
        return NotFound(
            f"dataset {name!r} has no version {version}; its newest is {newest.version}",
            reason="DATASET_VERSION_UNKNOWN",
        )
    known = ", ".join(await store.names()) or "none"
    return NotFound(
        f"there is no dataset {name!r} with a published version; known are: {known}. Publish rows first",
        reason="DATASET_UNKNOWN",
    )


async def _find(tx: Transaction, prefix: str) -> Run:
    if not prefix:
        raise InvalidArgument.of("run_id", "is missing; give the id of a run, or the beginning of one")
    found = await RunStore(tx).starting_with(prefix)
    if not found:
        raise NotFound(f"there is no run {prefix[:80]!r}; list the runs to see their ids", reason="RUN_UNKNOWN")
    if len(found) > 1:
        raise InvalidArgument.of("run_id", f"several runs begin with {prefix[:80]!r}; give more of the id")
    return found[0]


def _recipe(recipe: str) -> str:
    try:
        text = recipes.resolve(recipe)
        recipes.parse(text)
    except recipes.RecipeError as error:
        raise InvalidArgument.of("recipe", str(error)) from error
    return text


def _check_submission(request: pb.SubmitRunRequest) -> None:
    faults = {
        "model_id": "" if request.model_id or request.dry_run else "is missing; ask the registry for the model's id",
        "model_name": _name_fault(request.model_name),
        "dataset": "is missing; give the name or the id of a dataset" if not request.dataset else "",
        "dataset_version": _range_fault(request.dataset_version, 0, math.inf),
        "seed": _range_fault(request.seed, 0, _MAX_SEED - 1),
    }
    _refuse(faults)


def _check_policy(policy: pb.RetrainingPolicy) -> None:
    faults = {
        "policy.model_id": "is missing; ask the registry for the model's id" if not policy.model_id else "",
        "policy.dataset_id": "is missing; give the id of the dataset to retrain on" if not policy.dataset_id else "",
        "policy.cool_down_seconds": _range_fault(policy.cool_down_seconds, 0, _MAX_COOL_DOWN),
        "policy.runs_per_day": _range_fault(policy.runs_per_day, 0, 1_000),
        "policy.min_new_labels": _range_fault(policy.min_new_labels, 0, math.inf),
        "policy.last_rows": _range_fault(policy.last_rows, 0, math.inf),
    }
    _refuse(faults)


def _refuse(faults: dict[str, str]) -> None:
    violations = [FieldViolation(field, text) for field, text in faults.items() if text]
    if violations:
        raise InvalidArgument("; ".join(f"{v.field}: {v.description}" for v in violations), violations=violations)


def _name_fault(name: str) -> str:
    rule = "letters, digits, dot, dash, underscore, first a letter or digit, at most 128"
    return "" if _NAME.fullmatch(name) else f"must be {rule}; got {name[:200]!r}"


def _range_fault(value: float, least: float, most: float) -> str:
    bound = "" if most == math.inf else f" to {most:,.12g}"
    return "" if least <= value <= most else f"must be from {least:g}{bound}, got {value:,.12g}"


def _page_size(asked: int) -> int:
    if not 0 <= asked <= _MAX_PAGE:
        raise InvalidArgument.of("page_size", f"must be from 0 to {_MAX_PAGE}, got {asked}")
    return asked or _DEFAULT_PAGE


def _after(token: str) -> After | None:
    if not token:
        return None
    at, _, run_id = token.partition(" ")
    try:
        return After(datetime.fromisoformat(at), run_id)
    except ValueError as error:
        raise InvalidArgument.of("page_token", "is none of ours; use the token of the page before") from error
