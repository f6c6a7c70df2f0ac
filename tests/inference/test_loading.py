"""From a revision to a warm model: tried out in a process of its own first, and served there if it is no ONNX."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from holdtrue_contracts.deployer.v1.deployments_pb2 import Revision
from holdtrue_contracts.inference.v1.replicas_pb2 import LoadState
from holdtrue_inference.domain.errors import NotServing
from holdtrue_inference.loading import load
from holdtrue_inference.store.cache import Artifacts
from holdtrue_models import File, MalformedModel, Manifest, UnsafeModel, UnsupportedModel, WorkerAway
from holdtrue_models.worker import WorkerModel
from holdtrue_storage.blobs import DirectoryBlobs
from msgspec.structs import replace
from structlog.testing import capture_logs

from tests.inference.lanes import Desk, scores
from tests.inference.models import WIDTH, histograms, made, store, trees
from tests.inference.replicas import World
from tests.inference.states import revision, state

ROWS = np.zeros((3, WIDTH), np.float32)


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "blobs")


@pytest.fixture
def artifacts(tmp_path: Path, blobs: DirectoryBlobs) -> Artifacts:
    return Artifacts(tmp_path / "cache", blobs)


def named(blobs: DirectoryBlobs, manifest: Manifest, data: bytes) -> Revision:
    return Revision(
        revision="r",
        manifest_digest=blobs.put(manifest.to_bytes()),
        artifact_digest=blobs.put(data),
        kind=manifest.kind,
    )


def test_onnx_is_tried_out_once_and_then_runs_here(blobs: DirectoryBlobs, artifacts: Artifacts) -> None:
    manifest, _ = made(0)
    wanted = store(blobs)
    assert not artifacts.tried(manifest.digest)
    for _ in range(2):
        warm = load(wanted, artifacts)
        assert warm.inline
        assert warm.failed() == ""
        assert warm.model.run(ROWS).shape == (3, 2)
        assert artifacts.tried(manifest.digest)


def test_what_fails_the_trial_never_comes_here(
    blobs: DirectoryBlobs, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, data = made()
    broken = data[:-9]
    digest = blobs.put(broken)
    wrong = replace(manifest, files={**manifest.files, "onnx": File(digest, len(broken))})

    def never(*_: Any) -> None:
        raise AssertionError("a model came into the server that had not passed its trial")

    monkeypatch.setattr("holdtrue_inference.loading.load_onnx", never)
    with pytest.raises((MalformedModel, UnsafeModel)):
        load(named(blobs, wrong, broken), artifacts)
    assert not artifacts.tried(wrong.digest)


def test_kind_that_differs_from_the_manifest_is_refused(blobs: DirectoryBlobs, artifacts: Artifacts) -> None:
    wanted = store(blobs)
    wanted.kind = "skops"
    with pytest.raises(MalformedModel, match="serves skops"):
        load(wanted, artifacts)
    wanted.kind = "pickle"
    with pytest.raises(UnsupportedModel, match="'pickle'"):
        load(wanted, artifacts)


def test_skops_answers_from_its_own_process(blobs: DirectoryBlobs, artifacts: Artifacts) -> None:
    manifest, data = histograms()
    warm = load(named(blobs, manifest, data), artifacts)
    assert not warm.inline, "the event loop waits for no other process"
    expected = manifest.check_rows.expected.array()
    np.testing.assert_allclose(warm.model.run(manifest.check_rows.inputs.array()), expected, atol=1e-6)
    assert isinstance(warm.model, WorkerModel)
    worker = warm.model._worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerAway):
        warm.model.run(ROWS)
    assert warm.failed() == ""
    warm.model.close()


def test_trees_of_xgboost_answer_from_a_process_that_has_no_xgboost(
    blobs: DirectoryBlobs, artifacts: Artifacts
) -> None:
    manifest, data = trees()
    warm = load(named(blobs, manifest, data), artifacts)
    assert not warm.inline
    assert isinstance(warm.model, WorkerModel)
    worker = warm.model._worker
    assert worker is not None
    assert "xgboost" not in Path(f"/proc/{worker.pid}/maps").read_text()
    expected = manifest.check_rows.expected.array()
    np.testing.assert_allclose(warm.model.run(manifest.check_rows.inputs.array()), expected, atol=1e-6)
    warm.model.close()


async def test_batch_that_meets_a_death_is_unavailable_and_the_next_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk()

    def dying(_: Any) -> Any:
        raise WorkerAway("SIGSEGV at /secret/place")

    with monkeypatch.context() as patch, capture_logs():
        patch.setattr(desk.model, "run", dying)
        with pytest.raises(NotServing, match="try again") as refused:
            await desk.ask(0.25)
    assert "secret" not in str(refused.value)
    assert scores(await desk.ask(0.25)) == [0.25]
    desk.close()


async def test_model_that_failed_for_good_is_announced(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.live()
    world.replica.desire(state(1, revision("a", 10_000)))
    await world.until(("fraud", 1, {"a": (LoadState.LOAD_STATE_READY, "")}))
    world.failed["a"] = "died 3 times"
    assert world.progress() == {"fraud": (1, {"a": (LoadState.LOAD_STATE_FAILED, "died 3 times")})}
    assert [(m.state, m.reason) for m in world.replica.index()] == [("UNAVAILABLE", "died 3 times")]
    await world.end()
