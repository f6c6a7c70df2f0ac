"""DeploymentService over gRPC: translate, command, translate."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from holdtrue_contracts.deployer.v1 import deployment_service_pb2 as pb
from holdtrue_contracts.deployer.v1.deployment_service_pb2_grpc import DeploymentServiceServicer
from holdtrue_contracts.deployer.v1.deployments_pb2 import LOG_MODE_ASYNC
from holdtrue_core.errors import FailedPrecondition, FieldViolation, InvalidArgument
from holdtrue_core.rpc import actor_of, timestamp

from holdtrue_deployer import commands, messages
from holdtrue_deployer.domain.policy import Policy, problems
from holdtrue_deployer.domain.rollout import HoldAsked, ResumeAsked, Rollout
from holdtrue_deployer.store import DeploymentStore, RolloutStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from holdtrue_contracts.deployer.v1.rollouts_pb2 import Rollout as RolloutMessage
    from holdtrue_core.clock import Clock
    from holdtrue_core.rpc import ServicerContext
    from holdtrue_events.outbox import Outbox
    from holdtrue_events.outbox import Transaction as PublishingTransaction
    from holdtrue_storage.database import Transaction

    from holdtrue_deployer.domain.deployment import Deployment
    from holdtrue_deployer.workers import Replicas

SERVICE = pb.DESCRIPTOR.services_by_name["DeploymentService"].full_name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DEFAULT_PAGE = 100
_MAX_PAGE = 500
_MAX_REASON = 2_000
_RETRY_SECONDS = 0.1


class DeploymentServicer(DeploymentServiceServicer):
    """The verbs of deployments and rollouts."""

    def __init__(self, outbox: Outbox, replicas: Replicas, clock: Clock, version_wait_seconds: float) -> None:
        """Keep what it works with."""
        self._outbox = outbox
        self._replicas = replicas
        self._clock = clock
        self._patience = version_wait_seconds

    async def CreateDeployment(  # noqa: N802
        self, request: pb.CreateDeploymentRequest, context: ServicerContext
    ) -> pb.CreateDeploymentResponse:
        """Create a deployment."""
        name = request.name or request.model_name
        for field, value in (("name", name), ("model_name", request.model_name)):
            _check_name(field, value)
        if not request.model_id:
            raise InvalidArgument.of("model_id", "is missing; ask the registry for the model's id")
        deployment = commands.new_deployment(
            name=name,
            model_id=request.model_id,
            model_name=request.model_name,
            policy=_policy(request.policy),
            log_mode=request.log_mode or LOG_MODE_ASYNC,
            now=self._clock.now(),
        )
        async with self._outbox.transaction(actor_of(context)) as tx:
            created = await commands.create(tx, deployment)
            return pb.CreateDeploymentResponse(deployment=await self._view(tx, created))

    async def UpdatePolicy(  # noqa: N802
        self, request: pb.UpdatePolicyRequest, context: ServicerContext
    ) -> pb.UpdatePolicyResponse:
        """Set the policy of the next rollouts."""
        policy = _policy(request.policy)
        async with self._outbox.transaction(actor_of(context)) as tx:
            changed = await commands.set_policy(tx, request.deployment, policy)
            return pb.UpdatePolicyResponse(deployment=await self._view(tx, changed))

    async def GetDeployment(  # noqa: N802
        self, request: pb.GetDeploymentRequest, context: ServicerContext
    ) -> pb.GetDeploymentResponse:
        """Return one deployment."""
        async with self._reading(context) as tx:
            stored = await DeploymentStore(tx).get(request.deployment)
            return pb.GetDeploymentResponse(deployment=await self._view(tx, stored.item))

    async def ListDeployments(  # noqa: N802
        self, request: pb.ListDeploymentsRequest, context: ServicerContext
    ) -> pb.ListDeploymentsResponse:
        """Return a page of deployments; the token is the last name."""
        size = _page_size(request.page_size)
        async with self._reading(context) as tx:
            found = await DeploymentStore(tx).page(request.page_token, size + 1)
            views = [await self._view(tx, item) for item in found[:size]]
        token = found[size - 1].name if len(found) > size else ""
        return pb.ListDeploymentsResponse(deployments=views, next_page_token=token)

    async def ListRollouts(  # noqa: N802
        self, request: pb.ListRolloutsRequest, context: ServicerContext
    ) -> pb.ListRolloutsResponse:
        """Return the latest rollouts with their steps."""
        async with self._reading(context) as tx:
            deployment = (await DeploymentStore(tx).get(request.deployment)).item
            found = await RolloutStore(tx).latest(deployment.deployment_id, _page_size(request.page_size))
            return pb.ListRolloutsResponse(rollouts=[await _history(tx, item, deployment) for item in found])

    async def StartRollout(  # noqa: N802
        self, request: pb.StartRolloutRequest, context: ServicerContext
    ) -> pb.StartRolloutResponse:
        """Roll a version out. Waits for the registry's word: it comes as an event, just after the caller heard it."""
        if request.model_version < 1:
            raise InvalidArgument.of("model_version", f"must be at least 1, got {request.model_version}")
        give_up = self._clock.monotonic() + self._patience
        while True:
            try:
                async with self._outbox.transaction(actor_of(context)) as tx:
                    reason = _reason(request.reason) or f"asked for by {tx.actor.name}"
                    rollout, deployment = await commands.start(
                        tx, request.deployment, request.model_version, reason, self._clock.now()
                    )
                return pb.StartRolloutResponse(rollout=messages.rollout(rollout, deployment))
            except (commands.VersionUnknown, commands.NotApproved):
                if self._clock.monotonic() >= give_up:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    async def HoldRollout(  # noqa: N802
        self, request: pb.HoldRolloutRequest, context: ServicerContext
    ) -> pb.HoldRolloutResponse:
        """Hold the open rollout."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            asked = HoldAsked(tx.actor.name, _needed_reason(request.reason))
            return pb.HoldRolloutResponse(rollout=await self._order(tx, request.deployment, asked))

    async def ResumeRollout(  # noqa: N802
        self, request: pb.ResumeRolloutRequest, context: ServicerContext
    ) -> pb.ResumeRolloutResponse:
        """Let the held rollout go on."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            asked = ResumeAsked(tx.actor.name, _reason(request.reason) or f"resumed by {tx.actor.name}")
            return pb.ResumeRolloutResponse(rollout=await self._order(tx, request.deployment, asked))

    async def RollBack(  # noqa: N802
        self, request: pb.RollBackRequest, context: ServicerContext
    ) -> pb.RollBackResponse:
        """Take the open rollout back, or return to an earlier version."""
        if request.to_version < 0:
            raise InvalidArgument.of("to_version", f"must not be negative, got {request.to_version}")
        reason = _reason(request.reason) if request.dry_run else _needed_reason(request.reason)
        async with self._outbox.transaction(actor_of(context)) as tx:
            rollout, deployment = await commands.roll_back(
                tx, request.deployment, request.to_version, reason, self._clock.now(), dry_run=request.dry_run
            )
            return pb.RollBackResponse(rollout=messages.rollout(rollout, deployment))

    @asynccontextmanager
    async def _reading(self, context: ServicerContext) -> AsyncGenerator[Transaction]:
        """Read one moment: between two statements of a plain transaction a rollout may go on."""
        async with self._outbox.database.transaction(actor_of(context)) as tx:
            await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield tx

    async def _order(self, tx: PublishingTransaction, name: str, asked: HoldAsked | ResumeAsked) -> RolloutMessage:
        stored = await DeploymentStore(tx).get(name, lock=True)
        rollout = await commands.signal(tx, stored, asked, self._clock.now())
        if rollout is None:
            raise FailedPrecondition(f"no rollout is open on {name}", reason="NO_ROLLOUT")
        return messages.rollout(rollout, stored.item)

    async def _view(self, tx: Transaction, item: Deployment) -> pb.Deployment:
        latest = await RolloutStore(tx).latest(item.deployment_id, 1)
        last = latest[0] if latest else None
        convergence = self._replicas.convergence(tx.actor.tenant, item, last, self._clock.now())
        return messages.deployment(item, last, convergence)


async def _history(tx: Transaction, item: Rollout, deployment: Deployment) -> pb.RolloutHistory:
    changes = await RolloutStore(tx).changes(item.rollout_id)
    return pb.RolloutHistory(
        rollout=messages.rollout(item, deployment),
        changes=[pb.RolloutChange(rollout=change.rollout, at=timestamp(change.at)) for change in changes],
    )


def _policy(message: pb.RolloutPolicy) -> Policy:
    policy = messages.policy(message)
    violations = [FieldViolation(f"policy.{field}", text) for field, text in problems(policy)]
    if violations:
        text = "; ".join(f"{v.field}: {v.description}" for v in violations)
        raise InvalidArgument(text, violations=violations)
    return policy


def _check_name(field: str, value: str) -> None:
    if not _NAME.fullmatch(value):
        rule = "letters, digits, dot, dash, underscore, first a letter or digit, at most 128"
        raise InvalidArgument.of(field, f"must be {rule}; got {value[:200]!r}")


def _page_size(asked: int) -> int:
    if not 0 <= asked <= _MAX_PAGE:
        raise InvalidArgument.of("page_size", f"must be from 0 to {_MAX_PAGE}, got {asked}")
    return asked or _DEFAULT_PAGE


def _reason(text: str) -> str:
    if len(text) > _MAX_REASON:
        raise InvalidArgument.of("reason", f"at most {_MAX_REASON} characters, got {len(text)}")
    return text


def _needed_reason(text: str) -> str:
    if not text.strip():
        raise InvalidArgument.of("reason", "is missing; say why, it is kept with the rollout")
    return _reason(text)
