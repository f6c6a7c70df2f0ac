"""What the stream of one model version is held against: its profile, and columns for versions that have none."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from google.protobuf.message import DecodeError
from holdtrue_contracts.columns import MalformedColumn, unpack
from holdtrue_contracts.trainer.v1.profile_pb2 import ReferenceProfile
from holdtrue_stats.arrays import Float32s, Floats, Ints
from holdtrue_stats.calibration import SCORE_BINS, Table
from holdtrue_stats.histogram import Edges, State, freeze
from holdtrue_stats.packing import PackingError

_MISSING = -2


class MalformedProfile(ValueError):
    """The bytes are not a reference profile; the text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The hold-out of one model version in counts.

    `names` [d] of the columns; `coded` [d] says which of them come as category codes; `edges` and `state` as
    holdtrue_stats keeps them; `score` int64 [2, 1024] (flagged, score bin); `calibration` by score bin;
    `importances` [d] sum to 1; `precision` is that of the hold-out, nan if unknown; `floor` what the model's policy
    demands, 0 if nothing.
    """

    names: tuple[str, ...]
    coded: tuple[bool, ...]
    edges: Edges
    state: State
    score: Ints
    calibration: Table
    importances: Floats
    precision: float
    floor: float = 0.0

    @property
    def known(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self.state.n[0])

    def with_floor(self, floor: float) -> Self:
        """Return the same with the precision that the model's policy demands."""
        return replace(self, floor=floor)

    def matrix(self, x: Float32s, codes: Ints) -> Float32s:
        """Put numeric columns x [n, a] and codes [n, c] together in signature order: float32 [n, d].

        A missing code becomes NaN; an unseen one stays -1, below every edge. Raises ValueError if the numbers of
        columns do not fit the signature.
        """
        coded = np.array(self.coded, np.bool_)
        wanted = int((~coded).sum()), int(coded.sum())
        if (x.shape[1], codes.shape[1]) != wanted:
            raise ValueError(
                f"the model version has {wanted[0]} numeric and {wanted[1]} coded columns, "
                f"the record {x.shape[1]} and {codes.shape[1]}"
            )
        if not wanted[1]:
            return x
        rows = np.empty((len(x), len(coded)), np.float32)
        rows[:, ~coded] = x
        rows[:, coded] = np.where(codes == _MISSING, np.nan, codes)
        return rows


def unknown() -> Reference:
    """Return the reference of a version without a profile: scores and labels are counted, nothing is compared."""
    edges = freeze(np.zeros((0, 0)))
    calibration = Table(np.full(SCORE_BINS, np.nan), np.zeros(SCORE_BINS, np.int64), np.zeros(0))
    score = np.zeros((2, SCORE_BINS), np.int64)
    return Reference((), (), edges, State.empty(edges), score, calibration, np.zeros(0), float("nan"))


def parse(data: bytes) -> Reference:
    """Return the reference in the bytes of a ReferenceProfile; raises MalformedProfile."""
    try:
        profile = ReferenceProfile.FromString(data)
        reference = _convert(profile)
    except (DecodeError, PackingError, MalformedColumn) as error:
        raise MalformedProfile(f"this is not a reference profile: {error}") from error
    d, bins = len(reference.names), reference.edges.bins
    if reference.edges.features != d or reference.state.hist.shape != (d, bins + 1):
        raise MalformedProfile(f"the profile has {d} columns, but edges of {reference.edges.features}")
    if reference.score.shape != (2, SCORE_BINS) or len(reference.calibration.p) != SCORE_BINS:
        raise MalformedProfile(f"scores must come in {SCORE_BINS} bins, got {list(reference.score.shape)}")
    return reference


def _convert(profile: ReferenceProfile) -> Reference:
    calibration = Table(
        unpack(profile.calibration, np.float64, 1),
        unpack(profile.calibration_blocks, np.int32, 1).astype(np.int64),
        unpack(profile.block_labels, np.int64, 1).astype(np.float64),
    )
    return Reference(
        names=tuple(column.name for column in profile.columns),
        coded=tuple(column.dtype == "string" for column in profile.columns),
        edges=Edges.from_bytes(profile.edges),
        state=State.from_bytes(profile.state),
        score=unpack(profile.score_histogram, np.int64, 2),
        calibration=calibration,
        importances=unpack(profile.importances, np.float64, 1),
        precision=profile.precision,
    )
