"""May this candidate take over? Three outcomes, because "not shown to be worse" and "worse" are different things.

Levels are 5 % one-sided. Too little data, or data on which a formula would lie, is `inconclusive`, never an exception.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from holdtrue_stats.arrays import Floats, Ints
from holdtrue_stats.interval import wilson
from holdtrue_stats.result import NAN

LEAST_ROWS = 20
"""Positives, negatives, and rows flagged by either model that a comparison needs."""
DRAWS = 2000
_ONE_SIDED = 0.90  # a two-sided 90 % interval has 5 % one-sided bounds
_POWER = 1.6448536269514722 + 0.8416212335729143  # 5 % one-sided, 80 % power


class Outcome(StrEnum):
    """What a check says, the worst first: `worst` relies on the order."""

    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"  # noqa: S105 - not a password


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a gate with its evidence.

    `margin` is what the bounds are held against; `needed_n` the further labels that would probably decide, 0 if it is
    decided or labels alone would not help; `reason` one sentence for a person.
    """

    name: str
    outcome: Outcome
    value: float
    lower: float
    upper: float
    n: int
    margin: float
    needed_n: int
    reason: str


def worst(checks: list[Check]) -> Outcome:
    """Return the gate's outcome: fail before inconclusive before pass; no checks are inconclusive."""
    found = {check.outcome for check in checks} or {Outcome.INCONCLUSIVE}
    return next(outcome for outcome in Outcome if outcome in found)


def floor(tp: int, flagged: int, min_precision: float) -> Check:
    """Is precision at least `min_precision`? Wilson bounds of tp / flagged on the hold-out."""
    if flagged < LEAST_ROWS:
        return _trap("floor", flagged, min_precision, f"only {flagged} rows were flagged; {LEAST_ROWS} are needed")
    seen = wilson(tp, flagged, _ONE_SIDED)
    outcome = _outcome(seen.lower, seen.upper, min_precision)
    se = math.sqrt(seen.value * (1 - seen.value) / flagged)
    needed = labels_needed(flagged, se, seen.value - min_precision) if outcome is Outcome.INCONCLUSIVE else 0
    reason = f"precision {seen.value:.3f} [{seen.lower:.3f}, {seen.upper:.3f}] against a floor of {min_precision:g}"
    return Check("floor", outcome, seen.value, seen.lower, seen.upper, flagged, min_precision, needed, reason)


def precision_noninferior(cells: Ints, margin: float, seed: int) -> Check:
    """Is the candidate's precision at most `margin` below the champion's on the same rows?

    cells int64 [8]: rows by champion flagged · 4 + candidate flagged · 2 + label. Bounds are the 5 % and 95 % quantiles
    of the difference in 2,000 multinomial draws of the cells, which is the paired row bootstrap at a fraction of its
    cost.
    """
    cells = np.asarray(cells, np.int64)
    n = int(cells.sum())
    problem = _too_few(cells)
    if problem:
        return _trap("precision", n, margin, problem)
    value = float(precision_difference(cells))
    draws = precision_difference(np.random.default_rng(seed).multinomial(n, cells / n, DRAWS))
    lower, upper, se = (float(v) for v in (*np.nanquantile(draws, (0.05, 0.95)), np.nanstd(draws)))
    if se == 0:
        return _trap("precision", n, margin, "both models flagged the same rows; there is nothing to compare", value)
    outcome = _outcome(lower, upper, -margin)
    needed = labels_needed(n, se, margin) if outcome is Outcome.INCONCLUSIVE else 0
    reason = f"candidate - champion = {value:+.3f} [{lower:+.3f}, {upper:+.3f}], margin {margin:g}"
    return Check("precision", outcome, value, lower, upper, n, margin, needed, _near(reason, outcome, needed))


def precision_difference(cells: Ints) -> Floats:
    """Return candidate's less champion's precision from cells [..., 8]; nan where one of them flags nothing."""
    champion_tp, champion_fp = cells[..., 5] + cells[..., 7], cells[..., 4] + cells[..., 6]
    candidate_tp, candidate_fp = cells[..., 3] + cells[..., 7], cells[..., 2] + cells[..., 6]
    with np.errstate(divide="ignore", invalid="ignore"):
        return candidate_tp / (candidate_tp + candidate_fp) - champion_tp / (champion_tp + champion_fp)


def labels_needed(n: int, se: float, distance: float) -> int:
    """Further labels until a difference is decided with 80 % power: ⌈(1.645 + 0.84)² · n · se² / distance²⌉ - n.

    se is the standard error seen with n labels, distance that of the truth to the border. 0 if n should suffice.
    """
    if distance == 0 or not math.isfinite(se):
        return 0
    return max(0, math.ceil(_POWER**2 * n * se**2 / distance**2) - n)


def _too_few(cells: Ints) -> str:
    champion, candidate, label = np.indices((2, 2, 2)).reshape(3, 8).astype(np.bool_)
    counts = {
        "positives": cells[label].sum(),
        "negatives": cells[~label].sum(),
        "rows flagged by the champion": cells[champion].sum(),
        "rows flagged by the candidate": cells[candidate].sum(),
    }
    name, least = min(counts.items(), key=lambda item: item[1])
    return f"only {least} {name} in the hold-out; {LEAST_ROWS} are needed" if least < LEAST_ROWS else ""


def _outcome(lower: float, upper: float, border: float) -> Outcome:
    if lower > border:
        return Outcome.PASS
    return Outcome.FAIL if upper < border else Outcome.INCONCLUSIVE


def _near(reason: str, outcome: Outcome, needed: int) -> str:
    return f"{reason}; close to the margin, ask a person" if outcome is Outcome.INCONCLUSIVE and not needed else reason


def _trap(name: str, n: int, margin: float, reason: str, value: float = NAN) -> Check:
    return Check(name, Outcome.INCONCLUSIVE, value, NAN, NAN, n, margin, 0, reason)
