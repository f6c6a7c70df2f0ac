"""ModelService."""
# ruff: noqa: N802  methods are named by the protocol

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1 import model_service_pb2 as pb
from holdtrue_contracts.registry.v1.model_service_pb2_grpc import ModelServiceServicer
from holdtrue_core.errors import AlreadyExists, FieldViolation, InvalidArgument, NotFound
from holdtrue_core.ids import uuid7
from holdtrue_core.rpc import actor_of, timestamp

from holdtrue_registry.domain.gate import Policy, State, policy_problems
from holdtrue_registry.domain.lineage import Edge, Node, model_version_node
from holdtrue_registry.domain.names import name_problem
from holdtrue_registry.rpc.paging import last_of, number_of, page_size, token
from holdtrue_registry.store.lineage import LineageStore
from holdtrue_registry.store.models import ModelStore, StoredModel, StoredVersion

if TYPE_CHECKING:
    from holdtrue_core.rpc import ServicerContext
    from holdtrue_events.outbox import Outbox
    from holdtrue_storage.database import Transaction

SERVICE = pb.DESCRIPTOR.services_by_name["ModelService"].full_name
_STATES = {state: pb.ModelVersionState.Value(f"MODEL_VERSION_STATE_{state.name}") for state in State}


class ModelServicer(ModelServiceServicer):
    """Models and their versions."""

    def __init__(self, outbox: Outbox) -> None:
        """Work on the outbox's database."""
        self._outbox = outbox

    async def CreateModel(self, request: pb.CreateModelRequest, context: ServicerContext) -> pb.CreateModelResponse:
        """Create a model."""
        policy = _checked_policy(request)
        async with self._outbox.transaction(actor_of(context)) as tx:
            created = await ModelStore(tx).create(uuid7(), request.name, policy)
        if created is None:
            raise AlreadyExists(f"a model called {request.name!r} exists; use it or choose another name")
        return pb.CreateModelResponse(model=_view(created))

    async def GetModel(self, request: pb.GetModelRequest, context: ServicerContext) -> pb.GetModelResponse:
        """Return a model by name or id."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            return pb.GetModelResponse(model=_view(await _find(tx, request.model)))

    async def ListModels(self, request: pb.ListModelsRequest, context: ServicerContext) -> pb.ListModelsResponse:
        """List models by name."""
        size = page_size(request.page_size)
        async with self._outbox.transaction(actor_of(context)) as tx:
            found = await ModelStore(tx).page(last_of(request.page_token), size)
        more = token(found[-1].name) if len(found) == size else ""
        return pb.ListModelsResponse(models=map(_view, found), next_page_token=more)

    async def GetModelVersion(
        self, request: pb.GetModelVersionRequest, context: ServicerContext
    ) -> pb.GetModelVersionResponse:
        """Return a version by number (0: the newest) or by the run that made it."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            if request.run_id:
                version = await _of_run(tx, request)
            else:
                version = await _version(tx, await _find(tx, request.model), request.version)
        return pb.GetModelVersionResponse(version=_version_view(version))

    async def ListModelVersions(
        self, request: pb.ListModelVersionsRequest, context: ServicerContext
    ) -> pb.ListModelVersionsResponse:
        """List versions, newest first."""
        size = page_size(request.page_size)
        async with self._outbox.transaction(actor_of(context)) as tx:
            model = await _find(tx, request.model)
            found = await ModelStore(tx).versions(model.id, number_of(request.page_token), size)
        more = token(str(found[-1].model_version.version)) if len(found) == size else ""
        return pb.ListModelVersionsResponse(versions=map(_version_view, found), next_page_token=more)

    async def GetLineage(self, request: pb.GetLineageRequest, context: ServicerContext) -> pb.GetLineageResponse:
        """Return what a version came of and what came of it."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            version = await _version(tx, await _find(tx, request.model), request.version)
            identity = version.model_version
            edges = await LineageStore(tx).around(model_version_node(identity.name, identity.version))
        return pb.GetLineageResponse(edges=map(_edge_view, edges))


def _checked_policy(request: pb.CreateModelRequest) -> Policy:
    policy = Policy(request.policy.min_precision, request.policy.precision_margin, request.policy.approvals)
    problems = [(f"policy.{field}", text) for field, text in policy_problems(policy)]
    if name := name_problem(request.name):
        problems.insert(0, ("name", name))
    if problems:
        text = "; ".join(f"{field}: {description}" for field, description in problems)
        raise InvalidArgument(text, violations=[FieldViolation(*problem) for problem in problems])
    return policy


async def _find(tx: Transaction, name_or_id: str) -> StoredModel:
    model = await ModelStore(tx).find(name_or_id)
    if model is None:
        raise NotFound(f"there is no model {name_or_id[:200]!r}", hint="holdtrue models list")
    return model


async def _version(tx: Transaction, model: StoredModel, number: int) -> StoredVersion:
    version = await ModelStore(tx).version(model.id, number or model.latest_version)
    if version is None:
        known = f"its newest is {model.latest_version}" if model.latest_version else "it has none yet"
        raise NotFound(f"model {model.name!r} has no version {number or 1}; {known}")
    return version


async def _of_run(tx: Transaction, request: pb.GetModelVersionRequest) -> StoredVersion:
    version = await ModelStore(tx).of_run(request.run_id)
    if version is None or request.model not in ("", version.model_version.name, version.model_version.model_id):
        raise NotFound(f"no version of model {request.model[:200]!r} was made by run {request.run_id[:100]!r}, yet")
    return version


def _view(model: StoredModel) -> pb.Model:
    policy = model.policy
    return pb.Model(
        model_id=model.id,
        name=model.name,
        policy=pb.ModelPolicy(
            min_precision=policy.min_precision, precision_margin=policy.margin, approvals=policy.approvals
        ),
        latest_version=model.latest_version,
        created_at=timestamp(model.created_at),
    )


def _version_view(version: StoredVersion) -> pb.ModelVersionView:
    return pb.ModelVersionView(
        model_version=version.model_version,
        state=_STATES[version.state],
        reason=version.reason,
        checks=version.checks,
        registered_at=timestamp(version.created_at),
        role=version.role,
    )


def _edge_view(edge: Edge) -> pb.LineageEdge:
    return pb.LineageEdge(source=_node_view(edge.source), target=_node_view(edge.target), relation=edge.relation)


def _node_view(node: Node) -> pb.LineageNode:
    return pb.LineageNode(kind=node.kind, id=node.id)
