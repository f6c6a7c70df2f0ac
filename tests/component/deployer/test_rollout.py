"""Whole rollouts by published events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
import pytest
from holdtrue_contracts.deployer.v1.deployment_service_pb2 import (
    CreateDeploymentRequest,
    HoldRolloutRequest,
    ListDeploymentsRequest,
    ListRolloutsRequest,
    ResumeRolloutRequest,
    RollBackRequest,
    RolloutPolicy,
    StartRolloutRequest,
    UpdatePolicyRequest,
)
from holdtrue_contracts.deployer.v1.deployments_pb2 import ROLE_CHALLENGER, ROLE_CHAMPION, ROLE_STANDBY
from holdtrue_contracts.deployer.v1.rollouts_pb2 import (
    ROLLOUT_STATE_COMPLETED,
    ROLLOUT_STATE_HELD,
    ROLLOUT_STATE_ROLLED_BACK,
    ROLLOUT_STATE_STEPPING,
)
from holdtrue_contracts.monitor.v1.alerts_pb2 import SEVERITY_CRITICAL, Alert, AlertRaised
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion, ModelVersionValidated

from tests.component.deployer.conftest import MODEL, NAME, PERSON, QUICK, Platform, refused, until, window

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from holdtrue_contracts.deployer.v1.deployment_service_pb2 import Deployment

FULL = 10_000


def completed(deployment: Deployment) -> bool:
    return deployment.rollout.state == ROLLOUT_STATE_COMPLETED


def converged(platform: Platform) -> Callable[[], Awaitable[bool]]:
    async def told() -> bool:
        now = await platform.get()
        return (now.replicas, now.converged) == (1, 1)

    return told


def rolled_back(deployment: Deployment) -> bool:
    return deployment.rollout.state == ROLLOUT_STATE_ROLLED_BACK


async def deployed(platform: Platform, policy: RolloutPolicy = QUICK) -> Deployment:
    """Version 1 in service."""
    await platform.create(policy)
    await platform.approve(1)
    return await platform.reach(1, ROLLOUT_STATE_COMPLETED)


async def replaced(platform: Platform) -> Deployment:
    """Version 2 in service, after version 1."""
    await deployed(platform)
    await platform.approve(2)
    stepping = await platform.reach(2, ROLLOUT_STATE_STEPPING)
    return await platform.feed(stepping, 1, 2, completed)


async def check_history(platform: Platform) -> None:
    """Generations rise by one, the weights of each sum to 10,000, and every state was published once."""
    states = await platform.events("deployments.v1")
    assert [event.data.generation for event in states] == list(range(1, len(states) + 1))
    assert all(sum(r.weight for r in event.data.revisions) == FULL for event in states)
    assert len({event.data.id_key for event in states}) == 1
    slots = {r.revision: r.slot for event in states for r in event.data.revisions}
    assert len(set(slots.values())) == len(slots)
    rollouts = await platform.events("rollouts.v1")
    assert len(rollouts) == len({(event.data.rollout.rollout_id, event.aggregate_version) for event in rollouts})


async def test_approved_versions_roll_out_by_themselves(platform: Platform) -> None:
    first = await deployed(platform)
    assert [(r.model_version, r.role, r.weight) for r in first.state.revisions] == [(1, ROLE_CHAMPION, FULL)]
    await platform.approve(2)
    stepping = await platform.reach(2, ROLLOUT_STATE_STEPPING)
    shares = {r.model_version: (r.role, r.weight) for r in stepping.state.revisions}
    assert shares == {1: (ROLE_CHAMPION, 8_000), 2: (ROLE_CHALLENGER, 2_000)}
    done = await platform.feed(stepping, 1, 2, completed)
    shares = {r.model_version: (r.role, r.weight) for r in done.state.revisions}
    assert shares == {2: (ROLE_CHAMPION, FULL), 1: (ROLE_STANDBY, 0)}
    await until(converged(platform), "the replica serves what is desired")
    names = [event.type.rsplit(".", 1)[1] for event in await platform.events("rollouts.v1")]
    assert names == [
        *("RolloutStarted", "RolloutCompleted"),
        *("RolloutStarted", "RolloutAdvanced", "RolloutAdvanced", "RolloutCompleted"),
    ]
    await check_history(platform)


async def test_only_approval_starts_a_rollout(platform: Platform) -> None:
    await deployed(platform)
    await platform.publish(
        ModelVersionValidated(model_id=MODEL, model_version=ModelVersion(model_id=MODEL, name=NAME, version=2))
    )
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await platform.stub.StartRollout(StartRolloutRequest(deployment=NAME, model_version=2), metadata=PERSON)
    code, text = refused(error.value)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "version 2 of model fraud is validated; only approved versions" in text
    assert (await platform.get()).rollout.to_version == 1


async def test_a_bad_challenger_is_rolled_back_and_never_tried_again_by_itself(platform: Platform) -> None:
    await deployed(platform)
    await platform.approve(2)
    stepping = await platform.reach(2, ROLLOUT_STATE_STEPPING)
    back = await platform.feed(stepping, 1, 2, rolled_back, failed=400)
    assert [(r.model_version, r.weight) for r in back.state.revisions] == [(1, FULL)]
    assert "errors" in back.rollout.reason
    await platform.approve(2)
    await platform.approve(3)
    await platform.reach(3, ROLLOUT_STATE_STEPPING)
    await check_history(platform)


async def test_a_version_approved_during_a_rollout_follows_it(platform: Platform) -> None:
    await deployed(platform)
    await platform.approve(2)
    stepping = await platform.reach(2, ROLLOUT_STATE_STEPPING)
    await platform.approve(3)
    await platform.feed(stepping, 1, 2, lambda now: now.rollout.to_version == 3)
    await platform.reach(3, ROLLOUT_STATE_STEPPING)


async def test_a_second_rollout_is_refused_while_one_is_open(platform: Platform) -> None:
    await deployed(platform)
    await platform.approve(2)
    await platform.reach(2, ROLLOUT_STATE_STEPPING)
    await platform.approve(3)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await platform.stub.StartRollout(StartRolloutRequest(deployment=NAME, model_version=3), metadata=PERSON)
    code, text = refused(error.value)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "a rollout of version 2 is open on fraud (stepping)" in text


async def test_kill_9_in_the_middle_changes_nothing(platform: Platform) -> None:
    await deployed(platform)
    await platform.approve(2)
    stepping = await platform.reach(2, ROLLOUT_STATE_STEPPING)
    await platform.service.kill()
    for version in (1, 2):
        await platform.evaluate(stepping, version, from_ns=time.time_ns())
    await platform.service.start()
    done = await platform.feed(stepping, 1, 2, completed)
    assert done.state.generation == stepping.state.generation + 2
    await check_history(platform)


async def test_a_person_holds_resumes_and_takes_back(platform: Platform) -> None:
    await deployed(platform)
    await platform.approve(2)
    stepping = await platform.reach(2, ROLLOUT_STATE_STEPPING)
    with pytest.raises(grpc.aio.AioRpcError, match="reason: is missing"):
        await platform.stub.HoldRollout(HoldRolloutRequest(deployment=NAME), metadata=PERSON)
    await platform.stub.HoldRollout(HoldRolloutRequest(deployment=NAME, reason="look"), metadata=PERSON)
    for version in (1, 2):
        await platform.evaluate(stepping, version, from_ns=time.time_ns())
    held = await platform.reach(2, ROLLOUT_STATE_HELD)
    assert held.rollout.reason == "look"
    resumed = await platform.stub.ResumeRollout(ResumeRolloutRequest(deployment=NAME), metadata=PERSON)
    assert resumed.rollout.state == ROLLOUT_STATE_STEPPING
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await platform.stub.ResumeRollout(ResumeRolloutRequest(deployment=NAME), metadata=PERSON)
    assert refused(error.value) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "a rollout that is stepping cannot be resumed",
    )
    await platform.stub.RollBack(RollBackRequest(deployment=NAME, reason="no"), metadata=PERSON)
    await platform.reach(2, ROLLOUT_STATE_ROLLED_BACK)


async def test_rolling_back_after_completion_returns_to_the_version_before(platform: Platform) -> None:
    before = await replaced(platform)
    tried = await platform.stub.RollBack(RollBackRequest(deployment=NAME, dry_run=True), metadata=PERSON)
    assert (tried.rollout.from_version, tried.rollout.to_version) == (2, 1)
    assert (await platform.get()).state == before.state
    answer = await platform.stub.RollBack(RollBackRequest(deployment=NAME, reason="worse"), metadata=PERSON)
    assert answer.rollout.weight == FULL
    done = await platform.reach(1, ROLLOUT_STATE_COMPLETED)
    assert {r.model_version: r.weight for r in done.state.revisions} == {1: FULL, 2: 0}
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await platform.stub.RollBack(RollBackRequest(deployment=NAME, reason="again"), metadata=PERSON)
    assert refused(error.value) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "nothing to return to: version 2 was rolled back itself",
    )
    await check_history(platform)


def alert(deployment: Deployment, version: int) -> AlertRaised:
    revision = next(r.revision for r in deployment.state.revisions if r.model_version == version)
    return AlertRaised(
        alert_key=f"default/fraud/{revision}/performance.realised/",
        alert=Alert(
            alert_id="a1",
            alert_key=f"default/fraud/{revision}/performance.realised/",
            kind="performance.realised",
            severity=SEVERITY_CRITICAL,
            deployment_id=deployment.state.deployment_id,
            revision=revision,
            model_version=version,
            to_ns=time.time_ns(),
            title="realised precision 0.41 below 0.80",
        ),
    )


async def test_a_critical_alert_soon_after_completion_leads_back_once(platform: Platform) -> None:
    now = await replaced(platform)
    await platform.publish(alert(now, 2))
    back = await platform.reach(1, ROLLOUT_STATE_COMPLETED)
    assert "realised precision 0.41" in (await platform.events("rollouts.v1"))[-2].data.rollout.reason
    await platform.publish(alert(back, 1))
    await platform.approve(3)
    await platform.reach(3, ROLLOUT_STATE_STEPPING)


async def test_a_critical_alert_without_a_version_to_return_to_changes_nothing(platform: Platform) -> None:
    now = await deployed(platform)
    await platform.publish(alert(now, 1))
    await platform.approve(2)
    stepping = await platform.reach(2, ROLLOUT_STATE_STEPPING)
    await platform.publish(alert(stepping, 2))
    await platform.reach(2, ROLLOUT_STATE_ROLLED_BACK)


async def test_lists_tell_what_was_done(platform: Platform) -> None:
    await replaced(platform)
    listed = await platform.stub.ListRollouts(ListRolloutsRequest(deployment=NAME), metadata=PERSON)
    assert [history.rollout.to_version for history in listed.rollouts] == [2, 1]
    assert [change.rollout.weight for change in listed.rollouts[0].changes] == [0, 2_000, FULL, FULL]
    judged = listed.rollouts[0].changes[2].rollout.checks
    assert {check.check for check in judged} == {"errors", "latency", "precision_estimated", "precision_realised"}
    page = await platform.stub.ListDeployments(ListDeploymentsRequest(page_size=1), metadata=PERSON)
    assert [item.state.name for item in page.deployments] == [NAME]
    assert page.next_page_token == ""


async def test_wrong_orders_say_what_is_wrong(platform: Platform) -> None:
    await platform.create()
    stub = platform.stub
    policy = RolloutPolicy(steps=[5_000, 1_000], precision_margin=2)
    orders = [
        (stub.CreateDeployment(CreateDeploymentRequest(model_id=MODEL, model_name=NAME), metadata=PERSON), "exists"),
        (stub.CreateDeployment(CreateDeploymentRequest(model_id=MODEL, model_name="a b"), metadata=PERSON), "name"),
        (stub.CreateDeployment(CreateDeploymentRequest(model_name="x"), metadata=PERSON), "model_id"),
        (stub.UpdatePolicy(UpdatePolicyRequest(deployment=NAME, policy=policy), metadata=PERSON), "policy.steps"),
        (
            stub.StartRollout(StartRolloutRequest(deployment="x", model_version=1), metadata=PERSON),
            "there is no deployment",
        ),
        (stub.StartRollout(StartRolloutRequest(deployment=NAME), metadata=PERSON), "model_version"),
        (stub.StartRollout(StartRolloutRequest(deployment=NAME, model_version=9), metadata=PERSON), "version 9"),
        (stub.ListRollouts(ListRolloutsRequest(deployment=NAME, page_size=501), metadata=PERSON), "page_size"),
        (stub.RollBack(RollBackRequest(deployment=NAME, reason="r"), metadata=PERSON), "never had another champion"),
        (stub.HoldRollout(HoldRolloutRequest(deployment=NAME, reason="r"), metadata=PERSON), "no rollout is open"),
    ]
    for call, text in orders:
        with pytest.raises(grpc.aio.AioRpcError, match=text):
            await call


async def test_a_policy_without_auto_waits_for_a_person(platform: Platform) -> None:
    await platform.create(RolloutPolicy(bake_seconds=0.1))
    await platform.approve(1)
    started = await platform.stub.StartRollout(StartRolloutRequest(deployment=NAME, model_version=1), metadata=PERSON)
    assert started.rollout.reason.startswith("asked for by")
    await platform.reach(1, ROLLOUT_STATE_COMPLETED)


async def test_an_evaluation_that_cannot_be_read_is_a_dead_letter_and_stops_nothing(platform: Platform) -> None:
    await deployed(platform)
    await platform.approve(2)
    stepping = await platform.reach(2, ROLLOUT_STATE_STEPPING)
    bad = window(stepping.state.deployment_id, stepping.rollout.to_revision, 2, from_ns=time.time_ns())
    bad.latency.shape[:] = [2]
    await platform.publish(bad)
    await platform.feed(stepping, 1, 2, completed)

    async def buried() -> bool:
        return await platform.count("dead-letters.v1") == 1

    await until(buried, "the dead letter is mirrored")
