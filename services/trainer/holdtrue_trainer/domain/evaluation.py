"""How good a model is on rows that it has not seen. Rows are flagged where score >= threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_stats import calibration, confusion, ranking

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Bools, Floats, Ints
    from holdtrue_stats.confusion import Confusion


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
    metrics = {measure.name: measure(counts) for measure in confusion.MEASURES} | {"base_rate": _base_rate(counts)}
    metrics |= _of_scores(scored.score, y)
    return Evaluation(counts, {name: value for name, value in metrics.items() if math.isfinite(value)})


def cells(champion: Bools, candidate: Bools, y: Bools) -> Ints:
    """Return int64 [8]: rows by champion flagged · 4 + candidate flagged · 2 + label."""
    return np.bincount(champion * 4 + candidate * 2 + y * 1, minlength=8).astype(np.int64)


def log_loss(score: Floats, y: Bools) -> float:
    """Return the mean negative log-likelihood of the labels y [n]."""
    rows = ranking.by_score(score, y)
    return calibration.log_loss(rows.labelled, rows.score).value


def _base_rate(counts: Confusion) -> float:
    return (counts.tp + counts.fn) / counts.n if counts.n else math.nan


def _of_scores(score: Floats, y: Bools) -> dict[str, float]:
    rows = ranking.by_score(score, y)
    return {
        "log_loss": calibration.log_loss(rows.labelled, rows.score).value,
        "brier": calibration.brier(rows.labelled, rows.score).value,
        "auc": ranking.auc(rows.pos, rows.neg).value,
    }
