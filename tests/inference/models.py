"""Small models for the tests of inference, and the blobs and states that go with them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost
from holdtrue_contracts.deployer.v1.deployments_pb2 import LogMode, Revision, Role
from holdtrue_models import Column, Manifest, Signature
from holdtrue_models.package import export
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from holdtrue_storage.blobs import Blobs

WIDTH = 4


@cache
def made(seed: int = 0, classes: tuple[int | str, int | str] = (0, 1)) -> tuple[Manifest, bytes]:
    """A logistic regression of four columns, different for every seed: its manifest and its ONNX file."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(400, WIDTH)).astype(np.float32)
    y = (x @ random.normal(size=WIDTH) + random.normal(size=400) > 0).astype(int)
    model = LogisticRegression().fit(x, y)
    signature = Signature.binary(tuple(Column(name=f"c{i}") for i in range(WIDTH)), classes, threshold=0.5)
    package = export(model, signature, x[:64], seed)
    manifest = package.manifest(score_map="identity", importances={}, pins={}, reference_profile="0" * 64)
    return manifest, package.files["onnx"]


@cache
def histograms() -> tuple[Manifest, bytes]:
    """A model that ONNX cannot say: its manifest and its skops file."""
    random = np.random.default_rng(0)
    x = random.normal(size=(200, WIDTH)).astype(np.float32)
    model: Any = HistGradientBoostingClassifier(max_iter=2, max_depth=2).fit(x, x[:, 0] > 0)
    package = export(model, Signature.binary(tuple(Column(name=f"c{i}") for i in range(WIDTH)), (0, 1), 0.5), x[:64], 0)
    manifest = package.manifest(score_map="identity", importances={}, pins={}, reference_profile="0" * 64)
    return manifest, package.files["skops"]


@cache
def trees() -> tuple[Manifest, bytes]:
    """Trees of XGBoost as it saves them: their manifest and their file."""
    x = np.random.default_rng(0).normal(size=(200, WIDTH)).astype(np.float32)
    model = xgboost.XGBClassifier(n_estimators=2, max_depth=2, n_jobs=1).fit(x, x[:, 0] > 0)
    signature = Signature.binary(tuple(Column(name=f"c{i}") for i in range(WIDTH)), (0, 1), 0.5)
    package = export(model, signature, x[:64], 0, serve="ubj")
    manifest = package.manifest(score_map="identity", pins={}, reference_profile="0" * 64)
    return manifest, package.files["ubj"]


def store(blobs: Blobs, seed: int = 0) -> Revision:
    """Put a model where blobs are; return the revision that serves it, version = seed + 1, without traffic."""
    manifest, onnx = made(seed)
    return Revision(
        revision=f"r{seed}",
        slot=seed,
        model_version=seed + 1,
        manifest_digest=blobs.put(manifest.to_bytes()),
        artifact_digest=blobs.put(onnx),
        kind="onnx",
        role=Role.ROLE_STANDBY,
        threshold=0.5,
        log_mode=LogMode.LOG_MODE_ASYNC,
    )


def with_traffic(revision: Revision, weight: int, role: Role.ValueType) -> Revision:
    """The revision with that share of the traffic."""
    changed = Revision()
    changed.CopyFrom(revision)
    changed.weight, changed.role = weight, role
    return changed
