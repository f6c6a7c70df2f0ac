"""Turn a fitted scikit-learn pipeline into what is kept and what is served. Needs the extra `train`.

The source is kept as skops, which holds no code; ONNX float32 is served, after both gave the same answers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import onnx
import skl2onnx
from skl2onnx.common.data_types import FloatTensorType

from holdtrue_models.canonical import canonical_digest
from holdtrue_models.errors import ParityError, UnsupportedModel
from holdtrue_models.manifest import CheckRows, File, Manifest, Matrix, Role, ScoreMap
from holdtrue_models.onnx_runtime import INPUT, OnnxModel, open_onnx
from holdtrue_models.parity import TOLERANCE, verify
from holdtrue_models.skops_runtime import dump_skops

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdtrue_stats.arrays import Float32s, Floats

    from holdtrue_models.signature import Signature

OPSETS = {"": 18, "ai.onnx.ml": 3}
PARITY_ROWS = 1_000
CHECK_ROWS = 16
MAX_REASON = 200


class Classifier(Protocol):
    """A fitted scikit-learn classifier or pipeline whose classes are 0, 1 and so on."""

    def predict_proba(self, x: Float32s, /) -> Floats:
        """Return probabilities [n, K] of rows [n, d]."""
        ...


@dataclass(frozen=True, slots=True)
class Parity:
    """How the served form compares with the source: rows compared, and the largest |Δ probability|."""

    rows: int
    largest: float


@dataclass(frozen=True, slots=True)
class Package:
    """A model version before its manifest is complete: files by role, and the served form ready to run."""

    files: Mapping[Role, bytes]
    model: OnnxModel
    canonical_digest: str
    parity: Parity

    def manifest(
        self, *, score_map: ScoreMap, importances: Mapping[str, float], pins: Mapping[str, str], reference_profile: str
    ) -> Manifest:
        """Return the complete manifest; `reference_profile` is the sha256 of that blob."""
        draft = self.model.manifest
        return Manifest(
            signature=draft.signature,
            kind="onnx",
            files=draft.files,
            check_rows=draft.check_rows,
            canonical_digest=self.canonical_digest,
            score_map=score_map,
            importances=dict(importances),
            pins=dict(pins),
            reference_profile=reference_profile,
        )


def export(classifier: Classifier, signature: Signature, x: Float32s, seed: int) -> Package:
    """Convert a fitted classifier and prove that the converted one answers alike.

    x float32 [n, d] are rows that it was not trained on; the first of them become the check rows. Raises
    UnsupportedModel if there is no converter, ParityError if any of at least 1,000 rows differs by more than 1e-5.
    """
    source = dump_skops(classifier)
    served = _convert(classifier, len(signature.columns))
    expected = classifier.predict_proba(x[:CHECK_ROWS]).astype(np.float32)
    files: dict[Role, bytes] = {"skops": source, "onnx": served}
    digest = canonical_digest(source)
    draft = Manifest(
        signature=signature,
        kind="onnx",
        files={role: File(hashlib.sha256(data).hexdigest(), len(data)) for role, data in files.items()},
        check_rows=CheckRows(Matrix.of(x[:CHECK_ROWS]), Matrix.of(expected)),
        importances={},
        pins={},
        reference_profile="",
        canonical_digest=digest,
    )
    model = open_onnx(served, draft)
    parity = check_parity(classifier, model, parity_rows(x, seed))
    verify(model)
    return Package(files, model, digest, parity)


def check_parity(classifier: Classifier, model: OnnxModel, x: Float32s) -> Parity:
    """Return how far the model is from its source on the rows x [n, d]. Raises ParityError beyond TOLERANCE."""
    difference = np.abs(classifier.predict_proba(x) - model.run(x)).max(1)
    row = int(difference.argmax())
    if not difference[row] <= TOLERANCE:
        raise ParityError(
            f"the ONNX form of the model answers differently from scikit-learn: {difference[row]:.2g} apart in the "
            f"probability of row {x[row].tolist()}, at most {TOLERANCE:g} is accepted; use another estimator or "
            f"preprocessing, for example gradient_boosting"
        )
    return Parity(len(x), float(difference[row]))


def parity_rows(x: Float32s, seed: int, least: int = PARITY_ROWS) -> Float32s:
    """Return x, filled up to `least` rows.

    Added rows mix the columns of x freshly, at values where trees split: midpoints between neighbouring values and the
    float32 right below and above them.
    """
    missing = least - len(x)
    if missing <= 0:
        return x
    random = np.random.default_rng(seed)
    return np.vstack([x, np.column_stack([_around_splits(column, missing, random) for column in x.T])])


def _around_splits(column: Float32s, n: int, random: np.random.Generator) -> Float32s:
    values = np.unique(column[np.isfinite(column)]).astype(np.float64)
    if not len(values):
        return np.full(n, np.nan, np.float32)
    middles = ((values[:-1] + values[1:]) / 2).astype(np.float32)
    sides = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
    return random.choice(np.concatenate([values.astype(np.float32), middles, *sides]), n)


def _convert(classifier: Classifier, columns: int) -> bytes:
    try:
        converted = cast("Any", skl2onnx).to_onnx(
            classifier,
            initial_types=[(INPUT, FloatTensorType([None, columns]))],
            options={"zipmap": False},
            target_opset=OPSETS,
        )
    except Exception as error:  # converters raise whatever their numpy code raises
        raise UnsupportedModel(f"{_name(classifier)} cannot be converted to ONNX: {_short(error)}") from error
    data = cast("bytes", converted.SerializeToString())
    cast("Any", onnx).checker.check_model(data, full_check=True)
    return data


def _short(error: Exception) -> str:
    """The converters' texts can hold whole trees."""
    text = " ".join(str(error).split())
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]} ..."


def _name(classifier: object) -> str:
    steps = getattr(classifier, "steps", None)
    return type(steps[-1][1] if steps else classifier).__name__
