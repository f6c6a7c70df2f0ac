"""What a person at the desk does: orders by gRPC, waits until things have happened, and listens to alerts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import grpc
from holdtrue_contracts.deployer.v1.deployment_service_pb2 import (
    CreateDeploymentRequest,
    GetDeploymentRequest,
    ListRolloutsRequest,
    RolloutHistory,
    RolloutPolicy,
    StartRolloutRequest,
)
from holdtrue_contracts.deployer.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import (
    AlertNotification,
    EvaluateSpanRequest,
    RevisionHealth,
    SubscribeRequest,
)
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import AlertServiceStub, MonitoringServiceStub
from holdtrue_contracts.registry.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    GetDatasetRequest,
    PublishVersionRequest,
)
from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub
from holdtrue_contracts.registry.v1.model_service_pb2 import (
    CreateModelRequest,
    GetModelVersionRequest,
    ListModelVersionsRequest,
    Model,
    ModelPolicy,
    ModelVersionState,
    ModelVersionView,
)
from holdtrue_contracts.registry.v1.model_service_pb2_grpc import ModelServiceStub
from holdtrue_contracts.registry.v1.quarantine_pb2 import ListQuarantineRequest, RejectedRecord
from holdtrue_contracts.trainer.v1.trainer_service_pb2 import (
    GetRunRequest,
    ListRunsRequest,
    PutRetrainingPolicyRequest,
    RetrainingPolicy,
    Run,
    RunState,
    SubmitRunRequest,
)
from holdtrue_contracts.trainer.v1.trainer_service_pb2_grpc import TrainerServiceStub
from holdtrue_core.rpc import channel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from holdtrue_contracts.deployer.v1.rollouts_pb2 import Rollout
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema, DatasetVersionPublished

_POLL = 0.25
_DECIDED = {
    ModelVersionState.MODEL_VERSION_STATE_APPROVED,
    ModelVersionState.MODEL_VERSION_STATE_REJECTED,
    ModelVersionState.MODEL_VERSION_STATE_REGISTERED,
}
_ENDED = {RunState.RUN_STATE_SUCCEEDED, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED}
_Answer = TypeVar("_Answer")


class NotHappenedError(Exception):
    """Something that the story needs did not happen in its time."""


async def until(look: Callable[[], Awaitable[_Answer | None]], seconds: float, what: str) -> _Answer:
    """Look again and again until there is an answer.

    Raises:
        NotHappenedError: there is none after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while (answer := await look()) is None:
        if time.monotonic() > deadline:
            raise NotHappenedError(f"after {seconds:.0f} s still waiting for {what}")
        await asyncio.sleep(_POLL)
    return answer


@dataclass
class Heard:
    """What a subscriber heard, in order, with the time it came."""

    notifications: list[tuple[float, AlertNotification]] = field(default_factory=list[tuple[float, AlertNotification]])

    def raised(self, kind: str) -> AlertNotification | None:
        """Return the first alert of ``kind`` that was raised, if any."""
        return next((n for _, n in self.notifications if n.change == "raised" and n.alert.kind == kind), None)


class Desk:
    """Orders and questions to the services at ``addresses`` (name → host:port)."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """Connect lazily."""
        self._channels = {name: channel(address) for name, address in addresses.items()}
        self._datasets = DatasetServiceStub(self._channels["registry"])
        self._models = ModelServiceStub(self._channels["registry"])
        self._trainer = TrainerServiceStub(self._channels["trainer"])
        self._deployer = DeploymentServiceStub(self._channels["deployer"])
        self._monitoring = MonitoringServiceStub(self._channels["monitor"])
        self._alerts = AlertServiceStub(self._channels["monitor"])
        self.heard = Heard()

    async def close(self) -> None:
        """Hang up."""
        await asyncio.gather(*(c.close() for c in self._channels.values()))

    async def create_dataset(self, name: str, schema: DatasetSchema, rules: str) -> str:
        """Create a dataset with rules (YAML); its id."""
        answer = await self._datasets.CreateDataset(CreateDatasetRequest(name=name, schema=schema, rules=rules))
        return answer.dataset.dataset_id

    async def rejects(self, name: str) -> list[RejectedRecord]:
        """Return what was refused, with the original bytes."""
        found: list[RejectedRecord] = []
        token = ""
        while True:
            request = ListQuarantineRequest(dataset=name, with_bytes=True, page_token=token)
            page = await self._datasets.ListQuarantine(request)
            found += page.records
            token = page.next_page_token
            if not token:
                return found

    async def published(self, name: str, rows: int, seconds: float) -> DatasetVersionPublished:
        """Close a version and return it when it has all ``rows``."""

        async def look() -> bool | None:
            dataset = (await self._datasets.GetDataset(GetDatasetRequest(dataset=name))).dataset
            return True if dataset.accepted >= rows else None

        await until(look, seconds, f"{rows:,} rows in dataset {name}")
        return (await self._datasets.PublishVersion(PublishVersionRequest(dataset=name))).version

    async def create_model(self, name: str, min_precision: float) -> Model:
        """Create a model whose versions must reach ``min_precision``."""
        policy = ModelPolicy(min_precision=min_precision)
        return (await self._models.CreateModel(CreateModelRequest(name=name, policy=policy))).model

    async def submit(self, model: Model, dataset: str, recipe: str, seed: int) -> Run:
        """Queue a training run."""
        request = SubmitRunRequest(
            model_id=model.model_id, model_name=model.name, dataset=dataset, recipe=recipe, seed=seed
        )
        return (await self._trainer.SubmitRun(request)).run

    async def ended(self, run_id: str, seconds: float) -> Run:
        """Return the run when it has ended."""

        async def look() -> Run | None:
            run = (await self._trainer.GetRun(GetRunRequest(run_id=run_id))).run
            return run if run.state in _ENDED else None

        return await until(look, seconds, f"the end of run {run_id}")

    async def runs(self, model: Model) -> list[Run]:
        """Return the model's runs, newest first."""
        return list((await self._trainer.ListRuns(ListRunsRequest(model_id=model.model_id))).runs)

    async def judged(self, model: Model, run_id: str, seconds: float) -> ModelVersionView:
        """Return the version that ``run_id`` made when its gate has decided."""

        async def look() -> ModelVersionView | None:
            versions = (await self._models.ListModelVersions(ListModelVersionsRequest(model=model.name))).versions
            mine = (v for v in versions if v.model_version.run_id == run_id and v.state in _DECIDED)
            return next(mine, None)

        return await until(look, seconds, f"the gate's verdict on run {run_id}")

    async def versions(self, model: Model) -> list[ModelVersionView]:
        """Return the model's versions, oldest first."""
        answer = await self._models.ListModelVersions(ListModelVersionsRequest(model=model.name))
        return sorted(answer.versions, key=lambda view: view.model_version.version)

    async def version(self, model: Model, number: int) -> ModelVersionView:
        """Return one version."""
        request = GetModelVersionRequest(model=model.name, version=number)
        return (await self._models.GetModelVersion(request)).version

    async def set_retraining(self, policy: RetrainingPolicy) -> None:
        """Set when the model is retrained by itself."""
        await self._trainer.PutRetrainingPolicy(PutRetrainingPolicyRequest(policy=policy))

    async def deploy(self, model: Model, version: int, policy: RolloutPolicy) -> None:
        """Create the model's deployment and roll ``version`` out."""
        await self._deployer.CreateDeployment(
            CreateDeploymentRequest(name=model.name, model_id=model.model_id, model_name=model.name, policy=policy)
        )

        async def start() -> Rollout | None:
            """Start it as soon as the deployer has heard of the version, unless it has started it by itself."""
            request = StartRolloutRequest(deployment=model.name, model_version=version, reason="first version")
            deployment = (await self._deployer.GetDeployment(GetDeploymentRequest(deployment=model.name))).deployment
            if deployment.HasField("rollout"):
                return deployment.rollout
            try:
                return (await self._deployer.StartRollout(request)).rollout
            except grpc.aio.AioRpcError as error:
                if error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}:
                    return None
                raise

        await until(start, 20, "the first rollout")

    async def rollouts(self, model: Model) -> list[RolloutHistory]:
        """Return the rollouts of the model's deployment, newest first."""
        return list((await self._deployer.ListRollouts(ListRolloutsRequest(deployment=model.name))).rollouts)

    async def rollout(self, model: Model, version: int) -> RolloutHistory | None:
        """Return the latest rollout of ``version``, if any."""
        history = await self.rollouts(model)
        return next((h for h in history if h.rollout.to_version == version), None)

    async def figures(self, model: Model, from_ns: int, to_ns: int) -> RevisionHealth | None:
        """Return the monitor's figures over a span, all revisions together."""
        request = EvaluateSpanRequest(deployment=model.name, from_ns=from_ns, to_ns=to_ns)
        answer = await self._monitoring.EvaluateSpan(request)
        return next((r for r in answer.revisions if not r.revision), None)

    async def listen(self, tell: Callable[[AlertNotification], None]) -> None:
        """Hear every alert until cancelled; goes on where it was when the monitor comes back."""
        token = "0"  # noqa: S105 - from the beginning
        while True:
            try:
                async for notification in self._alerts.Subscribe(SubscribeRequest(resume_token=token)):
                    token = notification.resume_token or token
                    if notification.change != "keep_alive":
                        self.heard.notifications.append((time.time(), notification))
                        tell(notification)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(_POLL)
