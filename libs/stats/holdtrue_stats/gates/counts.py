"""Checks that are made of counts of decisions: floors, differences of rates, and what explains them.

`cells` int64 [8] are the hold-out's rows by champion flagged · 4 + candidate flagged · 2 + label: sufficient for every
measure made of the two confusion matrices.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from holdtrue_stats.arrays import Bools, Counts, Floats, Ints, binomial_sf, ratio
from holdtrue_stats.gates.check import DRAWS, LEVEL, Bounds, Check, Question, few, labels_needed, outcome_of
from holdtrue_stats.interval import wilson

_PRIOR = np.array([0, 0, 1, 1, 1, 1, 0, 0])
"""Rows added to the cells where the models differ before drawing from them: one true and one false positive to each.

Without them a model that flagged 30 rows, all rightly, would be taken as certain to be right always.
"""
_CHAMPION, _CANDIDATE, _LABEL = np.indices((2, 2, 2)).reshape(3, 8).astype(np.bool_)


@dataclass(frozen=True, slots=True)
class McNemar:
    """Rows on which exactly one model is right: `n01` only the candidate, `n10` only the champion.

    `p_worse` = P(Bin(n01 + n10, ½) >= n10): how surprising so many losses are if neither is better; `p_two` two-sided.
    It explains, it does not judge: with enough rows any difference, however small, is significant.
    """

    n01: int
    n10: int
    p_worse: float
    p_two: float


def floor(tp: int, flagged: int, min_precision: float) -> Check:
    """Is precision at least `min_precision`? One-sided 5 % Wilson bounds (1927) of tp / flagged on the hold-out."""
    question = Question("floor", min_precision, "wilson")
    problem = few("flagged rows", flagged)
    if problem:
        return question.trap(flagged, problem)
    w = wilson(tp, flagged, LEVEL)
    seen = Bounds(w.value, w.lower, w.upper, math.sqrt(w.value * (1 - w.value) / flagged), flagged)
    needed = labels_needed(flagged, seen.se, seen.value - min_precision)
    reason = f"precision {seen.value:.3f} [{seen.lower:.3f}, {seen.upper:.3f}] against a floor of {min_precision:g}"
    return question.answer(outcome_of(seen.lower, seen.upper, min_precision), seen, needed, reason)


def precision_noninferior(cells: Ints, margin: float, seed: int) -> Check:
    """Is the candidate's precision at most `margin` below the champion's on the same rows?

    cells int64 [8]. Bounds are the 5 % and 95 % quantiles of the difference in 2,000 multinomial draws of the cells,
    which is the paired row bootstrap (Efron 1979) at a fraction of its cost, with a row added to each of the four cells
    in which the models differ: else precise models that flag few rows pass too often.
    """
    return _noninferior("precision", precision_difference, cells, margin, seed)


def recall_noninferior(cells: Ints, margin: float, seed: int) -> Check:
    """Do as `precision_noninferior` for recall."""
    return _noninferior("recall", recall_difference, cells, margin, seed)


def f1_noninferior(cells: Ints, margin: float, seed: int) -> Check:
    """Do as `precision_noninferior` for F1."""
    return _noninferior("f1", f1_difference, cells, margin, seed)


def precision_difference(cells: Counts) -> Floats:
    """Return candidate's less champion's precision from cells [..., 8]; nan where one of them flags nothing."""
    return _share(cells, _CANDIDATE & _LABEL, _CANDIDATE) - _share(cells, _CHAMPION & _LABEL, _CHAMPION)


def recall_difference(cells: Counts) -> Floats:
    """Return candidate's less champion's recall from cells [..., 8]; nan without positives."""
    return _share(cells, _CANDIDATE & _LABEL, _LABEL) - _share(cells, _CHAMPION & _LABEL, _LABEL)


def f1_difference(cells: Counts) -> Floats:
    """Return candidate's less champion's F1, 2 tp / (flagged + positives), from cells [..., 8]."""
    return _f1(cells, _CANDIDATE) - _f1(cells, _CHAMPION)


def better_than_dummy(confusion: Counts, seed: int) -> Check:
    """Does what a first version flags hold more positives than a draw without looking would?

    confusion [2, 2] (flagged, label). Precision less the base rate, which is the precision that a dummy has whatever it
    flags (scikit-learn's DummyClassifier); its 5 % bound in 2,000 multinomial draws must be above 0.
    """
    question = Question("dummy", 0.0, "multinomial_bootstrap", seed)
    cells = np.asarray(confusion, np.int64).reshape(4)
    n = int(cells.sum())
    problem = _least({"flagged rows": cells[2:], "positives": cells[1::2], "negatives": cells[::2]})
    if problem:
        return question.trap(n, problem)
    if not cells[:2].any():
        return question.trap(n, "all rows are flagged; there is nothing to compare")
    smooth = cells + np.array([0, 0, 1, 1])
    draws = _lift(np.random.default_rng(seed).multinomial(n, smooth / smooth.sum(), DRAWS))
    seen = _bounds(float(_lift(cells)), draws, n)
    reason = f"precision - base rate = {seen.value:+.3f} [{seen.lower:+.3f}, {seen.upper:+.3f}], must be above 0"
    return question.answer(outcome_of(seen.lower, seen.upper, 0.0), seen, labels_needed(n, seen.se, seen.value), reason)


def mcnemar(cells: Ints) -> McNemar:
    """Return McNemar's exact test (1947) of the cells [8]."""
    champion_right, candidate_right = _CHAMPION == _LABEL, _CANDIDATE == _LABEL
    n01 = int(cells[candidate_right & ~champion_right].sum())
    n10 = int(cells[champion_right & ~candidate_right].sum())
    worse, better = (float(binomial_sf(k - 1, n01 + n10, 0.5)) if n01 + n10 else 1.0 for k in (n10, n01))
    return McNemar(n01, n10, worse, min(1.0, 2 * min(worse, better)))


def _noninferior(name: str, measure: Callable[[Counts], Floats], cells: Ints, margin: float, seed: int) -> Check:
    question = Question(name, margin, "paired_multinomial_bootstrap", seed)
    cells = np.asarray(cells, np.int64)
    n = int(cells.sum())
    problem = _least(
        {
            "positives": cells[_LABEL],
            "negatives": cells[~_LABEL],
            "rows flagged by the champion": cells[_CHAMPION],
            "rows flagged by the candidate": cells[_CANDIDATE],
        }
    )
    if problem:
        return question.trap(n, problem)
    if not cells[_PRIOR > 0].any():
        return replace(question.trap(n, "both models flagged the same rows; there is nothing to compare"), value=0.0)
    draws = measure(np.random.default_rng(seed).multinomial(n, (cells + _PRIOR) / (n + _PRIOR.sum()), DRAWS))
    return question.not_below(_bounds(float(measure(cells)), draws, n))


def _bounds(value: float, draws: Floats, n: int) -> Bounds:
    lower, upper = np.nanquantile(draws, (1 - (1 + LEVEL) / 2, (1 + LEVEL) / 2))
    return Bounds(value, float(lower), float(upper), float(np.nanstd(draws)), n)


def _least(parts: dict[str, Ints]) -> str:
    what, part = min(parts.items(), key=lambda item: item[1].sum())
    return few(what, int(part.sum()))


def _share(cells: Counts, part: Bools, whole: Bools) -> Floats:
    return ratio(cells[..., part].sum(-1), cells[..., whole].sum(-1))


def _f1(cells: Counts, flagged: Bools) -> Floats:
    good = 2 * cells[..., flagged & _LABEL].sum(-1)
    return ratio(good, cells[..., flagged].sum(-1) + cells[..., _LABEL].sum(-1))


def _lift(cells: Counts) -> Floats:
    flagged, positives = cells[..., 2:], cells[..., 1::2]
    return ratio(cells[..., 3], flagged.sum(-1)) - ratio(positives.sum(-1), cells.sum(-1))
