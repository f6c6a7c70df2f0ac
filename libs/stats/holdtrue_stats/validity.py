"""Does the calibration still hold? The test that takes estimated performance out of use when labels contradict it.

Without labels estimated performance is unverified, and concept drift invisible. With them, what the map promised can be
held against what came. The map is itself an estimate: its own error is part of every variance here, or clean data would
be accused in most cases.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from holdtrue_stats.arrays import Counts, Floats, Ints, chi2_sf, ratio, two_sided
from holdtrue_stats.calibration import Table
from holdtrue_stats.interval import z_value
from holdtrue_stats.multiple import cauchy
from holdtrue_stats.result import NAN, Status

FIRST_LOOK = 50
"""Labels at the first test; later ones at 100, 200, 400 and so on."""
PROBATION = 200
"""Labels without significance that end an `invalid`."""
SIGNIFICANT = 0.001
"""Combined p-value below which the estimate is invalid."""
LEAST_INFORMATION = 5.0
"""Σp(1-p) that a sum of labels needs before it is taken as normal."""
_MOST_GROUPS = 15
_Z2 = z_value(1 - SIGNIFICANT) ** 2
_NEARLY_CERTAIN = 1e-9  # information per label below which no number of labels is worth naming


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether labels contradict the map.

    `value` is the mean of y - p with its 95 % interval, the map's error included: how far reality is above the promise.
    `p` combines three tests: of all rows, of the flagged ones, and by score. Invalid: p < .001. Insufficient: fewer
    than 50 labels, or nearly certain ones. nan where a test cannot be made.
    """

    value: float
    lower: float
    upper: float
    n: float
    status: Status
    needed_n: int
    p: float
    p_all: float = NAN
    p_flagged: float = NAN
    p_scores: float = NAN

    @property
    def ok(self) -> bool:
        """True if the labels do not contradict the map."""
        return self.status is Status.OK

    @property
    def reason(self) -> str:
        """One sentence for a person."""
        if self.status is Status.INSUFFICIENT:
            return f"{self.n:g} labels are too few to tell; {self.needed_n} more are needed"
        said = "contradict" if self.status is Status.INVALID else "do not contradict"
        return (
            f"{self.n:g} labels {said} the estimate (p = {self.p:.2g}): positives are {self.value:+.3f} "
            f"[{self.lower:+.3f}, {self.upper:+.3f}] off the promised share"
        )


def residual_test(labelled: Counts, calibration: Table) -> Validity:
    """Test `labelled` [2, 2, s] (decision, label, score bin) against the map's promises.

    z = Σ(y - p) / √Σ_b (c_b p_b(1-p_b) + c_b² e_b), of all rows and of the flagged ones, over isotonic blocks b with
    c_b labelled rows; χ² of the same sums over groups of neighbouring blocks with Σp(1-p) >= 5; the three combined by
    Cauchy's rule. e_b, the map's own squared error, is Wilson's for the m_b labels behind the block at the level of the
    test (a normal one is too narrow for blocks of pure 0 or 1), plus a quarter of the squared step to the next block:
    inside a block the truth has a slope that the map cannot show and covariate shift exposes.
    """
    counts = np.asarray(labelled, np.float64).reshape(2, 2, -1)
    n = float(counts.sum())
    if not (n >= FIRST_LOOK and math.isfinite(n) and calibration.labels.sum() > 0):
        needed = max(0, FIRST_LOOK - int(n)) if math.isfinite(n) else 0
        return Validity(NAN, NAN, NAN, n, Status.INSUFFICIENT, needed, NAN)
    every, flagged = _sums(counts.sum(0), calibration), _sums(counts[1], calibration)
    tests = _p_of_sum(every), _p_of_sum(flagged), _p_by_score(every)
    p = float(cauchy(np.array(tests)[:, None], n)[0])
    value, half = float(every.excess.sum()) / n, z_value(0.95) * math.sqrt(every.variance.sum()) / n
    if math.isnan(p):
        return Validity(value, value - half, value + half, n, Status.INSUFFICIENT, _missing(every, n), p)
    status = Status.INVALID if p < SIGNIFICANT else Status.OK
    return Validity(value, value - half, value + half, n, status, 0, p, *tests)


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """The test repeated on a growing number of labels: at 50, 100, 200, 400 and so on.

    Once `invalid`, it ends after 200 later labels without significance, which are tested alone; or with a new map, for
    which a new watch is begun. `last` is the latest test.
    """

    invalid: bool = False
    last: Validity | None = None
    due: int = FIRST_LOOK
    """Labels beyond `before` at which the next test is due."""
    before: Ints | None = None
    """What had been counted when the estimate was found invalid the last time: [2, 2, s]."""

    def step(self, labelled: Ints, calibration: Table) -> Self:
        """Return the watch after all labels that there are for this map: `labelled` as in `residual_test`."""
        fresh = labelled if self.before is None else np.maximum(labelled - self.before, 0)
        n = int(fresh.sum())
        if n < self.due:
            return self
        found = residual_test(fresh, calibration)
        if found.status is Status.INVALID:
            return type(self)(invalid=True, last=found, due=PROBATION, before=labelled.copy())
        due = self.due * 2 ** (1 + int(math.log2(n / self.due)))
        return type(self)(invalid=False, last=found, due=due, before=self.before)


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """By isotonic block [b]: positives beyond the promised, Σp(1-p), and the variance of the excess."""

    excess: Floats
    information: Floats
    variance: Floats


def _sums(counts: Floats, table: Table) -> _Sums:
    """Sum labelled rows [2, s] by block."""
    size = len(table.labels)
    p, rows = np.nan_to_num(table.p), counts.sum(0)
    in_block, excess, information = (
        np.bincount(table.blocks, v, size).astype(np.float64) for v in (rows, counts[1] - rows * p, rows * p * (1 - p))
    )
    chance, error = _doubt(p, table)
    return _Sums(excess, information, np.maximum(information, in_block * chance) + in_block**2 * error)


def _doubt(p: Floats, table: Table) -> tuple[Floats, Floats]:
    """By block: variance of one label, and squared error of the map's value. See `residual_test`."""
    m, bins = table.labels, np.bincount(table.blocks, minlength=len(table.labels))
    value = np.nan_to_num(ratio(np.bincount(table.blocks, p, len(m)), bins))
    centre = (m * value + _Z2 / 2) / (m + _Z2)
    wilson = (m * value * (1 - value) + _Z2 / 4) / (m + _Z2) ** 2
    seen = np.flatnonzero(bins)
    step = np.abs(np.diff(value[seen]))
    step = np.pad(step, 1, "edge") if len(step) else np.zeros(2)
    slope = np.zeros(len(m))
    slope[seen] = (step[:-1] + step[1:]) / 2
    return centre * (1 - centre), wilson + slope**2 / 4


def _p_of_sum(sums: _Sums) -> float:
    if not sums.information.sum() >= LEAST_INFORMATION:
        return NAN
    return float(two_sided(sums.excess.sum() / math.sqrt(sums.variance.sum())))


def _p_by_score(sums: _Sums) -> float:
    group = _pooled(sums.information)
    size = int(group.max(initial=0)) + 1
    if size == 1:
        return NAN
    excess, variance = (np.bincount(group, v, size) for v in (sums.excess, sums.variance))
    return float(chi2_sf((excess**2 / variance).sum(), size))


def _pooled(information: Floats) -> Ints:
    """Group neighbouring blocks until each group has its information; a poor last one goes to the group before."""
    target = max(LEAST_INFORMATION, float(information.sum()) / _MOST_GROUPS)
    place = np.zeros(len(information), np.int64)
    group, held = 0, 0.0
    for i, part in enumerate(information.tolist()):
        place[i] = group
        held += part
        if held >= target:
            group, held = group + 1, 0.0
    return np.minimum(place, group - 1) if held < LEAST_INFORMATION and group else place


def _missing(sums: _Sums, n: float) -> int:
    """Labels until there is information enough, if later ones are like these; 0 if these have none."""
    information = float(sums.information.sum())
    return max(1, math.ceil(n * LEAST_INFORMATION / information - n)) if information > n * _NEARLY_CERTAIN else 0
