"""From a revision to a warm model: fetch, verify, load, run."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_models import MalformedModel, Manifest, OnnxModel, UnsupportedModel, load_onnx
from holdtrue_models.manifest import KINDS
from holdtrue_models.worker import WorkerModel, try_out

from holdtrue_inference.domain.estimate import RunTime
from holdtrue_inference.lane import MAX_BATCH_ROWS, Warm

if TYPE_CHECKING:
    from holdtrue_contracts.deployer.v1.deployments_pb2 import Revision

    from holdtrue_inference.store.cache import Artifacts

WARM_UP_ROWS = (1, 8, 64, MAX_BATCH_ROWS)


def load(revision: Revision, artifacts: Artifacts) -> Warm:
    """Load what the revision names, see that it answers its check rows as its maker recorded, and run it a few times.

    Whatever it is, it is loaded in a limited process first. ONNX then comes into this one; all else stays there. Blocks
    for as long as that takes. Raises HoldtrueError if an artifact cannot be had, ModelError if it is not to be served.
    """
    if revision.kind not in KINDS:
        raise UnsupportedModel(f"revisions of kind {revision.kind!r} are not served here, only {list(KINDS)}")
    manifest = Manifest.from_bytes(artifacts.fetch(revision.manifest_digest))
    if (manifest.kind, manifest.artifact.digest) != (revision.kind, revision.artifact_digest):
        raise MalformedModel(
            f"the revision serves {revision.kind} {revision.artifact_digest}, "
            f"its manifest names {manifest.kind} {manifest.artifact.digest}"
        )
    data = artifacts.fetch(revision.artifact_digest)
    if manifest.kind != "onnx":
        worker = WorkerModel(data, manifest)
        run_time = _warm_up(worker)
        return Warm(worker, run_time, manifest.score_map, _thread(), inline=False, failed=lambda: worker.failed)
    model = _into_this_process(data, manifest, artifacts)
    run_time = _warm_up(model)
    gc.freeze()  # the first model brings many modules along; collecting, as `settle` does, would hold up requests
    return Warm(model, run_time, manifest.score_map, _thread())


def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="model")


def _into_this_process(data: bytes, manifest: Manifest, artifacts: Artifacts) -> OnnxModel:
    """Load an ONNX model that has been tried out, now or before an earlier start."""
    if not artifacts.tried(manifest.digest):
        try_out(data, manifest)
        artifacts.keep_tried(manifest.digest)
    return load_onnx(data, manifest)


def _warm_up(model: OnnxModel | WorkerModel) -> RunTime:
    """Run the check rows in batches of several sizes; only the second run of each counts."""
    rows = model.manifest.check_rows.inputs.array()
    measured: list[tuple[int, float]] = []
    for count in WARM_UP_ROWS:
        batch = np.resize(rows, (count, rows.shape[1]))
        model.run(batch)
        began = time.perf_counter()
        model.run(batch)
        measured.append((count, time.perf_counter() - began))
    return RunTime(measured)
