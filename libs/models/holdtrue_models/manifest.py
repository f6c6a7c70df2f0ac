"""The one document of a model version: what it takes, what it is made of, and how to see that it works.

It is stored as a blob of canonical JSON; its sha256 names the version everywhere. It can be read without the model.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Literal, Self, get_args

import msgspec
import numpy as np

from holdtrue_models.errors import MalformedModel, UnsupportedModel
from holdtrue_models.signature import Signature  # noqa: TC001 - read by msgspec at run time

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Float32s

Kind = Literal["onnx", "skops", "ubj", "lightgbm"]
"""What can be served."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Role = Kind
"""What a file of a model is: one that is served, or the source that it was made from."""
ScoreMap = Literal["identity", "logit"]

FORMAT = 1
MAX_BYTES = 16 << 20


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the model: sha256 in hexadecimal and size in bytes."""

    digest: str
    size: int


class Matrix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A float32 matrix as little-endian bytes, row-major."""

    rows: int
    columns: int
    data: bytes

    @classmethod
    def of(cls, values: Float32s) -> Self:
        """Take over a matrix [rows, columns]."""
        rows, columns = values.shape
        return cls(rows, columns, np.ascontiguousarray(values, "<f4").tobytes())

    def __post_init__(self) -> None:
        """Refuse a size that does not fit the shape."""
        expected = 4 * self.rows * self.columns
        if self.rows < 0 or self.columns < 0 or len(self.data) != expected:
            raise MalformedModel(
                f"a matrix [{self.rows}, {self.columns}] has {expected} bytes, this one has {len(self.data)}"
            )

    def array(self) -> Float32s:
        """Return the matrix, read-only."""
        return np.frombuffer(self.data, "<f4").reshape(self.rows, self.columns)


class CheckRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows and the probabilities that the model gave for them when it was made: inputs [n, d], expected [n, K]."""

    inputs: Matrix
    expected: Matrix


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model version.

    `kind` is the role in `files` that is served; `score_map` maps scores to the codes in prediction ids;
    `reference_profile` is the sha256 of that blob, `canonical_digest` one of the source model that survives a refit;
    `scale` is what differences of answers are measured in: 1 for probabilities, the standard deviation of the truth for
    a regression; `importances` by column sum to 1; `pins` are the versions and digests that reproduce it.
    """

    format: int = FORMAT
    signature: Signature
    kind: Kind
    files: dict[Role, File]
    score_map: ScoreMap = "identity"
    scale: float = 1.0
    check_rows: CheckRows
    importances: dict[str, float]
    pins: dict[str, str]
    reference_profile: str
    canonical_digest: str

    def __post_init__(self) -> None:
        """Refuse a manifest that contradicts itself."""
        if self.format != FORMAT:
            raise MalformedModel(f"the manifest has format {self.format}; this version of holdtrue reads {FORMAT}")
        if self.kind not in self.files:
            raise MalformedModel(f"the manifest serves {self.kind!r} but lists the files {sorted(self.files)}")
        if not 0 < self.scale < math.inf:
            raise MalformedModel(f"the manifest's scale is {self.scale}; it must be a positive number")
        if self.check_rows.inputs.columns != len(self.signature.columns):
            raise MalformedModel(
                f"the check rows have {self.check_rows.inputs.columns} columns, "
                f"the signature has {len(self.signature.columns)}"
            )

    def require(self, role: Role) -> File:
        """Return the file of that role. Raises UnsupportedModel if there is none, or rows cannot be made for it."""
        if role not in self.files:
            raise UnsupportedModel(f"the model has no {role} file, only {sorted(self.files)}")
        if self.signature.uncoded:
            raise UnsupportedModel(
                f"the text columns {list(self.signature.uncoded)} have no categories to code them by"
            )
        return self.files[role]

    @property
    def artifact(self) -> File:
        """The file that is served."""
        return self.files[self.kind]

    @property
    def digest(self) -> str:
        """The sha256 of the manifest itself, hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the manifest as canonical JSON; equal manifests give equal bytes."""
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises MalformedModel."""
        if len(data) > MAX_BYTES:
            raise MalformedModel(f"the manifest has {len(data)} bytes, at most {MAX_BYTES} are read")
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, RecursionError) as error:
            raise MalformedModel(f"this is not a model manifest: {error}") from error
