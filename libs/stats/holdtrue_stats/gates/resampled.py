"""Checks of figures without a standard error of their own, by stratified paired bootstrap."""

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Bools, Counts, Floats, Ints, ratio
from holdtrue_stats.gates.check import DRAWS, Bounds, Check, Question, few

BINS = 15
"""Bins of equal mass of the calibration error."""
_MEASURES = ("tpr", "selection")
_GROUP_CELLS = 8


def calibration_noninferior(y: ArrayLike, champion: ArrayLike, candidate: ArrayLike, margin: float, seed: int) -> Check:
    """Is the candidate's expected calibration error at most `margin` above the champion's? Less is better.

    y [n] 0 or 1, probabilities [n] of both. ECE over 15 bins of equal mass (Naeini et al. 2015), bins kept from the
    whole sample; bounds by 2,000 paired bootstrap draws within each label, reflected at the value (the basic bootstrap,
    Davison & Hinkley 1997, 5.2), because noise adds to an ECE and reflecting takes that out again.
    """
    question = Question("calibration", margin, "stratified_paired_bootstrap_of_ece", seed)
    label, p = np.asarray(y).astype(np.bool_), np.array([champion, candidate], np.float64)
    n, positives = len(label), int(label.sum())
    if not np.isfinite(p[1]).all():
        return question.unusable(n, "the candidate has scores that are not finite")
    problem = few("positives", positives) or few("negatives", n - positives)
    if problem or not np.isfinite(p[0]).all():
        return question.trap(n, problem or "the champion has scores that are not finite")
    seen = _reflected(ece_difference(label, p[0], p[1]), _ece_draws(label, p, seed), n)
    return question.not_above(seen, "ECE")


def fairness_noninferior(cells: Ints, margin: float, seed: int) -> tuple[Check, Check]:
    """Are the gaps between groups at most `margin` wider than the champion's? Less is better.

    cells int64 [g, 8]: the rows of each group by champion flagged · 4 + candidate flagged · 2 + label. Two checks, of
    the gap (greatest less smallest) in true-positive rate and in selection rate; bounds by 2,000 multinomial draws of
    the cells within each group, reflected at the value as in `calibration_noninferior`.
    """
    cells = np.asarray(cells, np.int64).reshape(-1, _GROUP_CELLS)
    rng = np.random.default_rng(seed)
    size = cells.sum(1)
    chances = ratio(cells, np.maximum(size, 1)[:, None])
    chances[size == 0, 0] = 1.0
    draws = rng.multinomial(size, chances, (DRAWS, len(cells))).astype(np.int64)
    ask = [Question(f"fairness {what}", margin, "stratified_paired_bootstrap_of_gaps", seed) for what in _MEASURES]
    tpr, selection = (_gap(question, what, cells, draws) for question, what in zip(ask, _MEASURES, strict=True))
    return tpr, selection


def ece_difference(y: ArrayLike, champion: ArrayLike, candidate: ArrayLike) -> float:
    """Return candidate's less champion's expected calibration error over 15 bins of equal mass; nan without rows."""
    label, p = np.asarray(y).astype(np.bool_), np.array([champion, candidate], np.float64)
    if not len(label):
        return float("nan")
    errors = _errors(label - p, _bins(p))
    return float(errors[1] - errors[0])


def gap_difference(cells: Counts, measure: str) -> Floats:
    """Return candidate's less champion's gap between groups of `measure` ("tpr" or "selection"), cells [..., g, 8].

    nan where a group has no rows (for tpr: no positives).
    """
    grid = cells.reshape(*cells.shape[:-1], 2, 2, 2)  # champion, candidate, label
    rows = grid[..., 1] if measure == "tpr" else grid.sum(-1)
    whole = rows.sum((-1, -2))
    champion, candidate = ratio(rows[..., 1, :].sum(-1), whole), ratio(rows[..., 1].sum(-1), whole)
    return np.ptp(candidate, axis=-1) - np.ptp(champion, axis=-1)


def _gap(question: Question, measure: str, cells: Ints, draws: Ints) -> Check:
    n, rows = int(cells.sum()), cells[:, 1::2].sum(1) if measure == "tpr" else cells.sum(1)
    if len(cells) < 2:  # noqa: PLR2004 - a gap is between two
        return question.trap(n, "fewer than two groups; there is no gap")
    problem = few(f"{'positives' if measure == 'tpr' else 'rows'} of a group", int(rows.min()))
    if problem:
        return question.trap(n, problem)
    seen = _reflected(float(gap_difference(cells, measure)), gap_difference(draws, measure), n)
    return question.not_above(seen, "gap")


def _reflected(value: float, draws: Floats, n: int) -> Bounds:
    low, high = np.nanquantile(draws, (0.05, 0.95))
    return Bounds(value, float(2 * value - high), float(2 * value - low), float(np.nanstd(draws)), n)


def _bins(p: Floats) -> Ints:
    """The bin of each row [..., n] by rank: 15 of equal mass."""
    place = np.empty(p.shape, np.int64)
    rows: int = p.shape[-1]
    np.put_along_axis(place, np.argsort(p, axis=-1, kind="stable"), np.arange(rows) * BINS // rows, -1)
    return place


def _errors(residual: Floats, place: Ints) -> Floats:
    """ECE [2] of residuals y - p [2, n] in these bins."""
    sums = [np.abs(np.bincount(b, r, BINS)).sum() for b, r in zip(place, residual, strict=True)]
    return np.array(sums) / residual.shape[1]


def _ece_draws(label: Bools, p: Floats, seed: int) -> Floats:
    """Draw the difference of the ECEs anew, without drawing rows: the cost does not grow with n.

    Rows of one label and one bin of each model are a cell. Numbers of rows per cell are multinomial within a label, as
    in the row bootstrap; a cell's residuals are their mean, and what they vary by inside the cell is added as normal
    noise, which is small because a bin is narrow.
    """
    rng, place, residual = np.random.default_rng(seed), _bins(p), label - p
    cell = (place[0] * BINS + place[1]) * 2 + label
    rows = np.bincount(cell, minlength=2 * BINS * BINS).reshape(BINS, BINS, 2)
    drawn = np.stack([_redrawn(rng, rows[..., y]) for y in range(2)], -1)
    noise, found = rng.standard_normal((DRAWS, BINS)), list[Floats]()
    for model in range(2):
        sums, squares = (
            np.bincount(cell, residual[model] ** power, rows.size).reshape(rows.shape).astype(np.float64)
            for power in (1, 2)
        )
        mean = np.nan_to_num(ratio(sums, rows))
        other = (1 - model, 2)  # axes of one draw over which a bin of this model is summed
        inside = np.sqrt(np.maximum(0.0, squares - sums * mean).sum(other))
        bins = (drawn * mean).sum((other[0] + 1, 3)) + inside * noise
        found.append(np.abs(bins).sum(1) / len(label))
    return found[1] - found[0]


def _redrawn(rng: np.random.Generator, rows: Ints) -> Ints:
    n = int(rows.sum())
    return rng.multinomial(n, rows.ravel() / n, DRAWS).reshape(DRAWS, *rows.shape).astype(np.int64)
