"""May the challenger go on? Checks of one step, on everything seen since the traffic last changed.

All compare challenger and champion in the same windows. The bounds hold at all looks together
(holdtrue_stats.sequential), so that looking at every window convicts nobody by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from holdtrue_stats.histogram import interpolate
from holdtrue_stats.result import Estimate, Status
from holdtrue_stats.sequential import LEAST_ROWS, Sums, compare_means, rows_needed

from holdtrue_deployer.domain.evidence import LATENCY_BINS, Evidence, Tally, tally

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdtrue_deployer.domain.policy import Policy

RATE_MARGIN = 0.01
"""Share of requests by which a challenger may fail, or answer slowly, more often than the champion."""
SLOWER = 1.5
"""An answer is slow if it takes longer than this many times the champion's p99 and than the budget."""
_ALPHA = 0.05
_TAIL = 0.01
_FIRST_BIN_SECONDS = 1e-6
_BINS_PER_OCTAVE = 2


class Outcome(StrEnum):
    """What a check says."""

    PASS = "pass"  # noqa: S105  not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """Enough data, and still neither: the truth is near the margin."""
    WAITING = "waiting"
    """Too little data yet; `needed_n` says how much is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check with its evidence; figures are None where nothing can be said. Only `required` ones decide."""

    name: str
    outcome: Outcome
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    n: int = 0
    margin: float = 0.0
    needed_n: int = 0
    reason: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True)
class _Side:
    """Sums of one group, and what its mean's variance has beside the rows' own spread."""

    sums: Sums
    variance: float = 0.0


def judge(evidence: Evidence, policy: Policy) -> tuple[Check, ...]:
    """Compare the challenger with the champion."""
    pairs = tuple(evidence.pairs())
    champion, challenger = tally(a for a, _ in pairs), tally(b for _, b in pairs)
    return (
        _errors(champion, challenger),
        _slow(champion, challenger, policy.latency_budget_seconds),
        *_precision(champion, challenger, policy.precision_margin),
    )


def judge_alone(evidence: Evidence) -> tuple[Check, ...]:
    """Judge a challenger that has all the traffic: nothing to compare with, so errors are held against none."""
    challenger = tally(iter(evidence.challenger.values()))
    never_fails = Tally(answered=challenger.answered + challenger.failed)
    check = _errors(never_fails, challenger)
    return (check if check.outcome is Outcome.FAIL else replace(check, required=False),)


def verdict(checks: Iterable[Check]) -> Outcome:
    """Return the worst outcome of the required checks: fail, inconclusive, waiting, pass; none required is a pass."""
    found = {check.outcome for check in checks if check.required}
    order = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.WAITING)
    return next((outcome for outcome in order if outcome in found), Outcome.PASS)


def waive_labels(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """At a step's deadline: labels that did not come in time no longer block, if the scores could be judged."""
    if not any(check.name == "precision_estimated" and check.outcome is Outcome.PASS for check in checks):
        return checks
    return tuple(_waived(check) if check.name == "precision_realised" else check for check in checks)


def _waived(check: Check) -> Check:
    if check.outcome is not Outcome.WAITING:
        return check
    return replace(check, required=False, reason=f"estimated_only: {check.reason}")


def _errors(champion: Tally, challenger: Tally) -> Check:
    a, b = (Sums.of_rate(t.failed, t.answered + t.failed) for t in (champion, challenger))
    return _not_higher("errors", a, b, "share of failed requests")


def _slow(champion: Tally, challenger: Tally, budget_seconds: float) -> Check:
    first = slow_bin(champion.latency, budget_seconds)
    a, b = (Sums.of_rate(sum(t.latency[first:]), sum(t.latency)) for t in (champion, challenger))
    return _not_higher("latency", a, b, f"share of answers slower than {bin_start(first) * 1000:.3g} ms")


def slow_bin(champion: tuple[int, ...], budget_seconds: float) -> int:
    """Return the first bin whose answers are slow: beyond the budget and 1.5 times the champion's p99."""
    limit = max(budget_seconds, SLOWER * bin_start(_quantile_bin(champion) + 1))
    return min(LATENCY_BINS, math.ceil(_BINS_PER_OCTAVE * math.log2(limit / _FIRST_BIN_SECONDS)))


def bin_start(i: int) -> float:
    """Return where a latency bin begins, in seconds."""
    return _FIRST_BIN_SECONDS * 2 ** (i / _BINS_PER_OCTAVE)


def _quantile_bin(counts: tuple[int, ...]) -> int:
    place = interpolate(counts, range(LATENCY_BINS + 1), 1 - _TAIL)
    return 0 if math.isnan(place) else max(0, math.ceil(place) - 1)


def _precision(champion: Tally, challenger: Tally, margin: float) -> tuple[Check, Check]:
    """Judge by labels and by scores. What labels decide, scores only illustrate."""
    realised = _not_lower("precision_realised", _Side(champion.realised), _Side(challenger.realised), margin)
    invalid = "champion" if champion.invalid else "challenger" if challenger.invalid else ""
    if invalid:
        reason = f"the {invalid}'s estimate was shown to be wrong by its labels; only labels decide"
        estimated = Check(name="precision_estimated", outcome=Outcome.WAITING, margin=margin, reason=reason)
    else:
        estimated = _not_lower("precision_estimated", _estimate(champion), _estimate(challenger), margin)
    decided = realised.outcome in (Outcome.PASS, Outcome.FAIL)
    return replace(estimated, required=not (decided or invalid)), realised


def _estimate(side: Tally) -> _Side:
    return _Side(side.estimated, side.map_variance)


def _not_higher(name: str, a: Sums, b: Sums, what: str) -> Check:
    """Fail if b's rate is shown to exceed a's by the rate margin, pass if shown not to."""
    seen = _compare(name, _Side(a), _Side(b), RATE_MARGIN)
    if seen.value is None or seen.lower is None or seen.upper is None:
        return seen
    outcome = Outcome.PASS if seen.upper <= RATE_MARGIN else Outcome.FAIL if seen.lower > RATE_MARGIN else seen.outcome
    return _told(replace(seen, outcome=outcome), what)


def _not_lower(name: str, a: _Side, b: _Side, margin: float) -> Check:
    """Fail if b's mean is shown to be more than the margin below a's, pass if shown not to."""
    seen = _compare(name, a, b, margin)
    if seen.value is None or seen.lower is None or seen.upper is None:
        return seen
    outcome = Outcome.PASS if seen.lower > -margin else Outcome.FAIL if seen.upper < -margin else seen.outcome
    return _told(replace(seen, outcome=outcome), "precision")


def _compare(name: str, a: _Side, b: _Side, margin: float) -> Check:
    """Return the difference b - a with its bounds, waiting or, where more rows would not help, inconclusive."""
    n = int(min(a.sums.n, b.sums.n))
    seen = compare_means(a.sums, b.sums, margin, _ALPHA, a.variance + b.variance)
    if not seen.ok:
        return Check(
            name=name, outcome=Outcome.WAITING, n=n, margin=margin, needed_n=seen.needed_n, reason=_lacking(seen)
        )
    enough = rows_needed((a.sums.variance + b.sums.variance) / 2, margin / 2, _ALPHA)
    missing = max(0, enough - n)
    return Check(
        name=name,
        outcome=Outcome.WAITING if missing else Outcome.INCONCLUSIVE,
        value=seen.value,
        lower=seen.lower,
        upper=seen.upper,
        n=n,
        margin=margin,
        needed_n=missing,
    )


def _lacking(seen: Estimate) -> str:
    if seen.status is Status.INSUFFICIENT:
        return f"{seen.n:g} of the {LEAST_ROWS} rows that a comparison needs at least"
    return seen.reason


def _told(check: Check, what: str) -> Check:
    decided = check.outcome in (Outcome.PASS, Outcome.FAIL)
    reason = (
        f"{what}: challenger - champion = {check.value:+.3f} [{check.lower:+.3f}, {check.upper:+.3f}], "
        f"margin {check.margin:g}, n = {check.n}"
    )
    return replace(check, reason=reason, needed_n=0 if decided else check.needed_n)
