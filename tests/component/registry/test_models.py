"""From a run to a version that may be deployed, or not, on real servers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from holdtrue_contracts.actor import service_actor
from holdtrue_contracts.columns import pack
from holdtrue_contracts.dead_letter import DeadLetter
from holdtrue_contracts.deployer.v1.deployments_pb2 import (
    ROLE_CHALLENGER,
    ROLE_CHAMPION,
    DeploymentState,
    Revision,
)
from holdtrue_contracts.registry.v1 import model_service_pb2 as pb
from holdtrue_contracts.registry.v1.models_pb2 import (
    ModelVersionApproved,
    ModelVersionRegistered,
    ModelVersionRejected,
    ModelVersionValidated,
)
from holdtrue_contracts.trainer.v1.runs_pb2 import Evaluation, RunSpec, RunSucceeded
from holdtrue_core.errors import NotFound, from_rpc_error
from holdtrue_core.ids import uuid7

from tests.component.registry.harness import error_of

if TYPE_CHECKING:
    from tests.component.registry.harness import Registry, Topics

TRAINER = service_actor("trainer")
VERSION_EVENTS = (ModelVersionRegistered, ModelVersionValidated, ModelVersionApproved, ModelVersionRejected)


async def create(registry: Registry, **policy: Any) -> pb.Model:
    request = pb.CreateModelRequest(name=f"fraud-{uuid7()}", policy=pb.ModelPolicy(**policy))
    return (await registry.models.CreateModel(request)).model


def succeeded(model: pb.Model, tp: int, fp: int, **more: Any) -> RunSucceeded:
    spec = RunSpec(
        run_id=uuid7(),
        model_id=model.model_id,
        model_name=model.name,
        dataset_id="d",
        dataset_name="payments",
        dataset_version=3,
        alert_ids=[f"alert-of-{model.name}"],
    )
    candidate = Evaluation(n=tp + fp + 100, tp=tp, fp=fp, fn=10, tn=90)
    return RunSucceeded(model_id=model.model_id, spec=spec, candidate=candidate, manifest_digest="m", **more)


async def judged(registry: Registry, run: RunSucceeded) -> pb.ModelVersionView:
    request = pb.GetModelVersionRequest(model=run.spec.model_name, run_id=run.spec.run_id)
    async with asyncio.timeout(30):
        while True:
            try:
                return (await registry.models.GetModelVersion(request)).version
            except grpc.RpcError as error:
                if not isinstance(from_rpc_error(error), NotFound):
                    raise
                await asyncio.sleep(0.05)


async def events(broker: Topics, model: pb.Model, count: int) -> list[Any]:
    async with asyncio.timeout(30):
        while True:
            found = [e.data for e in await broker.events("model-versions.v1") if e.subject == model.model_id]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_a_good_run_is_registered_validated_and_approved(registry: Registry, broker: Topics) -> None:
    model = await create(registry, min_precision=0.85)
    run = succeeded(model, 95, 5, artifact_digest="a", kind="onnx", threshold=0.4)
    await broker.send_event(run, TRAINER)

    view = await judged(registry, run)

    assert view.state == pb.MODEL_VERSION_STATE_APPROVED
    assert (view.model_version.version, view.model_version.run_id) == (1, run.spec.run_id)
    assert (view.model_version.threshold, view.model_version.min_precision) == (0.4, 0.85)
    told = await events(broker, model, 3)
    assert [type(event) for event in told] == [ModelVersionRegistered, ModelVersionValidated, ModelVersionApproved]
    assert {event.model_version.SerializeToString() for event in told} == {view.model_version.SerializeToString()}
    evidence = json.loads(registry.blobs.get(told[1].evidence_digest))
    assert evidence["verdict"] == "validated"
    assert list(told[1].checks) == list(view.checks)


async def test_a_bad_run_is_rejected_with_the_reason(registry: Registry, broker: Topics) -> None:
    model = await create(registry, min_precision=0.85)
    run = succeeded(model, 50, 50)
    await broker.send_event(run, TRAINER)

    view = await judged(registry, run)

    assert view.state == pb.MODEL_VERSION_STATE_REJECTED
    assert view.reason == "floor: precision 0.500 [0.419, 0.581] against a floor of 0.85"
    told = await events(broker, model, 2)
    assert [type(event) for event in told] == [ModelVersionRegistered, ModelVersionRejected]
    assert told[1].reason == view.reason


async def test_an_undecided_gate_changes_nothing(registry: Registry, broker: Topics) -> None:
    model = await create(registry, min_precision=0.85)
    run = succeeded(model, 88, 12)
    await broker.send_event(run, TRAINER)
    marker = succeeded(model, 95, 5)
    await broker.send_event(marker, TRAINER)

    await judged(registry, marker)
    view = await judged(registry, run)

    assert view.state == pb.MODEL_VERSION_STATE_REGISTERED
    assert view.checks[0].needed_n > 0
    told = await events(broker, model, 4)
    assert [type(event) for event in told if event.model_version.version == 1] == [ModelVersionRegistered]


async def test_a_worse_candidate_than_the_champion_is_rejected(registry: Registry, broker: Topics) -> None:
    model = await create(registry, min_precision=0.5)
    cells = pack(np.array([400, 50, 150, 350, 20, 480, 0, 0], np.int64))
    run = succeeded(model, 350, 150, cells=cells, champion=Evaluation(model_version=1, tp=480, fp=20))
    await broker.send_event(run, TRAINER)

    view = await judged(registry, run)

    assert view.state == pb.MODEL_VERSION_STATE_REJECTED
    assert [check.check for check in view.checks] == ["floor", "precision"]


async def test_where_people_must_approve_the_gate_only_validates(registry: Registry, broker: Topics) -> None:
    model = await create(registry, min_precision=0.85, approvals=1)
    run = succeeded(model, 95, 5)
    await broker.send_event(run, TRAINER)

    assert (await judged(registry, run)).state == pb.MODEL_VERSION_STATE_VALIDATED


async def test_a_run_makes_one_version_however_often_it_is_told(registry: Registry, broker: Topics) -> None:
    model = await create(registry)
    run, last = succeeded(model, 95, 5), succeeded(model, 95, 5)
    for message in (run, run, run, last):
        await broker.send_event(message, TRAINER)  # each with an event id of its own

    assert (await judged(registry, last)).model_version.version == 2

    versions = await registry.models.ListModelVersions(pb.ListModelVersionsRequest(model=model.name))
    assert [view.model_version.version for view in versions.versions] == [2, 1]
    assert len(await events(broker, model, 6)) == 6


async def test_runs_that_cannot_be_judged_become_dead_letters(registry: Registry, broker: Topics) -> None:
    model = await create(registry)
    nonsense = succeeded(model, 95, 5, cells=pack(np.array([1, 2, 3], np.int64)))
    orphan = succeeded(pb.Model(model_id=uuid7(), name="gone"), 95, 5)
    for message in (nonsense, orphan):
        await broker.send_event(message, TRAINER)

    wanted = {nonsense.SerializeToString(): "bad_evidence", orphan.SerializeToString(): "unknown_model"}
    found: dict[bytes | None, str] = {}
    async with asyncio.timeout(30):
        while not wanted.keys() <= found.keys():
            letters = await broker.records("dead-letters.v1")
            found = {r.value: DeadLetter.from_record(r.key, r.value, r.headers).reason for r in letters}
    assert wanted.items() <= found.items()


async def test_roles_and_lineage_follow_the_deployments(registry: Registry, broker: Topics) -> None:
    model = await create(registry)
    runs = [succeeded(model, 95, 5) for _ in range(2)]
    for run in runs:
        await broker.send_event(run, TRAINER)
        await judged(registry, run)
    state = DeploymentState(
        deployment_id=uuid7(), name=f"live-{model.name}", model_id=model.model_id, model_name=model.name, generation=2
    )
    state.revisions.extend(
        [
            Revision(revision="a", model_version=1, role=ROLE_CHAMPION),
            Revision(revision="b", model_version=2, role=ROLE_CHALLENGER),
        ]
    )
    late = DeploymentState()
    late.CopyFrom(state)
    late.generation = 1
    late.revisions[1].role = ROLE_CHAMPION
    for message in (state, late):
        await broker.send_event(message, service_actor("deployer"))

    role = ""
    async with asyncio.timeout(30):
        while role != "challenger":
            role = (await judged(registry, runs[1])).role
    assert (await judged(registry, runs[0])).role == "champion"
    answer = await registry.models.GetLineage(pb.GetLineageRequest(model=model.name, version=1))
    edges = {(e.source.kind, e.source.id, e.relation, e.target.kind, e.target.id) for e in answer.edges}
    run_id = runs[0].spec.run_id
    assert edges == {
        ("dataset_version", "payments@3", "trained_on", "run", run_id),
        ("alert", f"alert-of-{model.name}", "triggered", "run", run_id),
        ("run", run_id, "produced", "model_version", f"{model.name}@1"),
        ("model_version", f"{model.name}@1", "deployed_in", "deployment", state.name),
    }


async def test_models_are_listed_and_found_by_name_and_id(registry: Registry) -> None:
    models = [await create(registry, min_precision=0.9) for _ in range(3)]

    names, page = list[str](), pb.ListModelsResponse()
    while not names or page.next_page_token:
        page = await registry.models.ListModels(pb.ListModelsRequest(page_size=2, page_token=page.next_page_token))
        names += [model.name for model in page.models]
    by_id = await registry.models.GetModel(pb.GetModelRequest(model=models[0].model_id))

    assert names == sorted(names)
    assert {model.name for model in models} <= set(names)
    assert by_id.model == models[0]
    assert by_id.model.policy.min_precision == 0.9


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (pb.ModelPolicy(min_precision=1.5), "policy.min_precision: expected at least 0 and less than 1, got 1.5"),
        (pb.ModelPolicy(approvals=3), "policy.approvals: expected 0, 1 or 2, got 3"),
    ],
)
async def test_a_wrong_policy_is_explained(registry: Registry, policy: pb.ModelPolicy, text: str) -> None:
    error = await error_of(registry.models.CreateModel(pb.CreateModelRequest(name="m", policy=policy)))

    assert text in str(error)


async def test_unknown_models_and_versions_are_explained(registry: Registry) -> None:
    model = await create(registry)

    assert "exists" in str(await error_of(registry.models.CreateModel(pb.CreateModelRequest(name=model.name))))
    assert "no model 'x'" in str(await error_of(registry.models.GetModel(pb.GetModelRequest(model="x"))))
    request = pb.GetModelVersionRequest(model=model.name)
    assert "has no version 1; it has none yet" in str(await error_of(registry.models.GetModelVersion(request)))
