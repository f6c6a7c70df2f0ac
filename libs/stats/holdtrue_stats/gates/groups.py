"""The precision check in every slice of the hold-out: all must pass, a fail must survive that there are many."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from holdtrue_stats.arrays import Ints, normal_sf
from holdtrue_stats.gates.check import Bounds, Check, Outcome, Question, Z, worst
from holdtrue_stats.gates.counts import precision_noninferior
from holdtrue_stats.multiple import holm
from holdtrue_stats.result import NAN

LEAST_SLICE = 100
"""Rows below which a slice is shown and not judged."""
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Slices:
    """One check over all slices, and each slice's own under its name."""

    check: Check
    parts: tuple[Check, ...]


def slices(cells: Mapping[str, Ints], margin: float, seed: int) -> Slices:
    """Is precision in each slice at most `margin` below the champion's?

    cells: int64 [8] by slice. All slices with at least 100 rows must pass, each at 5 % (no correction: requiring all
    is the intersection-union test, Berger 1982). A slice fails only if Holm's rule (1979) over the slices rejects that
    it is good enough; otherwise it is inconclusive.
    """
    alone = [replace(precision_noninferior(c, margin, seed), name=f"slice {name}") for name, c in cells.items()]
    large = [part for part in alone if part.n >= LEAST_SLICE]
    failed = holm([_p_worse(part, margin) for part in large], _ALPHA) if large else np.zeros(0, np.bool_)
    surely = {part.name for part, fails in zip(large, failed.tolist(), strict=True) if fails}
    parts = tuple(_lenient(part, surely=part.name in surely) for part in alone)
    judged = [part for part in parts if part.n >= LEAST_SLICE]
    question = Question("slices", margin, "intersection_union_of_paired_multinomial_bootstraps", seed)
    if not judged:
        return Slices(question.trap(0, f"no slice has {LEAST_SLICE} rows"), parts)
    return Slices(_overall(question, judged), parts)


def _p_worse(part: Check, margin: float) -> float:
    """How probable is so low a difference if the truth lies on the border? nan where there are no bounds."""
    se = (part.upper - part.lower) / (2 * Z)
    return float(normal_sf(-(part.value + margin) / se))


def _lenient(part: Check, *, surely: bool) -> Check:
    if part.n < LEAST_SLICE:
        reason = f"{part.reason}; shown, not judged: fewer than {LEAST_SLICE} rows"
        return replace(part, outcome=Outcome.INCONCLUSIVE, reason=reason)
    if part.outcome is Outcome.FAIL and not surely:
        return replace(part, outcome=Outcome.INCONCLUSIVE, reason=f"{part.reason}; among so many slices by chance")
    return part


def _overall(question: Question, judged: list[Check]) -> Check:
    lowest = min(judged, key=lambda part: np.nan_to_num(part.lower, nan=-np.inf))
    counts = {outcome: sum(part.outcome is outcome for part in judged) for outcome in Outcome}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    seen = Bounds(lowest.value, lowest.lower, lowest.upper, NAN, sum(part.n for part in judged))
    needed = max(part.needed_n for part in judged)
    return question.answer(worst(judged), seen, needed, f"{told}; {lowest.name}: {lowest.reason}")
