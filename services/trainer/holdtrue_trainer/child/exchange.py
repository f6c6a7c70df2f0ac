"""What the trainer and its child exchange: JSON documents and files in the child's folder, nothing else."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec
from holdtrue_models.signature import Dtype

from holdtrue_trainer.domain.run import Failure  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdtrue_models.manifest import Role

JOB = "job.json"
DATA = "data.arrow"
CHAMPION_MODEL = "champion.model"
CHAMPION_MANIFEST = "champion.json"
GIVEN_MODEL = "given.model"
"""The file of a recipe with `artifact`."""
RESULT = "result.json"
LOG = "log.txt"

MODELS: Mapping[Role, str] = MappingProxyType(
    {"skops": "model.skops", "onnx": "model.onnx", "ubj": "model.ubj", "lightgbm": "model.txt"}
)
"""The files of a model by their role in its manifest."""
MANIFEST = "manifest.json"
PROFILE = "profile.bin"

OUTPUTS = (*MODELS.values(), MANIFEST, PROFILE)
"""The files that a successful child may leave; no others are taken."""

Stage = Literal["loading", "training", "evaluating", "packing"]


class ColumnNote(msgspec.Struct, frozen=True):
    """What the dataset's schema says about one column."""

    name: str
    dtype: Dtype
    unit: str = ""
    pii: bool = False
    segment: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is to do. `time` is the column of event times, int64 nanoseconds, in the data file.

    `ordered`: the times are those of the events, so that the hold-out can be the last ones. `champion_seen_ns`: the
    champion was trained on rows up to this time, which therefore cannot judge it; 0: unknown or nothing.
    """

    recipe: str
    seed: int
    columns: tuple[ColumnNote, ...]
    label: str
    time: str
    ordered: bool
    from_ns: int
    last_rows: int
    champion_version: int = 0
    champion_seen_ns: int = 0
    dataset_digest: str = ""


class Judged(msgspec.Struct, frozen=True):
    """An evaluation on the hold-out; `model_version` is 0 for the candidate."""

    model_version: int
    n: int
    tp: int
    fp: int
    fn: int
    tn: int
    metrics: dict[str, float]


class Success(msgspec.Struct, frozen=True, kw_only=True, tag="succeeded"):
    """A candidate was made; the files of OUTPUTS are there."""

    canonical_digest: str
    threshold: float
    candidate: Judged
    champion: Judged | None
    cells: tuple[int, ...]
    train_rows: int
    train_from_ns: int
    train_to_ns: int
    holdout_from_ns: int
    holdout_to_ns: int
    pins: dict[str, str]
    importances: dict[str, float]


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """No candidate was made."""

    failure: Failure
    message: str


Result = Success | Refusal


def checked_dtype(name: str) -> Dtype:
    """Return the dtype of a column as the registry names it. Raises msgspec.ValidationError."""
    return msgspec.convert(name, Dtype)


def encode(document: Job | Result) -> bytes:
    """Return the document as JSON."""
    return msgspec.json.encode(document)


def decode_job(data: bytes) -> Job:
    """Read a job."""
    return msgspec.json.decode(data, type=Job)


def decode_result(data: bytes) -> Result:
    """Read a result. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Result)
