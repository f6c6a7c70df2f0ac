"""What one check of the gate says, and how outcomes follow from bounds."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from holdtrue_stats.result import NAN

LEAST_ROWS = 20
"""Positives, negatives, and rows flagged by either model that a comparison needs."""
DRAWS = 2000
"""Draws of a bootstrap."""
LEVEL = 0.90
"""A two-sided interval of this level has 5 % one-sided bounds."""
Z = 1.6448536269514722
"""Standard errors from a normal estimate to its 5 % one-sided bound."""
_POWER = Z + 0.8416212335729143  # 80 % power


class Outcome(StrEnum):
    """What a check says, the worst first: `worst` relies on the order."""

    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"  # noqa: S105 - not a password


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a gate with its evidence.

    `value` with its 5 % one-sided bounds `lower` and `upper` (nan where there are none), from `n` rows; `margin` is
    what the bounds are held against; `needed_n` the further labels that would probably decide, 0 if it is decided or
    labels alone would not help; `reason` one sentence for a person; `formula` names how the bounds were made and `seed`
    the random numbers, so that an auditor can repeat it.
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
    formula: str = ""
    seed: int | None = None

    def __str__(self) -> str:
        """Read like `precision: pass, candidate - champion = +0.004 [-0.021, +0.030], margin 0.05`."""
        return f"{self.name}: {self.outcome}, {self.reason}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """A value with 5 % one-sided bounds and its standard error, from `n` rows."""

    value: float
    lower: float
    upper: float
    se: float
    n: int


def normal_bounds(value: float, se: float, n: int) -> Bounds:
    """Return value ± 1.645 se."""
    return Bounds(value, value - Z * se, value + Z * se, se, n)


def worst(checks: Iterable[Check]) -> Outcome:
    """Return the gate's outcome: fail before inconclusive before pass; no checks are inconclusive."""
    found = {check.outcome for check in checks} or {Outcome.INCONCLUSIVE}
    return next(outcome for outcome in Outcome if outcome in found)


def outcome_of(lower: float, upper: float, border: float) -> Outcome:
    """Return pass if all of [lower, upper] is above the border, fail if all is below, else inconclusive."""
    if lower > border:
        return Outcome.PASS
    return Outcome.FAIL if upper < border else Outcome.INCONCLUSIVE


def labels_needed(n: int, se: float, distance: float) -> int:
    """Further labels until a difference is decided with 80 % power: ⌈(1.645 + 0.84)² · n · se² / distance²⌉ - n.

    se is the standard error seen with n labels, distance that of the truth to the border. 0 if n should suffice.
    """
    ratio = math.inf if distance == 0 else se / distance
    needed = _POWER**2 * n * ratio * ratio  # `**` would raise where this is infinite
    return max(0, math.ceil(needed) - n) if math.isfinite(needed) else 0


@dataclass(frozen=True, slots=True)
class Question:
    """What a check asks: its name, the margin, how the answer is found, and the seed of the random numbers."""

    name: str
    margin: float
    formula: str
    seed: int | None = None

    def answer(self, outcome: Outcome, seen: Bounds, needed: int, reason: str) -> Check:
        """Return the check; `needed` labels are told only where it is undecided, and if they are none, ask a person."""
        undecided = outcome is Outcome.INCONCLUSIVE
        told = f"{reason}; close to the margin, ask a person" if undecided and not needed else reason
        return self._check(outcome, seen, needed if undecided else 0, told)

    def not_below(self, seen: Bounds) -> Check:
        """Judge candidate - champion, where more is better: it must not be below -margin.

        Labels needed are those that would probably show equal models to be equal.
        """
        if not seen.se > 0:
            return self.trap(seen.n, _ALIKE)
        reason = f"candidate - champion = {_signed(seen)}, margin {self.margin:g}"
        needed = labels_needed(seen.n, seen.se, self.margin)
        return self.answer(outcome_of(seen.lower, seen.upper, -self.margin), seen, needed, reason)

    def not_above(self, seen: Bounds, what: str) -> Check:
        """Judge candidate - champion, where less is better: it must not be above the margin."""
        if not seen.se > 0:
            return self.trap(seen.n, _ALIKE)
        reason = f"{what} of candidate - champion = {_signed(seen)}, at most {self.margin:g} allowed"
        needed = labels_needed(seen.n, seen.se, self.margin)
        return self.answer(outcome_of(-seen.upper, -seen.lower, -self.margin), seen, needed, reason)

    def trap(self, n: int, reason: str) -> Check:
        """Return the inconclusive check where a formula would lie."""
        return self._check(Outcome.INCONCLUSIVE, Bounds(NAN, NAN, NAN, NAN, n), 0, reason)

    def unusable(self, n: int, reason: str) -> Check:
        """Return the failed check of a candidate that answers what is no number."""
        return self._check(Outcome.FAIL, Bounds(NAN, NAN, NAN, NAN, n), 0, reason)

    def _check(self, outcome: Outcome, seen: Bounds, needed: int, reason: str) -> Check:
        return Check(
            name=self.name,
            outcome=outcome,
            value=seen.value,
            lower=seen.lower,
            upper=seen.upper,
            n=seen.n,
            margin=self.margin,
            needed_n=needed,
            reason=reason,
            formula=self.formula,
            seed=self.seed,
        )


def few(what: str, count: int) -> str:
    """Say that the hold-out has too few of something; empty if it has enough."""
    return f"only {count} {what} in the hold-out; {LEAST_ROWS} are needed" if count < LEAST_ROWS else ""


_ALIKE = "the models do not differ on these rows; there is nothing to compare"


def _signed(seen: Bounds) -> str:
    return f"{seen.value:+.3f} [{seen.lower:+.3f}, {seen.upper:+.3f}]"
