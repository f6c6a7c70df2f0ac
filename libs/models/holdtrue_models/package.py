"""Turn a fitted estimator into what is kept and what is served. Needs the extra `train`.

The source is kept in a form that holds no code. ONNX float32 is served if it gives the same answers, else the source.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from msgspec.structs import replace

from holdtrue_models.convert import name_of
from holdtrue_models.errors import ModelError, ParityError, UnsupportedModel
from holdtrue_models.manifest import CheckRows, File, Kind, Manifest, Matrix, Role, ScoreMap
from holdtrue_models.models import load
from holdtrue_models.onnx_runtime import open_onnx
from holdtrue_models.parity import TOLERANCE, Model, verify
from holdtrue_models.sources import source_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdtrue_stats.arrays import Float32s, Floats

    from holdtrue_models.signature import Signature
    from holdtrue_models.sources import Answer, Source

PARITY_ROWS = 1_000
CHECK_ROWS = 16


class Classifier(Protocol):
    """A fitted classifier of scikit-learn, XGBoost or LightGBM, or a pipeline, whose classes are 0, 1 and so on."""

    def predict_proba(self, x: Float32s, /) -> Floats:
        """Return probabilities [n, K] of rows [n, d]."""
        ...


class Regressor(Protocol):
    """A fitted regressor of scikit-learn, XGBoost or LightGBM, or a pipeline."""

    def predict(self, x: Float32s, /) -> Floats:
        """Return values [n] of rows [n, d]."""
        ...


@dataclass(frozen=True, slots=True)
class Parity:
    """How the served form compares with the source: rows compared, the largest |Δ|, and rows with another label.

    Labels differ only where the answer is within the tolerance of the border between them.
    """

    rows: int
    largest: float
    flips: int = 0


@dataclass(frozen=True, slots=True)
class Package:
    """A model version before its manifest is complete: files by role, and the served form ready to run.

    `reason` says why ONNX is not served; empty if it is.
    """

    files: Mapping[Role, bytes]
    model: Model
    canonical_digest: str
    parity: Parity
    reason: str = ""

    def with_threshold(self, threshold: float) -> Package:
        """Return the package of a binary model that flags from another threshold on; `parity` stays as measured."""
        known = self.model.manifest
        changed = replace(known, signature=replace(known.signature, threshold=threshold))
        return dataclasses.replace(self, model=load(self.files[known.kind], changed))

    def manifest(
        self,
        *,
        score_map: ScoreMap,
        importances: Mapping[str, float] | None = None,
        pins: Mapping[str, str],
        reference_profile: str,
    ) -> Manifest:
        """Return the complete manifest; `reference_profile` is the sha256 of that blob.

        `importances`: by default what the source says of itself, if it does.
        """
        return replace(
            self.model.manifest,
            canonical_digest=self.canonical_digest,
            score_map=score_map,
            importances=dict(self.model.manifest.importances if importances is None else importances),
            pins=dict(pins),
            reference_profile=reference_profile,
        )


def export(  # noqa: PLR0913 - what a version is made of
    estimator: Classifier | Regressor,
    signature: Signature,
    x: Float32s,
    seed: int,
    *,
    scale: float = 1.0,
    serve: Kind | None = None,
) -> Package:
    """Convert a fitted estimator and prove that what is served answers alike.

    x float32 [n, d] are rows that it was not trained on; the first of them become the check rows. `scale`: of a
    regression, the standard deviation of the truth. `serve`: the kind to insist on; by default ONNX if that is right.
    Raises UnsupportedModel if there is no way to serve it, ParityError if any of at least 1,000 rows differs by more
    than 1e-5.
    """
    source = source_of(estimator, signature)
    return from_source(source, signature, x, seed, name_of(estimator), scale=scale, serve=serve)


def from_source(  # noqa: PLR0913 - as above
    source: Source,
    signature: Signature,
    x: Float32s,
    seed: int,
    name: str,
    *,
    scale: float = 1.0,
    serve: Kind | None = None,
) -> Package:
    """Do what `export` does with a source as it is kept; errors call it by its `name`."""
    if serve not in {None, "onnx", source.role}:
        raise UnsupportedModel(f"{name} is kept as {source.role} and cannot be served as {serve}")
    importances = _importances(source, signature)
    known = draft(source.role, source.data, signature, x, source.answer(x[:CHECK_ROWS]), scale, importances)
    rows = parity_rows(x, seed, coded=[column.dtype == "string" for column in signature.columns])
    kept: dict[Role, bytes] = {source.role: source.data}
    reason = "it was asked for" if serve == source.role else ""
    if not reason:
        try:
            served, model, parity = _onnx(source, known, rows, name)
        except ModelError as error:
            if serve == "onnx":
                raise
            reason = str(error)
        else:
            return Package({**kept, "onnx": served}, model, source.digest, parity)
    model = source.load(source.data, known)
    return Package(kept, model, source.digest, check_parity(source.answer, model, rows), reason)


def _onnx(source: Source, known: Manifest, rows: Float32s, name: str) -> tuple[bytes, Model, Parity]:
    served = source.to_onnx(known.signature)
    files: dict[Role, File] = {**known.files, "onnx": _file(served)}
    model = open_onnx(served, replace(known, kind="onnx", files=files))
    try:
        parity = check_parity(source.answer, model, rows)
    except ParityError as error:
        raise ParityError(f"{name}: {error}") from error
    verify(model)
    return served, model, parity


def draft(  # noqa: PLR0913, PLR0917 - what is known before a model was judged
    kind: Kind,
    data: bytes,
    signature: Signature,
    x: Float32s,
    answers: Floats,
    scale: float,
    importances: dict[str, float],
) -> Manifest:
    """Return the manifest of a model of one file; the first rows of x [n, d] and their answers become check rows."""
    inputs, expected = x[:CHECK_ROWS], answers[:CHECK_ROWS].astype(np.float32)
    return Manifest(
        signature=signature,
        kind=kind,
        files={kind: _file(data)},
        check_rows=CheckRows(Matrix.of(inputs), Matrix.of(expected)),
        importances=importances,
        pins={},
        reference_profile="",
        canonical_digest="",
        scale=scale,
    )


def _importances(source: Source, signature: Signature) -> dict[str, float]:
    try:
        return source.importances(signature.names)
    except UnsupportedModel:
        return {}


def _file(data: bytes) -> File:
    return File(hashlib.sha256(data).hexdigest(), len(data))


def check_parity(answer: Answer, model: Model, x: Float32s) -> Parity:
    """Return how far the model is from its source on the rows x [n, d]. Raises ParityError beyond TOLERANCE."""
    source, served = np.asarray(answer(x), np.float64), model.run(x).astype(np.float64)
    difference = np.abs(source - served).max(1)
    row = int(difference.argmax())
    if not difference[row] <= TOLERANCE * model.manifest.scale:
        raise ParityError(
            f"the {model.manifest.kind} form of the model answers differently from its source: "
            f"{difference[row]:.2g} apart for row {x[row].tolist()}, at most "
            f"{TOLERANCE * model.manifest.scale:g} is accepted; use another estimator or preprocessing"
        )
    flips = _labels(source, model.signature) != _labels(served, model.signature)
    return Parity(len(x), float(difference[row]), int(flips.sum()))


def _labels(answers: Floats, signature: Signature) -> Any:  # noqa: ANN401 - an array of bools or of places
    if signature.task == "binary":
        positive = signature.classes.index(cast("int", signature.positive_class))
        return answers[:, positive] >= cast("float", signature.threshold)
    return answers.argmax(1)


def parity_rows(x: Float32s, seed: int, least: int = PARITY_ROWS, *, coded: Sequence[bool] = ()) -> Float32s:
    """Return x, filled up to `least` rows.

    Added rows mix the columns of x freshly, at values where trees split: midpoints between neighbouring values and the
    float32 right below and above them. Columns that are `coded` have only values that x has.
    """
    missing = least - len(x)
    if missing <= 0:
        return x
    random = np.random.default_rng(seed)
    whole = [*coded, *[False] * (x.shape[1] - len(coded))]
    columns = [
        random.choice(np.unique(column) if codes else _around_splits(column), missing)
        for column, codes in zip(x.T, whole, strict=True)
    ]
    return np.vstack([x, np.column_stack(columns)])


def _around_splits(column: Float32s) -> Float32s:
    values = np.unique(column[np.isfinite(column)]).astype(np.float64)
    if not len(values):
        return np.full(1, np.nan, np.float32)
    middles = ((values[:-1] + values[1:]) / 2).astype(np.float32)
    sides = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.concatenate([values.astype(np.float32), middles, *sides])
