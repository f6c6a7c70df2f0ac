"""Has the world drifted? Evidence (tests under a false-alarm budget) and effect (adjusted PSI) must both say so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from holdtrue_stats.arrays import Bools, Counts, Floats, ratio
from holdtrue_stats.divergence import psi, psi_adjusted
from holdtrue_stats.histogram import Kind, groups, rebin
from holdtrue_stats.multiple import bh, cauchy
from holdtrue_stats.result import Status
from holdtrue_stats.twosample import chi2, ks, rank_location, rank_scale, two_proportions

LEAST_ROWS = 1000
"""Windows of fewer rows are not judged, unless the caller says otherwise."""
HIGHEST_RATE = 0.005
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

    `p` is the combined p-value of the distribution, `p_missing` that of the share of missing values; `drifted` and
    `missing_changed` are the features that alarm (evidence and effect); `needed` rows are missing if `status` is
    insufficient. nan where a test cannot be made.
    """

    psi: Floats
    psi_adjusted: Floats
    p: Floats
    p_missing: Floats
    missing: Floats
    drifted: Bools
    missing_changed: Bools
    status: Status
    needed: int

    def severity(self, feature: int) -> Severity:
        """Return how bad the drift of one feature is."""
        if not self.drifted[feature]:
            return Severity.NONE
        effect = self.psi_adjusted[feature]
        return Severity.CRITICAL if effect >= _CRITICAL else Severity.WARNING if effect >= _WARNING else Severity.INFO


def rate(budget: float, evaluations: float) -> float:
    """Return the level q that keeps false pages within `budget` a month at so many evaluations a month.

    Two windows in a row must alarm, hence the root; never above .005.
    """
    return min(HIGHEST_RATE, math.sqrt(budget / max(evaluations, 1.0)))


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
    ones: chi-squared. Missing values are a hypothesis of their own. Benjamini-Hochberg over all at rate q, then the
    effect: adjusted PSI (or difference of missing shares) of at least `min_effect`. For the tests counts above `n_cap`
    are scaled down to it, because streams are not independent draws.
    """
    r, c = reference[:, :-1].astype(np.float64), current[:, :-1].astype(np.float64)
    r_missing, c_missing = reference[:, -1].astype(np.float64), current[:, -1].astype(np.float64)
    numeric = np.array([kind == "numeric" for kind in kinds], np.bool_)
    coarse_r, coarse_c = _coarse(r, c, numeric)
    effect = psi_adjusted(coarse_r, coarse_c)
    p = _evidence(r, _capped(c, n_cap), coarse_r, _capped(coarse_c, n_cap), numeric)
    shares = ratio(r_missing, r_missing + r.sum(1)), ratio(c_missing, c_missing + c.sum(1))
    p_missing = _missing_evidence(r_missing, r.sum(1), c_missing, c.sum(1), n_cap)
    rejected = bh(np.r_[p, p_missing], q)
    d, needed = len(p), max(0, least_rows - int(current.sum(1).max(initial=0)))
    enough = needed == 0
    return DriftResult(
        psi=psi(coarse_r, coarse_c),
        psi_adjusted=effect,
        p=p,
        p_missing=p_missing,
        missing=shares[1],
        drifted=rejected[:d] & (np.nan_to_num(effect, nan=-1.0) >= min_effect) & enough,
        missing_changed=rejected[d:] & (np.nan_to_num(np.abs(shares[1] - shares[0])) >= min_effect) & enough,
        status=Status.OK if enough else Status.INSUFFICIENT,
        needed=needed,
    )


def _coarse(r: Floats, c: Floats, numeric: Bools) -> tuple[Floats, Floats]:
    """Numeric features on 16 groups of equal reference mass, categorical ones as they are; padded to one width."""
    group = groups(r)
    width = max(16, r.shape[1])
    pad = ((0, 0), (0, width - r.shape[1])), ((0, 0), (0, width - 16))
    coarse = [np.where(numeric[:, None], np.pad(rebin(side, group), pad[1]), np.pad(side, pad[0])) for side in (r, c)]
    return coarse[0], coarse[1]


def _evidence(r: Floats, c: Floats, coarse_r: Floats, coarse_c: Floats, numeric: Bools) -> Floats:
    tests = np.stack([ks(r, c)[1], rank_location(r, c)[1], rank_scale(r, c)[1], chi2(coarse_r, coarse_c)[1]])
    tests[:3, ~numeric] = np.nan
    return cauchy(tests, c.sum(1))


def _missing_evidence(r_missing: Floats, r_present: Floats, c_missing: Floats, c_present: Floats, cap: float) -> Floats:
    scale = np.minimum(1.0, ratio(cap, c_missing + c_present))
    return two_proportions(r_missing, r_missing + r_present, c_missing * scale, (c_missing + c_present) * scale)[1]


def _capped(counts: Floats, cap: float) -> Floats:
    total = counts.sum(1, keepdims=True)
    return counts * np.minimum(1.0, ratio(cap, total))
