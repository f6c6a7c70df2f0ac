"""Deployments and rollouts, as the deployer knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.deployer.v1 import deployment_service_pb2
from holdtrue_contracts.deployer.v1.deployment_service_pb2 import (
    CreateDeploymentRequest,
    Deployment,
    GetDeploymentRequest,
    ListDeploymentsRequest,
    ListRolloutsRequest,
    RollBackRequest,
    RolloutHistory,
    RolloutPolicy,
    StartRolloutRequest,
    UpdatePolicyRequest,
)
from holdtrue_contracts.deployer.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from holdtrue_contracts.deployer.v1.rollouts_pb2 import Rollout, RolloutState
from holdtrue_contracts.registry.v1.model_service_pb2 import ModelVersionState

from holdtrue.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from holdtrue.paging import pages
from holdtrue.waiting import Progress, silent, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdtrue.connection import Connection
    from holdtrue.models import Models

ROLLOUT_SECONDS = 6 * 3600.0
_FULL = 100.0
_SERVING = {RolloutState.ROLLOUT_STATE_COMPLETED, RolloutState.ROLLOUT_STATE_BAKING}
_BACK = {RolloutState.ROLLOUT_STATE_ROLLED_BACK, RolloutState.ROLLOUT_STATE_FAILED}
_NEVER_SERVES = {ModelVersionState.MODEL_VERSION_STATE_REJECTED, ModelVersionState.MODEL_VERSION_STATE_RETIRED}


class Deployments:
    """The deployer's deployments. What it returns are the platform's own messages."""

    def __init__(self, connection: Connection, models: Models) -> None:
        """Use `Client.deployments` instead."""
        self._call = connection.call
        self._models = models
        self._stub = DeploymentServiceStub(connection.channel("deployer", deployment_service_pb2.DESCRIPTOR))

    def list(self) -> Iterator[Deployment]:
        """Yield all deployments by name."""
        return pages(
            lambda token: self._call(self._stub.ListDeployments, ListDeploymentsRequest(page_token=token)),
            lambda page: page.deployments,
        )

    def get(self, name: str) -> Deployment:
        """Return a deployment by name or id; raises NotFound."""
        return self._call(self._stub.GetDeployment, GetDeploymentRequest(deployment=name)).deployment

    def rollouts(self, name: str) -> Sequence[RolloutHistory]:
        """Return the rollouts of a deployment with every change, newest first; raises NotFound."""
        return self._call(self._stub.ListRollouts, ListRolloutsRequest(deployment=name)).rollouts

    def deploy(
        self, model: str, version: int, *, canary: Sequence[float] = (), every: float = 0.0, reason: str = ""
    ) -> Rollout:
        """Begin to roll a version out to the deployment of the model's name, made on first use.

        `canary` are the steps in percent of the traffic, rising; `every` the seconds that a step takes at least; both
        have defaults. Raises NotFound, InvalidArgument, or FailedPrecondition while another rollout is open.
        """
        policy = RolloutPolicy(auto=True, steps=_basis_points(canary), step_seconds=every)
        self._refuse_unapproved(model, version)
        deployment = self._ready(model, policy)
        if deployment.rollout.to_version == version and deployment.rollout.state not in _BACK:
            return deployment.rollout  # the policy has begun it already
        request = StartRolloutRequest(deployment=deployment.state.name, model_version=version, reason=reason)
        return self._call(self._stub.StartRollout, request).rollout

    def wait(self, rollout: Rollout, *, timeout: float = ROLLOUT_SECONDS, progress: Progress = silent) -> Rollout:
        """Wait until a rollout serves all traffic from replicas that are ready.

        Raises FailedPrecondition if it went back, DeadlineExceeded after `timeout` seconds.
        """
        name = f"the rollout of {rollout.deployment_name}@{rollout.to_version}"
        last = until(lambda: self._arrived(rollout, progress), timeout, name)
        if last.state in _BACK:
            raise FailedPrecondition(
                f"{name} was taken back: {last.reason}", hint=f"see it: holdtrue rollout show {rollout.deployment_name}"
            )
        return last

    def rollback(self, name: str, *, to_version: int = 0, reason: str, dry_run: bool = False) -> Rollout:
        """Take the open rollout back, or return to an earlier version; 0: the last known good.

        With `dry_run` only say what would happen. Raises NotFound, FailedPrecondition.
        """
        request = RollBackRequest(deployment=name, to_version=to_version, reason=reason, dry_run=dry_run)
        return self._call(self._stub.RollBack, request).rollout

    def _refuse_unapproved(self, model: str, version: int) -> None:
        """Raise for a version that may not serve, before a deployment is made for it."""
        view = self._models.version(model, version)
        if view.state in _NEVER_SERVES:
            state = ModelVersionState.Name(view.state).removeprefix("MODEL_VERSION_STATE_").lower()
            raise FailedPrecondition(
                f"{model}@{version} is {state}, and only an approved version serves: {view.reason}",
                hint=f"see its versions: holdtrue models show {model}",
            )

    def _ready(self, model: str, policy: RolloutPolicy) -> Deployment:
        """Return the deployment with the policy's steps; made if there is none."""
        try:
            deployment = self.get(model)
        except NotFound:
            return self._create(model, policy)
        if not policy.steps and not policy.step_seconds:
            return deployment
        merged = RolloutPolicy()
        merged.CopyFrom(deployment.policy)
        merged.steps[:] = policy.steps or merged.steps
        merged.step_seconds = policy.step_seconds or merged.step_seconds
        request = UpdatePolicyRequest(deployment=model, policy=merged, reason="deploy with other steps")
        return self._call(self._stub.UpdatePolicy, request).deployment

    def _create(self, name: str, policy: RolloutPolicy) -> Deployment:
        model = self._models.get(name)
        request = CreateDeploymentRequest(
            name=model.name, model_id=model.model_id, model_name=model.name, policy=policy
        )
        try:
            return self._call(self._stub.CreateDeployment, request).deployment
        except AlreadyExists:  # somebody was quicker
            return self._ready(name, policy)

    def _arrived(self, rollout: Rollout, progress: Progress) -> Rollout | None:
        deployment = self.get(rollout.deployment_id)
        now = deployment.rollout
        if now.rollout_id != rollout.rollout_id:
            now = next(
                h.rollout for h in self.rollouts(rollout.deployment_id) if h.rollout.rollout_id == rollout.rollout_id
            )
        progress(f"{_words(now.state)} at {now.weight / 100:g} %" + (f": {now.reason}" if now.reason else ""))
        converged = deployment.replicas > 0 and deployment.converged == deployment.replicas
        return now if now.state in _BACK or (now.state in _SERVING and converged) else None


def _words(state: RolloutState.ValueType) -> str:
    return RolloutState.Name(state).removeprefix("ROLLOUT_STATE_").lower().replace("_", " ")


def _basis_points(canary: Sequence[float]) -> list[int]:
    steps = list(canary)
    if steps != sorted(set(steps)) or any(not 0 < step <= _FULL for step in steps):
        raise InvalidArgument(f"canary: expected rising percentages above 0 and up to 100, got {steps}")
    return [round(step * 100) for step in steps if step < _FULL]
