"""Checks that compare two models row by row on the same hold-out: AUC by DeLong's covariance, losses by their mean."""

import math

import numpy as np
from numpy.typing import ArrayLike

from holdtrue_stats.arrays import Floats
from holdtrue_stats.gates.check import LEAST_ROWS, Check, Question, few, labels_needed, normal_bounds, outcome_of

_SMALLEST = float(np.finfo(np.float64).eps)


def delong(y: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Return the AUCs [k] of k models and their covariance matrix [k, k] (DeLong et al. 1988; Sun & Xu 2014).

    y [n] 0 or 1, scores [k, n] (or [n]), ties count ½. V01 and V10, the placements of positives and negatives, come
    from mid-ranks in n log n; S = cov(V01) / positives + cov(V10) / negatives. AUCs are nan without both classes, the
    covariance with fewer than two rows of either.
    """
    label, rows = np.asarray(y).astype(np.bool_), np.atleast_2d(np.asarray(scores, np.float64))
    m, n = int(label.sum()), int((~label).sum())
    if not (m and n):
        return np.full(len(rows), np.nan), np.full((len(rows), len(rows)), np.nan)
    pooled, positive, negative = (np.stack([_midrank(s[part]) for s in rows]) for part in (label | True, label, ~label))
    v01 = (pooled[:, label] - positive) / n
    v10 = 1 - (pooled[:, ~label] - negative) / m
    return v01.mean(1), _covariance(v01) / m + _covariance(v10) / n


def auc_noninferior(y: ArrayLike, champion: ArrayLike, candidate: ArrayLike, margin: float) -> Check:
    """Is the candidate's AUC at most `margin` below the champion's on the same rows?

    y [n], scores [n] of both; d ± 1.645 se with se² = S11 + S22 - 2 S12 of `delong`. A candidate with a score that is
    not finite fails; a champion with one cannot be compared.
    """
    question = Question("auc", margin, "delong")
    label, rows = np.asarray(y).astype(np.bool_), np.array([champion, candidate], np.float64)
    n, positives = len(label), int(label.sum())
    if not np.isfinite(rows[1]).all():
        return question.unusable(n, "the candidate has scores that are not finite")
    if not np.isfinite(rows[0]).all():
        return question.trap(n, "the champion has scores that are not finite")
    problem = few("positives", positives) or few("negatives", n - positives)
    if problem:
        return question.trap(n, problem)
    auc, s = delong(label, rows)
    se = math.sqrt(max(0.0, float(s[0, 0] + s[1, 1] - 2 * s[0, 1])))
    return question.not_below(normal_bounds(float(auc[1] - auc[0]), se, n))


def loss_noninferior(name: str, champion: ArrayLike, candidate: ArrayLike, margin: float) -> Check:
    """Is the candidate's mean loss at most (1 + margin) times the champion's? Less is better.

    champion, candidate [n]: losses of the same rows, not negative, for example `log_losses`, (y - p)² for Brier,
    |y - ŷ| for MAE. The value is the mean of candidate - (1 + margin) · champion with ± 1.645 s/√n, and must be below
    0: comparing with a fixed multiple of the champion's mean would forget that mean's own error.
    """
    question = Question(name, margin, "paired_mean_of_loss_ratio")
    a, b = (np.asarray(losses, np.float64) for losses in (champion, candidate))
    n = len(a)
    if not np.isfinite(b).all():
        return question.unusable(n, "the candidate has losses that are not finite")
    if n < LEAST_ROWS or not np.isfinite(a).all():
        return question.trap(n, few("rows", n) or "the champion has losses that are not finite")
    excess = b - (1 + margin) * a
    seen = normal_bounds(float(excess.mean()), float(excess.std(ddof=1)) / math.sqrt(n), n)
    if not np.ptp(excess) > _SMALLEST * n * np.abs(excess).max():
        return question.trap(n, "the losses of all rows are alike; there is nothing to compare")
    reason = (
        f"mean loss {b.mean():.4g}, the champion's {a.mean():.4g}, {margin:+.0%} allowed; "
        f"excess {seen.value:+.3g} [{seen.lower:+.3g}, {seen.upper:+.3g}]"
    )
    needed = labels_needed(n, seen.se, margin * float(a.mean()))
    return question.answer(outcome_of(-seen.upper, -seen.lower, 0.0), seen, needed, reason)


def log_losses(y: ArrayLike, p: ArrayLike) -> Floats:
    """Return each row's negative log-likelihood [n] of y [n] under probability p [n], kept off 0 and 1 by 2.2e-16."""
    inside = np.clip(np.asarray(p, np.float64), _SMALLEST, 1 - _SMALLEST)
    return -np.where(np.asarray(y).astype(np.bool_), np.log(inside), np.log1p(-inside))


def _midrank(x: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _covariance(v: Floats) -> Floats:
    """Sample covariance of the rows of v [k, m]; nan for m < 2."""
    centred = v - v.mean(1, keepdims=True)
    return centred @ centred.T / (v.shape[1] - 1) if v.shape[1] > 1 else np.full((len(v), len(v)), np.nan)
