"""Has the world drifted? Evidence (tests under a false-alarm budget) and effect (adjusted PSI) must both say so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Bools, Counts, Floats, Ints, ratio
from holdtrue_stats.divergence import psi, psi_noise
from holdtrue_stats.histogram import Kind, groups, rebin
from holdtrue_stats.multiple import bh, cauchy
from holdtrue_stats.result import Status
from holdtrue_stats.twosample import chi2, ks, rank_tests, rare, two_proportions

LEAST_ROWS = 1000
"""Windows of fewer rows are not judged, unless the caller says otherwise."""
HIGHEST_RATE = 0.005
TESTS = ("ks", "location", "scale", "chi2", "rare")
"""Rows of `DriftResult.tests`: shape, location, spread, shares of 16 groups or of categories, sparse categories."""
RAISE_AFTER, RESOLVE_AFTER = 2, 3
"""Windows in a row that raise an alarm, and that end it."""
_GROUPS = 16
_WARNING, _CRITICAL = 0.1, 0.25


class Severity(StrEnum):
    """How large a drift is, by adjusted PSI: .01 info, .1 warning, .25 critical."""

    NONE = "none"
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, eq=False)
class DriftResult:
    """The verdict on d features of one window; arrays are [d].

    `p` is the combined p-value of the distribution, `tests` [5, d] its components (`TESTS`), `p_missing` that of the
    share of missing values, `missing`; `drifted` and `missing_changed` are the features that alarm (evidence and
    effect); `n` the rows of the window, of which `needed_n` are lacking if `status` is insufficient. nan where a test
    cannot be made.
    """

    psi: Floats
    psi_adjusted: Floats
    p: Floats
    tests: Floats
    p_missing: Floats
    missing: Floats
    drifted: Bools
    missing_changed: Bools
    n: int
    status: Status
    needed_n: int

    @property
    def alarms(self) -> Bools:
        """Which of the 2d hypotheses alarm: d distributions, then d shares of missing values. Input to `Streaks`."""
        return np.concatenate([self.drifted, self.missing_changed])

    def severity(self, feature: int) -> Severity:
        """Return how bad the drift of one feature is."""
        if not self.drifted[feature]:
            return Severity.NONE
        effect = self.psi_adjusted[feature]
        return Severity.CRITICAL if effect >= _CRITICAL else Severity.WARNING if effect >= _WARNING else Severity.INFO

    def why(self, feature: int) -> str:
        """Say what the verdict on one feature rests on, for a person."""
        made = np.flatnonzero(~np.isnan(self.tests[:, feature]))
        if not len(made):
            return "no test can be made: no rows, or a single value"
        strongest = TESTS[int(made[np.argmin(self.tests[made, feature])])]
        effect = f"adjusted PSI {self.psi_adjusted[feature]:.3f}"
        return f"{self.severity(feature)}: {effect}, p = {self.p[feature]:.1e}, strongest in {strongest}"

    def __str__(self) -> str:
        """Read like `2 of 30 features drifted, 0 changed in missing values (n=1000, ok)`."""
        note = f"{self.status}, {self.needed_n} more needed" if self.needed_n else str(self.status)
        counts = f"{self.drifted.sum()} of {len(self.p)} features drifted, {self.missing_changed.sum()} changed"
        return f"{counts} in missing values (n={self.n}, {note})"


@dataclass(frozen=True, slots=True, eq=False)
class Streaks:
    """Memory of the two-window rule for h hypotheses, arrays [h]: alarming and clean windows in a row, and what holds.

    Two alarming windows in a row raise, three clean ones in a row end it. A window without a judgement changes nothing.
    """

    bad: Ints
    clean: Ints
    raised: Bools

    @classmethod
    def empty(cls, hypotheses: int) -> Self:
        """Return the memory before the first window."""
        return cls(np.zeros(hypotheses, np.int64), np.zeros(hypotheses, np.int64), np.zeros(hypotheses, np.bool_))

    def after(self, alarms: Bools, judged: ArrayLike = True) -> "Streaks":  # noqa: FBT002 - a mask, not a switch
        """Return the memory after a window with these alarms [h]; `judged` says which hypotheses it could judge."""
        bad = np.where(judged, np.where(alarms, self.bad + 1, 0), self.bad)
        clean = np.where(judged, np.where(alarms, 0, self.clean + 1), self.clean)
        return Streaks(bad, clean, (bad >= RAISE_AFTER) | (self.raised & (clean < RESOLVE_AFTER)))


def rate(budget: float, evaluations: float) -> float:
    """Return the level q that keeps false pages within `budget` a month at so many evaluations a month.

    Two windows in a row must alarm, hence the root; never above .005.
    """
    return min(HIGHEST_RATE, math.sqrt(max(budget, 0.0) / max(evaluations, 1.0)))


def drift(  # noqa: PLR0913, PLR0917 - the rule's parameters, each with its measured default
    reference: Counts,
    current: Counts,
    kinds: Sequence[Kind],
    q: float = HIGHEST_RATE,
    min_effect: float = 0.01,
    n_cap: float = 10_000,
    least_rows: int = LEAST_ROWS,
) -> DriftResult:
    """Judge current against reference counts, both [d, b + 1] with missing values in the last column.

    Numeric features: KS, chi-squared on 16 bins, rank location and rank scale, combined by Cauchy's rule; categorical
    ones: chi-squared, and the exact test of sparse categories. Missing values are a hypothesis of their own.
    Benjamini-Hochberg over all at rate q, then the effect: adjusted PSI (or difference of missing shares) of at least
    `min_effect`. For the tests counts above `n_cap` are scaled down to it, because streams are not independent draws.
    """
    r, c = reference[:, :-1].astype(np.float64), current[:, :-1].astype(np.float64)
    numeric = np.array([kind == "numeric" for kind in kinds], np.bool_)
    coarse_r, coarse_c = _coarse(r, c, numeric)
    tests = _evidence(r, _capped(c, n_cap), coarse_r, _capped(coarse_c, n_cap), numeric)
    p = cauchy(tests, np.minimum(c.sum(1), n_cap))
    raw = psi(coarse_r, coarse_c)
    effect = raw - psi_noise(coarse_r, coarse_c)
    p_missing, change, share = _missing(reference, current, n_cap)
    rejected = bh(np.concatenate([p, p_missing]), q)
    d, n = len(p), int(current.sum(1).max(initial=0))
    needed = max(0, least_rows - n)
    return DriftResult(
        psi=raw,
        psi_adjusted=effect,
        p=p,
        tests=tests,
        p_missing=p_missing,
        missing=share,
        drifted=rejected[:d] & (np.nan_to_num(effect, nan=-1.0) >= min_effect) & (needed == 0),
        missing_changed=rejected[d:] & (np.nan_to_num(np.abs(change)) >= min_effect) & (needed == 0),
        n=n,
        status=Status.INSUFFICIENT if needed else Status.OK,
        needed_n=needed,
    )


def _coarse(r: Floats, c: Floats, numeric: Bools) -> tuple[Floats, Floats]:
    """Numeric features on 16 groups of equal reference mass, categorical ones as they are; padded to one width."""
    group = groups(r, _GROUPS)
    coarse = rebin(r, group, _GROUPS), rebin(c, group, _GROUPS)
    if numeric.all():
        return coarse
    width = max(_GROUPS, r.shape[1])
    wide = [np.zeros((len(r), width)) for _ in range(2)]
    for target, grouped, side in zip(wide, coarse, (r, c), strict=True):
        target[numeric, :_GROUPS] = grouped[numeric]
        target[~numeric, : side.shape[1]] = side[~numeric]
    return wide[0], wide[1]


def _evidence(r: Floats, c: Floats, coarse_r: Floats, coarse_c: Floats, numeric: Bools) -> Floats:
    """The p-values [5, d] of `TESTS`, nan where one does not apply."""
    tests = np.full((len(TESTS), len(r)), np.nan)
    tests[3] = chi2(coarse_r, coarse_c)[1]
    if numeric.all():
        tests[0] = ks(r, c)[1]
        (_, tests[1]), (_, tests[2]) = rank_tests(r, c)
        return tests
    tests[0, numeric] = ks(r[numeric], c[numeric])[1]
    (_, tests[1, numeric]), (_, tests[2, numeric]) = rank_tests(r[numeric], c[numeric])
    tests[4, ~numeric] = rare(r[~numeric], c[~numeric])[1]
    return tests


def _missing(reference: Counts, current: Counts, cap: float) -> tuple[Floats, Floats, Floats]:
    """Per feature the p-value of the missing share's change, the change, and the share now."""
    lost = reference[:, -1].astype(np.float64), current[:, -1].astype(np.float64)
    total = reference.sum(1).astype(np.float64), current.sum(1).astype(np.float64)
    share = ratio(lost[1], total[1])
    if not (lost[0].any() or lost[1].any()):
        return np.full(len(share), np.nan), np.zeros(len(share)), share
    scale = np.minimum(1.0, ratio(cap, total[1]))
    p = two_proportions(lost[0], total[0], lost[1] * scale, total[1] * scale)[1]
    return p, share - ratio(lost[0], total[0]), share


def _capped(counts: Floats, cap: float) -> Floats:
    total = counts.sum(1, keepdims=True)
    return counts * np.minimum(1.0, ratio(cap, total))
