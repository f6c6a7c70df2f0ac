"""Performance from few labels or none: confidence-based estimation (CBPE), and prediction-powered inference (PPI).

CBPE is right under covariate shift as long as the calibration holds, and blind to concept drift: `validity` tells when
labels contradict it. Say "estimated" wherever it is shown. PPI needs labels of rows drawn at random: where people
choose what to label (reviewed cases only), it is as biased as their choice.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from holdtrue_stats import ranking
from holdtrue_stats.arrays import Counts, Floats, Ints, ratio
from holdtrue_stats.calibration import Table, block_variance, smoothed
from holdtrue_stats.confusion import Confusion, Measure, accuracy
from holdtrue_stats.interval import macro, score_interval
from holdtrue_stats.result import NAN, Estimate, Status, insufficient, invalid

LEAST_LABELS = 2000
"""Below so many labels behind the calibration the intervals do not cover as promised (measured)."""
LEAST_PPI = 50
"""Labelled rows that prediction-powered inference needs."""
DRAWS = 400
"""Maps drawn for the variance of an estimated AUC."""
_MOST_LABELS = 1e9  # a block of more has no error that could be drawn


def cbpe(score: Counts, p: Floats) -> Confusion:
    """Return the expected confusion of binary predictions.

    score [1, 2, s] or [2, s]: rows by decision (0, 1) and score bin; p [s]: probability of a positive in each bin.
    With one bin per distinct score the result is exact; 1,024 bins cost at most 1e-4 of precision.
    """
    rejected, flagged = np.asarray(score, np.float64).reshape(2, -1)
    return Confusion(float(flagged @ p), float(flagged @ (1 - p)), float(rejected @ p), float(rejected @ (1 - p)))


def cbpe_variance(gradient: Floats, p: Floats, blocks: Ints, m: Floats, count: Counts | None = None) -> float:
    """Return the variance of an estimated measure: that of the labels to come, and that of the calibration map.

    gradient [s]: derivative of the measure by one row's p; p [s]; blocks [s]: isotonic block of each; m [b]: labels
    behind each block; count [s]: rows per entry, 1 if not given. Σ g²p(1-p) + Σ_b G_b²·p_b(1-p_b)/m_b with G_b the
    summed gradient of a block and p_b(1-p_b)/m_b as in `calibration.block_variance`.
    """
    rows = np.ones(len(p)) if count is None else np.asarray(count, np.float64)
    outcome = float((rows * gradient**2 * p * (1 - p)).sum())
    slope = np.bincount(blocks, rows * gradient, len(m))[: len(m)]
    return outcome + float(slope**2 @ block_variance(p, blocks, m, rows))


def estimated(measure: Measure, score: Counts, calibration: Table | Sequence[Table], level: float = 0.95) -> Estimate:
    """Estimate a measure of the rows in `score` without labels.

    score [2, s] or [1, 2, s] with one map; or for K classes [K, 2, s] (class k, predicted = k?, bin of k's score) with
    K maps: the mean over classes (`interval.macro`), for accuracy the share of rows whose class is right. The interval
    is that of the measure which labels of these very rows would show: variance by the delta method (`cbpe_variance`),
    shape by `score_interval`. Insufficient: no rows that the measure looks at, or fewer than 2,000 labels behind a
    calibration (then value and bounds are given, but not to be trusted).
    """
    tables = [calibration] if isinstance(calibration, Table) else list(calibration)
    counts = np.asarray(score, np.float64).reshape(len(tables), 2, np.shape(score)[-1])
    if measure is accuracy and len(tables) > 1:
        return _share_right(counts, tables, level)
    return macro([_estimated(measure, one, table, level) for one, table in zip(counts, tables, strict=True)])


def estimated_auc(
    score: Counts, calibration: Table | Sequence[Table], level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """Estimate the area under the ROC curve without labels; arguments and status as in `estimated`.

    Expected positives and negatives by score go into `ranking.auc`. Variance: Σ g²p(1-p) for the labels to come, and
    for the map that of `draws` maps whose blocks' labels are drawn anew, because the AUC is not linear in the map.
    """
    tables = [calibration] if isinstance(calibration, Table) else list(calibration)
    counts = np.asarray(score, np.float64).reshape(len(tables), 2, np.shape(score)[-1]).sum(1)
    return macro([_auc(rows, table, level, draws, seed) for rows, table in zip(counts, tables, strict=True)])


def ppi_mean(every: Counts, labelled: Counts, f: Floats) -> tuple[float, float]:
    """Return mean label of all rows and its variance, from few labels and everybody's prediction.

    every [s]: all rows by score bin, the labelled ones included; labelled [2, s] (label, score bin): a random sample of
    them; f [s]: predicted probability. PPI++ (Angelopoulos et al. 2023): θ = λ mean_N f + mean_n (y - λf), v = λ² Var
    f/N + Var(y - λf)/n, λ = clip(Cov(y, f) / (Var f (1 + n/N)), 0, 1); N are the rows without label. For precision
    count the flagged rows only. nan without labels.
    """
    neg, pos = np.asarray(labelled, np.float64)
    drawn = neg + pos
    rest = np.maximum(np.asarray(every, np.float64) - drawn, 0.0)
    n, unlabelled = float(drawn.sum()), float(rest.sum())
    if not n > 0:
        return NAN, NAN
    y, f_n = float(pos.sum()) / n, float(drawn @ f) / n
    f_all = float(rest @ f) / unlabelled if unlabelled else f_n
    spread = _variance(drawn + rest, f)
    covariance = float(pos @ f) / n - y * f_n
    weight = min(max(covariance / (spread * (1 + n / unlabelled)), 0.0), 1.0) if spread > 0 and unlabelled else 0.0
    value = weight * f_all + y - weight * f_n
    residual = float(neg @ (weight * f) ** 2 + pos @ (1 - weight * f) ** 2) / n - (y - weight * f_n) ** 2
    ours = weight**2 * _variance(rest, f) / unlabelled if weight else 0.0
    return min(max(value, 0.0), 1.0), ours + max(0.0, residual) / n


def ppi(every: Counts, labelled: Counts, f: Floats, level: float = 0.95) -> Estimate:
    """Mean label of all rows with its interval; arguments as in `ppi_mean`, `n` is that of the labelled rows.

    Wilson's at n_eff = min(θ(1-θ)/v, 4n) rows. Measured coverage .94-.97 (n 20-400, precision .5-.95), where ±1.96
    standard errors cover .87-.93 at .95. Insufficient: fewer than 50 labels.
    """
    drawn = np.asarray(labelled, np.float64).sum(0)
    n, f = float(drawn.sum()), np.where((drawn > 0) | (np.asarray(every) > 0), f, 0.0)
    if not math.isfinite(n + float(f.sum())):
        return invalid(n, "rows without a prediction")
    if n < LEAST_PPI:
        return insufficient(n, LEAST_PPI - int(n), f"fewer than {LEAST_PPI} labels")
    value, variance = ppi_mean(every, labelled, f)
    return score_interval(value, variance, n, level, n_max=4 * n)


def _estimated(measure: Measure, score: Floats, table: Table, level: float) -> Estimate:
    p = np.nan_to_num(table.p)
    expected = cbpe(score, p)
    n = measure.rows(expected)
    if not (n > 0 and math.isfinite(n) and table.labels.sum() > 0):
        return _nothing(n, table)
    gradient = np.repeat(measure.gradient(expected), len(p))
    variance = cbpe_variance(gradient, np.tile(p, 2), np.tile(table.blocks, 2), table.labels, score.ravel())
    return _trusted(score_interval(measure(expected), variance, n, level), [table])


def _share_right(score: Floats, tables: Sequence[Table], level: float) -> Estimate:
    """Accuracy over classes: every row is flagged for one class, and right if it is of that class."""
    n = float(score[:, 1].sum())
    lacking = next((table for table in tables if not table.labels.sum() > 0), None)
    if lacking is not None or not n > 0:
        return _nothing(n, lacking or tables[0])
    right = variance = 0.0
    for (_, flagged), table in zip(score, tables, strict=True):
        p = np.nan_to_num(table.p)
        right += float(flagged @ p)
        variance += cbpe_variance(np.full(len(p), 1 / n), p, table.blocks, table.labels, flagged)
    return _trusted(score_interval(right / n, variance, n, level), tables)


def _auc(rows: Floats, table: Table, level: float, draws: int, seed: int) -> Estimate:
    p, n = np.nan_to_num(table.p), float(rows.sum())
    seen = ranking.auc(rows * p, rows * (1 - p), level)
    if not (seen.ok and table.labels.sum() > 0):
        return seen if table.labels.sum() > 0 else _nothing(n, table)
    outcome = float(rows @ (ranking.auc_gradient(rows * p, rows * (1 - p)) ** 2 * p * (1 - p)))
    variance = outcome + float(np.var(_drawn_aucs(rows, p, table, draws, seed)))
    return _trusted(score_interval(seen.value, variance, n, level), [table])


def _drawn_aucs(rows: Floats, p: Floats, table: Table, draws: int, seed: int) -> Floats:
    """The AUC under maps whose blocks' labels are drawn anew: [draws]."""
    m = np.clip(np.round(table.labels), 1, _MOST_LABELS).astype(np.int64)
    value = np.clip(np.nan_to_num(smoothed(p, table.blocks, table.labels, rows)), 0.0, 1.0)
    off = np.random.default_rng(seed).binomial(m, value, (draws, len(m))) / m - value
    drawn = np.clip(p + off[:, table.blocks], 0.0, 1.0)
    pos, neg = rows * drawn, rows * (1 - drawn)
    beaten = np.cumsum(neg, 1) - neg / 2
    return ratio((pos * beaten).sum(1), pos.sum(1) * neg.sum(1))


def _trusted(seen: Estimate, tables: Sequence[Table]) -> Estimate:
    labels = min(float(table.labels.sum()) for table in tables)
    needed = max(0, LEAST_LABELS - int(labels))
    if not (seen.ok and needed):
        return seen
    reason = f"only {labels:g} labels behind the calibration"
    return replace(seen, status=Status.INSUFFICIENT, needed_n=needed, reason=reason)


def _nothing(n: float, table: Table) -> Estimate:
    if not table.labels.sum() > 0:
        return insufficient(n, LEAST_LABELS, "no calibration")
    return insufficient(n, 1, "no rows that the measure looks at") if n < math.inf else invalid(n, "too many rows")


def _variance(rows: Floats, f: Floats) -> float:
    n = float(rows.sum())
    return float(rows @ (f - float(rows @ f) / n) ** 2) / n if n else 0.0
