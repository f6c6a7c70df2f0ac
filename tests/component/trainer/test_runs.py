"""Runs asked for by people: from request to blobs and events, and everything that may come in between."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import psutil
import pytest
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    DatasetVersionExpired,
    DatasetVersionRetracted,
    ErasedVersion,
    SubjectErased,
)
from holdtrue_contracts.trainer.v1 import trainer_service_pb2 as pb
from holdtrue_contracts.trainer.v1.runs_pb2 import (
    RUN_FAILURE_INFRASTRUCTURE,
    RUN_FAILURE_USER_ERROR,
    TRIGGER_KIND_MANUAL,
)
from holdtrue_models import Manifest, load_onnx

from tests.logistic import logistic

from .conftest import BEGIN, BOOSTED, MODEL, PERSON, SECOND, SLOW, until

if TYPE_CHECKING:
    from .conftest import Platform

ENDED = (pb.RUN_STATE_SUCCEEDED, pb.RUN_STATE_FAILED, pb.RUN_STATE_CANCELLED)


async def test_a_run_ends_with_a_model_in_the_blobs_and_its_events(platform: Platform) -> None:
    version = platform.data.grow(1_000)
    await platform.publish(version)
    changed = ErasedVersion(version=1, digest="e" * 64, rows=999)
    await platform.publish(SubjectErased(dataset_id=version.dataset_id, erasure_epoch=1, versions=[changed]))
    await platform.publish(platform.data.grow(1))
    await platform.submit(dataset_version=2, dry_run=True)  # once this is known, so is what came before
    queued = await platform.submit(seed=5, dataset_version=1)
    assert queued.state == pb.RUN_STATE_QUEUED
    assert queued.spec.trigger == TRIGGER_KIND_MANUAL
    run = await platform.reach(queued.spec.run_id, *ENDED)
    assert run.state == pb.RUN_STATE_SUCCEEDED, run.message
    assert (run.attempts, run.stage, run.result.spec.seed) == (1, "", 5)
    assert (run.result.candidate.n, run.result.train_rows) == (300, 700)
    assert run.result.holdout_from_ns == (BEGIN + 700) * SECOND
    assert run.result.candidate.metrics["auc"] > 0.9
    assert not run.result.HasField("champion")

    manifest_bytes = platform.blobs.get(run.result.manifest_digest)
    manifest = Manifest.from_bytes(manifest_bytes)
    assert manifest.digest == run.result.manifest_digest
    assert manifest.pins["dataset"] == "e" * 64, "of what it has since the erasure"
    assert manifest.artifact.digest == run.result.artifact_digest
    assert hashlib.sha256(platform.blobs.get(manifest.reference_profile)).hexdigest() == manifest.reference_profile
    model = load_onnx(platform.blobs.get(run.result.artifact_digest), manifest)
    assert model.signature.names == ("amount", "hour")

    names = await until(lambda: _names(platform, 3), "three events")
    assert names == ["RunRequested", "RunStarted", "RunSucceeded"]
    assert (await platform.events())[2].data == run.result


async def _names(platform: Platform, least: int) -> list[str]:
    names = await platform.names()
    return names if len(names) >= least else []


async def test_a_version_that_is_about_to_be_known_is_waited_for(platform: Platform) -> None:
    version = platform.data.grow(600)
    asked = asyncio.create_task(platform.submit(dataset_version=1))
    await asyncio.sleep(0.3)
    await platform.publish(version)
    assert (await asked).spec.dataset_version == 1


async def test_nothing_trains_on_a_version_that_was_retracted_or_is_forgotten(platform: Platform) -> None:
    first, second, third = (platform.data.grow(300) for _ in range(3))
    await platform.publish(first)
    await platform.publish(DatasetVersionRetracted(dataset_id=first.dataset_id, name=first.name, version=1))
    await platform.publish(second)
    await platform.publish(DatasetVersionExpired(dataset_id=first.dataset_id, name=first.name, version=2))
    await platform.publish(third)  # once this is known, so is what came before
    assert (await platform.submit(dataset_version=3)).spec.dataset_version == 3

    with pytest.raises(grpc.aio.AioRpcError, match="version 1 of dataset 'payments' is retracted: train on") as caught:
        await platform.submit(dataset_version=1)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(grpc.aio.AioRpcError, match="has no version 2; its newest is 3"):
        await platform.submit(dataset_version=2)


WRONG: list[tuple[dict[str, Any], grpc.StatusCode, str]] = [
    ({"dataset": "paymnts"}, grpc.StatusCode.NOT_FOUND, "no dataset 'paymnts'.*known are: payments"),
    ({"dataset_version": 7}, grpc.StatusCode.NOT_FOUND, "no version 7; its newest is 1"),
    ({"recipe": "logstic"}, grpc.StatusCode.INVALID_ARGUMENT, "recipe: there is no recipe named 'logstic'"),
    ({"recipe": "estimator: X"}, grpc.StatusCode.INVALID_ARGUMENT, "'X' is not one that can be trained"),
    ({"model_name": "a/b"}, grpc.StatusCode.INVALID_ARGUMENT, "model_name: must be letters"),
    ({"model_id": "", "seed": -1}, grpc.StatusCode.INVALID_ARGUMENT, "model_id: is missing.*; seed: must be"),
]


async def test_wrong_requests_say_what_where_and_what_to_do(platform: Platform) -> None:
    await platform.publish(platform.data.grow(100))
    for changes, code, words in WRONG:
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await platform.submit(**changes)
        assert caught.value.code() is code
    assert await platform.runs() == []


async def test_only_one_run_of_a_model_is_open_and_a_cancelled_one_stops_at_once(platform: Platform) -> None:
    await platform.publish(platform.data.grow(3_000))
    first = await platform.submit(recipe=SLOW)
    await platform.reach(first.spec.run_id, pb.RUN_STATE_RUNNING, stage="training")
    with pytest.raises(grpc.aio.AioRpcError, match=f"run {first.spec.run_id} of model 'fraud' is still running"):
        await platform.submit()
    request = pb.CancelRunRequest(run_id=first.spec.run_id[:13], reason="wrong data")
    cancelled = (await platform.stub.CancelRun(request, metadata=PERSON)).run
    assert (cancelled.state, cancelled.message) == (pb.RUN_STATE_CANCELLED, "wrong data")
    with pytest.raises(grpc.aio.AioRpcError, match="only an open run can be cancelled"):
        await platform.stub.CancelRun(request, metadata=PERSON)
    await until(lambda: _childless(platform), "the child is gone")
    second = await platform.submit()
    assert (await platform.reach(second.spec.run_id, *ENDED)).state == pb.RUN_STATE_SUCCEEDED
    names = await until(lambda: _names(platform, 6), "six events")
    assert names == ["RunRequested", "RunStarted", "RunCancelled", "RunRequested", "RunStarted", "RunSucceeded"]


async def _childless(platform: Platform) -> bool:
    assert platform.service.process
    return not psutil.Process(platform.service.process.pid).children(recursive=True)


async def _trains(platform: Platform) -> bool:
    return not await _childless(platform)


async def test_a_run_survives_kill_9_of_the_trainer_and_ends_once(platform: Platform) -> None:
    await platform.publish(platform.data.grow(3_000))
    run = await platform.submit(recipe=BOOSTED)
    await platform.reach(run.spec.run_id, pb.RUN_STATE_RUNNING, stage="training")
    assert platform.service.process
    children = psutil.Process(platform.service.process.pid).children(recursive=True)
    assert children
    await platform.service.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    await platform.service.start()
    ended = await platform.reach(run.spec.run_id, *ENDED)
    assert (ended.state, ended.attempts) == (pb.RUN_STATE_SUCCEEDED, 2)
    names = await until(lambda: _names(platform, 4), "four events")
    assert names == ["RunRequested", "RunStarted", "RunStarted", "RunSucceeded"]


async def test_a_trainer_that_is_stopped_gives_its_run_back(platform: Platform) -> None:
    await platform.publish(platform.data.grow(3_000))
    run = await platform.submit(recipe=SLOW)
    await platform.reach(run.spec.run_id, pb.RUN_STATE_RUNNING, stage="training")
    assert await platform.service.stop() == 0
    await platform.service.start()
    await until(lambda: _trains(platform), "the run is trained again")
    assert (await platform.get(run.spec.run_id)).state == pb.RUN_STATE_RUNNING
    await platform.cancel(run.spec.run_id)


async def test_a_run_that_cannot_succeed_fails_once_with_its_reason(platform: Platform) -> None:
    await platform.publish(platform.data.grow(400))
    naive = "estimator: GaussianNB\ncolumns: [price]"
    run = await platform.reach((await platform.submit(recipe=naive)).spec.run_id, *ENDED)
    assert (run.state, run.failure, run.attempts) == (pb.RUN_STATE_FAILED, RUN_FAILURE_USER_ERROR, 1)
    assert "['price'] are not inputs of the dataset; it has ['amount', 'hour']" in run.message
    unlucky = "estimator: GaussianNB\npositive_class: 7"
    run = await platform.reach((await platform.submit(recipe=unlucky)).spec.run_id, *ENDED)
    assert (run.failure, run.message) == (
        RUN_FAILURE_USER_ERROR,
        "positive_class: 7 is not a label; 'y' holds [0, 1]",
    )


async def test_what_is_missing_around_a_run_is_tried_again_and_then_said(platform: Platform) -> None:
    version = platform.data.grow(400)
    version.dataset_id = "01890000-0000-7000-8000-000000000000"  # no table of that name
    await platform.publish(version)
    run = await platform.reach((await platform.submit()).spec.run_id, *ENDED)
    assert (run.state, run.failure, run.attempts) == (pb.RUN_STATE_FAILED, RUN_FAILURE_INFRASTRUCTURE, 3)
    assert "has it received any rows?" in run.message


async def test_runs_are_listed_newest_first_by_pages(platform: Platform) -> None:
    await platform.publish(platform.data.grow(200))
    made: list[str] = []
    for number in range(3):
        model: dict[str, Any] = {"model_id": f"model-{number}", "model_name": f"m{number}"}
        made.append((await platform.submit(**model)).spec.run_id)
    found: list[str] = []
    token = ""
    for _ in range(3):
        request = pb.ListRunsRequest(page_size=1, page_token=token)
        page = await platform.stub.ListRuns(request, metadata=PERSON)
        found += [run.spec.run_id for run in page.runs]
        token = page.next_page_token
    assert (found, token) == (made[::-1], "")
    only = await platform.stub.ListRuns(pb.ListRunsRequest(model_id="model-1"), metadata=PERSON)
    assert [run.spec.run_id for run in only.runs] == [made[1]]
    with pytest.raises(grpc.aio.AioRpcError, match="page_token: is none of ours"):
        await platform.stub.ListRuns(pb.ListRunsRequest(page_token="x"), metadata=PERSON)  # noqa: S106
    with pytest.raises(grpc.aio.AioRpcError, match="there is no run 'zz'"):
        await platform.get("zz")
    for run_id in made:
        await platform.cancel(run_id)


async def test_policy_is_the_service_default_until_one_is_put(platform: Platform) -> None:
    request = pb.GetRetrainingPolicyRequest(model_id=MODEL)
    with pytest.raises(grpc.aio.AioRpcError, match="train it once, or set a policy"):
        await platform.stub.GetRetrainingPolicy(request, metadata=PERSON)
    await platform.publish(platform.data.grow(200))
    run = await platform.submit()
    policy = (await platform.stub.GetRetrainingPolicy(request, metadata=PERSON)).policy
    assert (policy.dataset_id, policy.on_precision, policy.on_drift) == (platform.data.dataset_id, True, False)
    assert (policy.cool_down_seconds, policy.runs_per_day, policy.min_new_labels) == (6 * 3600, 4, 500)
    await platform.put_policy(cool_down_seconds=5, on_drift=True)
    policy = (await platform.stub.GetRetrainingPolicy(request, metadata=PERSON)).policy
    assert (policy.cool_down_seconds, policy.on_drift, policy.runs_per_day) == (5, True, 10)
    with pytest.raises(grpc.aio.AioRpcError, match=r"policy\.cool_down_seconds: must be from 0"):
        await platform.put_policy(cool_down_seconds=-1)
    await platform.cancel(run.spec.run_id)


async def upload(platform: Platform, data: bytes, piece: int = 50) -> pb.UploadModelResponse:
    pieces = (pb.UploadModelRequest(data=data[i : i + piece]) for i in range(0, len(data), piece))
    return await platform.stub.UploadModel(pieces, metadata=PERSON)


async def test_a_model_from_elsewhere_is_judged_and_never_retrained(platform: Platform) -> None:
    await platform.publish(platform.data.grow(1_000))
    data = logistic([4, 0])
    kept = await upload(platform, data)
    assert (kept.digest, kept.size) == (hashlib.sha256(data).hexdigest(), len(data))
    submitted = await platform.submit(recipe=f"artifact: {kept.digest}")
    run = await platform.reach(submitted.spec.run_id, *ENDED)
    assert run.state == pb.RUN_STATE_SUCCEEDED, run.message
    assert (run.result.kind, run.result.candidate.n, run.result.train_rows) == ("onnx", 300, 0)
    assert run.result.candidate.metrics["auc"] > 0.9
    manifest = Manifest.from_bytes(platform.blobs.get(run.result.manifest_digest))
    model = load_onnx(platform.blobs.get(run.result.artifact_digest), manifest)
    assert model.run(np.array([[1, 12]], np.float32))[0] == pytest.approx([0.018, 0.982], abs=1e-3)

    await platform.put_policy()
    await platform.deploy(1, run.result)
    await platform.publish(platform.data.grow(600, flipped=True))
    await platform.alarm(1, first_bad_row=1_000)
    assert await platform.decision("brought along") == "the model was brought along: bring a newer one"
    assert len(await platform.runs()) == 1


async def test_what_is_no_onnx_or_was_never_uploaded_is_refused_at_the_door(platform: Platform) -> None:
    await platform.publish(platform.data.grow(100))
    for data, words in (
        (pickle.dumps([1]), "data: the file is a pickle, which runs code when it is loaded"),
        (b"PK\x03\x04", "data: the file is skops; bring a model along as one of onnx, ubj, lightgbm"),
        (b"", "data: the file is empty"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await upload(platform, data)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError, match=f"artifact: no model file {'a' * 64} was uploaded"):
        await platform.submit(recipe=f"artifact: {'a' * 64}")
    assert await platform.runs() == []
