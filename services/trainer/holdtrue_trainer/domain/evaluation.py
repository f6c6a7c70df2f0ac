"""How good a model is on rows that it has not seen. Rows are flagged where score >= threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_stats import confusion

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Bools, Floats, Ints
    from holdtrue_stats.confusion import Confusion

_COUNTED = (confusion.precision, confusion.recall, confusion.f1, confusion.accuracy, confusion.specificity)
_SMALLEST = np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True)
class Scored:
    """One model on the hold-out: scores of the positive class float64 [n], and what it flags."""

    score: Floats
    flagged: Bools

    @classmethod
    def of(cls, score: Floats, threshold: float) -> Scored:
        """Flag the scores from the threshold on; both compared as float32, as in serving."""
        return cls(score, score.astype(np.float32) >= np.float32(threshold))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Counts and metrics. A metric that the rows do not define, such as a precision without flagged rows, is absent."""

    counts: Confusion
    metrics: dict[str, float]


def evaluate(scored: Scored, y: Bools) -> Evaluation:
    """Judge the scores by the labels y [n]."""
    cell = np.bincount(scored.flagged * 2 + y, minlength=4).reshape(2, 2)
    counts = confusion.binary(cell)
    metrics = {measure.__name__: measure(counts) for measure in _COUNTED} | {"base_rate": _base_rate(counts)}
    metrics |= _of_scores(scored.score, y)
    return Evaluation(counts, {name: value for name, value in metrics.items() if math.isfinite(value)})


def cells(champion: Bools, candidate: Bools, y: Bools) -> Ints:
    """Return int64 [8]: rows by champion flagged · 4 + candidate flagged · 2 + label."""
    return np.bincount(champion * 4 + candidate * 2 + y * 1, minlength=8).astype(np.int64)


def auc(score: Floats, y: Bools) -> float:
    """Return the area under the ROC curve, ties ½ (Mann & Whitney 1947); both classes must be there."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    midrank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives = int(y.sum())
    return float((midrank[y].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives)))


def log_loss(score: Floats, y: Bools) -> float:
    """Return the mean negative log-likelihood of the labels; scores are kept off 0 and 1 by 2.2e-16."""
    p = np.clip(score, _SMALLEST, 1 - _SMALLEST)
    return float(-np.where(y, np.log(p), np.log1p(-p)).mean())


def threshold_for(score: Floats, y: Bools, precision: float) -> float | None:
    """Return the lowest score from which rows are positive with at least this precision; None if there is none."""
    order = np.argsort(-score, kind="stable")
    reached = np.cumsum(y[order]) / np.arange(1, len(y) + 1) >= precision
    last_of_ties = np.append(score[order][1:] != score[order][:-1], True)
    at = np.flatnonzero(reached & last_of_ties)
    return float(score[order][at[-1]]) if len(at) else None


def _base_rate(counts: Confusion) -> float:
    return (counts.tp + counts.fn) / counts.n if counts.n else math.nan


def _of_scores(score: Floats, y: Bools) -> dict[str, float]:
    if not len(y):
        return {}
    metrics = {"log_loss": log_loss(score, y), "brier": float(np.mean((score - y) ** 2))}
    return metrics | ({"auc": auc(score, y)} if 0 < y.sum() < len(y) else {})
