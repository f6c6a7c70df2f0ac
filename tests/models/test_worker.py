"""The limited process: what it may, what a hostile model costs, and how it comes back."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import psutil
import pytest
from holdtrue_models import (
    CheckRows,
    File,
    Manifest,
    Matrix,
    ModelError,
    ParityError,
    Signature,
    UnsafeModel,
    WorkerAway,
    WrongInput,
)
from holdtrue_models.skops_runtime import dump_skops
from holdtrue_models.worker import Limits, Restarts, Worker, WorkerModel, try_out
from holdtrue_models.worker.process import LIMITS, MAX_ROWS
from msgspec.structs import replace
from onnx import helper
from sklearn.ensemble import HistGradientBoostingClassifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue_models.package import Package

    from .conftest import Cancer

Untyped = Any
Files = tuple[bytes, Manifest]


def manifest_of(kind: Untyped, data: bytes, signature: Signature, x: Untyped, expected: Untyped) -> Manifest:
    return Manifest(
        signature=signature,
        kind=kind,
        files={kind: File(hashlib.sha256(data).hexdigest(), len(data))},
        check_rows=CheckRows(Matrix.of(x), Matrix.of(expected.astype(np.float32))),
        importances={},
        pins={},
        reference_profile="",
        canonical_digest="",
    )


@pytest.fixture(scope="module")
def histograms(cancer: Cancer) -> tuple[Untyped, Files]:
    model: Untyped = HistGradientBoostingClassifier(max_iter=3, random_state=0).fit(cancer.x, cancer.y)
    data = dump_skops(model)
    rows = cancer.x_later[:8]
    return model, (data, manifest_of("skops", data, cancer.signature, rows, model.predict_proba(rows)))


@pytest.fixture(scope="module")
def small(package: Package) -> Files:
    """A model whose process starts fast."""
    manifest = package.manifest(score_map="identity", importances={}, pins={}, reference_profile="")
    return package.files["onnx"], manifest


@pytest.fixture(scope="module")
def worker(small: Files) -> Iterator[Worker]:
    with Worker(*small) as worker:
        yield worker


@pytest.mark.long
def test_skops_model_answers_from_its_process_like_here(histograms: tuple[Untyped, Files], cancer: Cancer) -> None:
    model, files = histograms
    rows = np.resize(cancer.x_later, (2 * MAX_ROWS + 5, cancer.x_later.shape[1]))
    with Worker(*files) as worker:
        np.testing.assert_array_equal(worker.run(rows), model.predict_proba(rows).astype(np.float32))
        assert worker.report.memory_bytes > 1 << 20
        assert sorted(worker.report.run_seconds) == [1, 8, 64, MAX_ROWS]


def test_onnx_model_answers_from_its_process_like_here(worker: Worker, package: Package, cancer: Cancer) -> None:
    np.testing.assert_array_equal(worker.run(cancer.x_later), package.model.run(cancer.x_later))


def test_process_has_limits_no_secrets_and_no_network(worker: Worker) -> None:
    process = psutil.Process(worker.pid)
    assert process.rlimit(psutil.RLIMIT_AS)[0] == LIMITS.memory_bytes
    assert process.rlimit(psutil.RLIMIT_FSIZE)[0] == 0
    assert process.rlimit(psutil.RLIMIT_CORE)[0] == 0
    assert set(process.environ()) <= {
        "PATH", "LANG", "HOME", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ORT_DISABLE_TELEMETRY",
        "HOLDTRUE_CHILD_NETWORK",
    }  # fmt: skip
    devices = Path(f"/proc/{worker.pid}/net/dev").read_text().splitlines()[2:]
    if worker.report.isolated:
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]


@pytest.mark.parametrize(
    "rows", [np.zeros((1, 29), np.float32), np.zeros((1, 30)), np.zeros((0, 30), np.float32)], ids=str
)
def test_wrong_rows_are_refused_and_cost_nothing(worker: Worker, rows: Untyped) -> None:
    with pytest.raises(WrongInput, match=r"\[n, 30\]"):
        worker.run(rows)
    assert worker.alive


def test_file_that_is_not_the_one_named_is_refused(small: Files) -> None:
    data, manifest = small
    wrong = replace(manifest, files={"onnx": File("0" * 64, 1)})
    with pytest.raises(UnsafeModel, match="sha256"):
        try_out(data, wrong)
    other = CheckRows(manifest.check_rows.inputs, Matrix.of(manifest.check_rows.expected.array() + np.float32(1e-4)))
    with pytest.raises(ParityError, match="check rows"):
        try_out(data, replace(manifest, check_rows=other))


def bomb(cancer: Cancer) -> tuple[bytes, Manifest]:
    """An ONNX model of 1 KB that doubles its width 24 times: within every limit of the file, gigabytes when it runs."""
    names = ["X", *(f"a{i}" for i in range(24))]
    nodes = [
        helper.make_node("Concat", [before, before], [after], axis=1) for before, after in itertools.pairwise(names)
    ]
    nodes.append(helper.make_node("ReduceSum", [names[-1]], ["variable"], keepdims=1))
    graph = helper.make_graph(
        nodes,
        "bomb",
        [helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("variable", onnx.TensorProto.FLOAT, [None, 1])],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    signature = Signature.regression(cancer.signature.columns[:2])
    return data, manifest_of("onnx", data, signature, np.zeros((1, 2), np.float32), np.zeros((1, 1)))


def test_bomb_that_only_running_shows_costs_only_its_process(cancer: Cancer) -> None:
    before = psutil.Process().memory_info().rss
    with pytest.raises(ModelError, match=r"memory|cannot run|alloc"):
        try_out(*bomb(cancer))
    assert psutil.Process().memory_info().rss - before < 16 << 20


def test_too_little_memory_is_said(small: Files) -> None:
    with pytest.raises(ModelError, match=r"memory|ended"):
        try_out(*small, limits=Limits(memory_bytes=120 << 20, wall_seconds=0, file_bytes=0))


def test_worker_that_hangs_is_ended_at_the_deadline(small: Files, cancer: Cancer) -> None:
    with Worker(*small) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerAway, match="did not answer within"):
            worker.run(cancer.x_later[:1], seconds=0.05)
        assert not worker.alive
        with pytest.raises(WorkerAway):
            worker.run(cancer.x_later[:1])


def test_dead_workers_come_back_until_they_die_too_often(small: Files, cancer: Cancer) -> None:
    now = [0.0]
    row = cancer.x_later[:1]
    model = WorkerModel(*small, restarts=Restarts(pause=0.001, within=60, clock=lambda: now[0]))
    right = model.run(row)
    for second in (0, 50, 100):  # never three deaths in a minute
        now[0] = second
        _kill(model)
        with pytest.raises(WorkerAway, match="SIGSEGV") as death:
            model.run(row)
        assert not death.value.failed
        _wait_for_restart(model)
        np.testing.assert_array_equal(model.run(row), right)
    now[0] = 105
    _kill(model)
    with pytest.raises(WorkerAway):
        model.run(row)
    assert "died 3 times" in model.failed
    with pytest.raises(WorkerAway) as final:
        model.run(row)
    assert final.value.failed
    model.close()


def test_nobody_waits_for_a_worker_that_starts_again(small: Files, cancer: Cancer) -> None:
    model = WorkerModel(*small, restarts=Restarts(pause=600))
    _kill(model)
    for words in ("SIGSEGV", "being started again"):
        with pytest.raises(WorkerAway, match=words):
            model.run(cancer.x_later[:1])
    model.close()
    assert model._worker is None


def _kill(model: WorkerModel) -> None:
    assert model._worker is not None
    os.kill(model._worker.pid, signal.SIGSEGV)


def _wait_for_restart(model: WorkerModel) -> None:
    assert model._restarter is not None
    model._restarter.join()


def test_worker_ends_with_whoever_started_it(small: Files, tmp_path: Path) -> None:
    data, manifest = small
    (tmp_path / "model").write_bytes(data)
    (tmp_path / "manifest").write_bytes(manifest.to_bytes())
    program = f"""
import pathlib, time
from holdtrue_models import Manifest
from holdtrue_models.worker import Worker
folder = pathlib.Path({str(tmp_path)!r})
worker = Worker((folder / "model").read_bytes(), Manifest.from_bytes((folder / "manifest").read_bytes()))
print(worker.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        orphan = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    psutil.wait_procs([orphan], timeout=30)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
