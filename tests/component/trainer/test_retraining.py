"""Alerts, labels, rollouts and time: when a run starts by itself, and on which rows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_contracts.columns import unpack
from holdtrue_contracts.deployer.v1.rollouts_pb2 import Rollout, RolloutCompleted, RolloutStarted
from holdtrue_contracts.monitor.v1.alerts_pb2 import Alert, AlertResolved
from holdtrue_contracts.registry.v1.datasets_pb2 import DATASET_VERSION_STATUS_SUSPECT, DatasetVersionCleared
from holdtrue_contracts.registry.v1.models_pb2 import ModelVersion, ModelVersionRejected
from holdtrue_contracts.trainer.v1 import trainer_service_pb2 as pb
from holdtrue_contracts.trainer.v1.runs_pb2 import TRIGGER_KIND_PRECISION

from .conftest import BEGIN, DEPLOYMENT, MODEL, SECOND, until

if TYPE_CHECKING:
    from .conftest import Platform

DONE = (pb.RUN_STATE_SUCCEEDED, pb.RUN_STATE_FAILED)


async def serve_first_version(platform: Platform, **policy: float) -> pb.Run:
    """Train on 1,000 rows and deploy that as version 1, under a policy."""
    await platform.publish(platform.data.grow(1_000))
    submitted = await platform.submit()
    run = await platform.reach(submitted.spec.run_id, *DONE)
    assert run.state == pb.RUN_STATE_SUCCEEDED, run.message
    await platform.put_policy(**policy)
    await platform.deploy(1, run.result)
    return run


async def automatic(platform: Platform, number: int = 1) -> pb.Run:
    """Wait for the nth run that started by itself, and its end."""

    async def there() -> pb.Run | None:
        runs = [run for run in await platform.runs() if run.spec.trigger == TRIGGER_KIND_PRECISION]
        return runs[-number] if len(runs) >= number and runs[-number].state in DONE else None

    return await until(there, f"automatic run {number} has ended")


async def test_concept_drift_waits_for_labels_then_trains_on_the_new_pattern(platform: Platform) -> None:
    first = await serve_first_version(platform)
    await platform.alarm(1, first_bad_row=1_000)
    assert await platform.decision("waiting for labels") == "waiting for labels: 0 of 500"
    await platform.publish(platform.data.grow(312, flipped=True))
    assert await platform.decision("312") == "waiting for labels: 312 of 500"
    assert len(await platform.runs()) == 1
    third = platform.data.grow(500, flipped=True)
    third.status = DATASET_VERSION_STATUS_SUSPECT
    await platform.publish(third)
    await platform.decision("the newest dataset version is suspect")
    assert len(await platform.runs()) == 1
    await platform.publish(DatasetVersionCleared(dataset_id=third.dataset_id, name=third.name, version=3))

    run = await automatic(platform)
    assert run.state == pb.RUN_STATE_SUCCEEDED, run.message
    spec = run.spec
    assert (spec.dataset_version, list(spec.alert_ids), spec.recipe) == (3, ["alert-1"], first.spec.recipe)
    assert (spec.from_ns, run.result.train_from_ns) == ((BEGIN + 1_000) * SECOND,) * 2
    assert run.result.candidate.n + run.result.train_rows == 812
    champion = run.result.champion
    assert (champion.model_version, champion.n) == (1, run.result.candidate.n)
    assert champion.metrics["precision"] < 0.3
    assert run.result.candidate.metrics["precision"] > 0.8
    cells = unpack(run.result.cells, np.int64, 1)
    assert cells.sum() == champion.n
    assert cells[[5, 7]].sum() == champion.tp


async def test_one_alert_starts_one_run_and_a_promotion_answers_it(platform: Platform) -> None:
    await serve_first_version(platform)
    await platform.publish(platform.data.grow(600, flipped=True))
    await platform.alarm(1, first_bad_row=1_000)
    run = await automatic(platform)
    rollout = Rollout(rollout_id="r1", deployment_id=DEPLOYMENT, model_id=MODEL, from_version=1, to_version=2)
    await platform.publish(RolloutStarted(deployment_id=DEPLOYMENT, rollout=rollout))
    await platform.decision("a rollout is open")
    await asyncio.sleep(1.5)  # longer than the cool-down: nothing may happen, so there is nothing to wait for
    assert len(await platform.runs()) == 2
    await platform.deploy(2, run.result, generation=2)
    await platform.publish(RolloutCompleted(deployment_id=DEPLOYMENT, rollout=rollout))
    await platform.decision("no trigger")
    await platform.alarm(1, first_bad_row=1_000)  # a late word about what no longer serves
    await platform.alarm(2, first_bad_row=1_000, alert_id="alert-2")
    assert list((await automatic(platform, 2)).spec.alert_ids) == ["alert-2"]


async def test_cool_down_is_kept_and_doubled_and_time_alone_ends_it(platform: Platform) -> None:
    await serve_first_version(platform, cool_down_seconds=2)
    await platform.publish(platform.data.grow(600, flipped=True))
    version = ModelVersion(model_id=MODEL, version=2)
    await platform.publish(ModelVersionRejected(model_id=MODEL, model_version=version))
    await platform.alarm(1, first_bad_row=1_000)
    await platform.decision("cool-down: until")
    before = list(await platform.events("model-versions.v1"))[-1].time
    run = await automatic(platform)
    assert (run.requested_at.ToDatetime(before.tzinfo) - before).total_seconds() >= 4


async def test_an_alert_that_is_over_starts_nothing(platform: Platform) -> None:
    await serve_first_version(platform)
    await platform.alarm(1, first_bad_row=1_000)
    await platform.decision("waiting for labels")
    alert = Alert(
        alert_id="alert-1", alert_key=f"default/{DEPLOYMENT}/revision-1/performance.realised/", model_id=MODEL
    )
    await platform.publish(AlertResolved(alert_key=alert.alert_key, alert=alert))
    await platform.decision("no trigger")
    await platform.publish(platform.data.grow(600, flipped=True))
    await platform.decision("no trigger")
    assert len(await platform.runs()) == 1


async def test_decision_survives_kill_9(platform: Platform) -> None:
    await serve_first_version(platform, cool_down_seconds=3)
    await platform.publish(platform.data.grow(600, flipped=True))
    await platform.alarm(1, first_bad_row=1_000)
    await platform.decision("cool-down")
    await platform.service.kill()
    await platform.service.start()
    assert (await automatic(platform)).state == pb.RUN_STATE_SUCCEEDED
