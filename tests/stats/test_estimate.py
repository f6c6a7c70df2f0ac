"""Estimated performance against the formula per row and against labels; prediction-powered inference."""

import math

import numpy as np
import pytest
from holdtrue_stats import confusion, estimate, ranking
from holdtrue_stats.arrays import Bools, Floats
from holdtrue_stats.calibration import SCORE_BINS, Table, fit_isotonic, score_bin
from holdtrue_stats.confusion import MEASURES, Confusion, Measure
from holdtrue_stats.result import Estimate, Status
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

rng = np.random.default_rng(7)


def draw(
    n: int, seed: int, shape: tuple[float, float] = (1, 2), slope: float = 8, place: float = 4
) -> tuple[Floats, Bools]:
    g = np.random.default_rng(seed)
    score = g.beta(*shape, n)
    return score, g.random(n) < 1 / (1 + np.exp(-(slope * score - place)))


def histogram(score: Floats, threshold: float = 0.5) -> Floats:
    cells = np.zeros((2, SCORE_BINS))
    np.add.at(cells, ((score >= threshold).astype(int), score_bin(score)), 1)
    return cells


def realised(y: Bools, flagged: Bools) -> Confusion:
    return confusion.binary(np.bincount(flagged * 2 + y, minlength=4).reshape(2, 2))


def test_every_measure_equals_the_formula_per_row() -> None:
    mapping = fit_isotonic(*draw(5000, 1))
    score, _ = draw(20_000, 2)
    p, flagged = mapping(score), score >= 0.5
    rows = Confusion(p[flagged].sum(), (1 - p[flagged]).sum(), p[~flagged].sum(), (1 - p[~flagged]).sum())
    for measure in MEASURES:
        seen = estimate.estimated(measure, histogram(score), mapping.table())
        assert seen.value == pytest.approx(measure(rows), abs=1e-4)
        assert seen.lower < seen.value < seen.upper
        assert seen.ok


def test_the_estimated_auc_equals_the_formula_per_row() -> None:
    mapping = fit_isotonic(*draw(5000, 1))
    score, _ = draw(20_000, 2)
    order = np.argsort(score)
    p = mapping(score[order])
    exact = (p * (np.cumsum(1 - p) - (1 - p) / 2)).sum() / (p.sum() * (1 - p).sum())
    seen = estimate.estimated_auc(histogram(score), mapping.table())
    assert seen.value == pytest.approx(exact, abs=5e-5)
    assert seen == estimate.estimated_auc(histogram(score), mapping.table())  # the seed is fixed


@given(st.lists(st.floats(0.01, 0.99), min_size=4, max_size=12), st.sampled_from(MEASURES))
def test_gradients_are_derivatives(p: list[float], measure: Measure) -> None:
    flagged = np.arange(len(p)) % 2 == 1
    score = np.zeros((2, len(p)))
    score[flagged.astype(int), np.arange(len(p))] = 1.0
    rejected, flag = measure.gradient(estimate.cbpe(score, np.array(p)))
    for i, own in enumerate(p):
        moved = [measure(estimate.cbpe(score, np.array([*p[:i], own + e, *p[i + 1 :]]))) for e in (1e-6, -1e-6)]
        assert (flag if flagged[i] else rejected) == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    ("labels", "rows", "shape", "slope", "place", "threshold"),
    [
        (3000, 1500, (1, 2), 8, 4, 0.5),  # precision .75
        (3000, 3000, (2, 2), 10, 2, 0.5),  # precision .99
        (8000, 3000, (1, 6), 8, 4, 0.5),  # rare
    ],
)
@pytest.mark.parametrize("runs", [80, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_intervals_cover_what_labels_show(  # noqa: PLR0913, PLR0917 - a world
    labels: int, rows: int, shape: tuple[float, float], slope: float, place: float, threshold: float, runs: int
) -> None:
    hits = np.zeros(len(MEASURES) + 1)
    for seed in range(runs):
        table = fit_isotonic(*draw(labels, 2 * seed, shape, slope, place)).table()
        score, y = draw(rows, 2 * seed + 1, shape, slope, place)
        cells, flagged = histogram(score, threshold), score >= threshold
        seen = [estimate.estimated(measure, cells, table) for measure in MEASURES]
        seen.append(estimate.estimated_auc(cells, table, draws=100))
        truth = [*(measure(realised(y, flagged)) for measure in MEASURES), metrics.roc_auc_score(y, score)]
        hits += [s.lower <= t <= s.upper for s, t in zip(seen, truth, strict=True)]
    assert (hits / runs >= (0.92 if runs >= 1000 else 0.87)).all(), hits / runs


def test_covariate_shift_is_followed() -> None:
    table = fit_isotonic(*draw(20_000, 1)).table()
    score, y = draw(20_000, 2, (3, 2))
    seen = estimate.estimated(confusion.precision, histogram(score), table)
    assert seen.lower <= y[score >= 0.5].mean() <= seen.upper
    assert abs(seen.value - 0.75) > 0.03  # it has moved


def multiclass(n: int, seed: int) -> tuple[Floats, np.ndarray]:
    g = np.random.default_rng(seed)
    score = g.dirichlet([2.0, 1.5, 1.0], n)
    label = (score.cumsum(1) < g.random(n)[:, None]).sum(1)
    return score, label


def test_classes_are_estimated_one_versus_rest() -> None:
    score, label = multiclass(6000, 1)
    tables = [fit_isotonic(score[:, k], label == k).table() for k in range(3)]
    current, truth = multiclass(4000, 2)
    chosen = current.argmax(1)
    cells = np.zeros((3, 2, SCORE_BINS))
    for k in range(3):
        np.add.at(cells[k], ((chosen == k).astype(int), score_bin(current[:, k])), 1)
    labelled = np.zeros((3, 3))
    np.add.at(labelled, (chosen, truth), 1)
    for measure in MEASURES:
        seen, real = estimate.estimated(measure, cells, tables), confusion.realised_macro(measure, labelled)
        assert seen.value == pytest.approx(real.value, abs=0.03)
        assert seen.lower <= real.value <= seen.upper
        assert real.lower <= seen.value <= real.upper
    assert confusion.realised_macro(confusion.accuracy, labelled).value == pytest.approx((chosen == truth).mean())
    for measure, average in ((confusion.precision, metrics.precision_score), (confusion.f1, metrics.f1_score)):
        exact = average(truth, chosen, average="macro")
        assert confusion.realised_macro(measure, labelled).value == pytest.approx(exact)
    area = estimate.estimated_auc(cells, tables)
    assert area.value == pytest.approx(metrics.roc_auc_score(truth, current, multi_class="ovr"), abs=0.02)


def test_realised_f1_has_the_interval_of_its_rate() -> None:
    c = Confusion(40, 10, 20, 100)
    seen = confusion.realised(confusion.f1, c)
    assert seen.value == pytest.approx(confusion.f1(c))
    g, hits = np.random.default_rng(2), 0
    p = np.array([40, 10, 20, 100]) / 170
    for _ in range(800):
        drawn = Confusion(*map(float, g.multinomial(170, p)))
        one = confusion.realised(confusion.f1, drawn)
        hits += one.lower <= confusion.f1(c) <= one.upper
    assert hits / 800 >= 0.93


def test_estimates_that_cannot_be_made_say_why() -> None:
    table, nothing = fit_isotonic(*draw(500, 3)).table(), fit_isotonic([], []).table()
    score, _ = draw(300, 4)
    few = estimate.estimated(confusion.recall, histogram(score), table)
    assert (few.status, few.needed_n, few.reason) == (
        Status.INSUFFICIENT,
        1500,
        "only 500 labels behind the calibration",
    )
    assert (
        estimate.estimated(confusion.precision, histogram(score, 2.0), table).reason
        == "no rows that the measure looks at"
    )
    for seen in (
        estimate.estimated(confusion.f1, histogram(score), nothing),
        estimate.estimated(confusion.accuracy, np.stack([histogram(score)] * 2), [table, nothing]),
        estimate.estimated_auc(histogram(score), nothing),
    ):
        assert (seen.status, seen.reason) == (Status.INSUFFICIENT, "no calibration")
    assert estimate.estimated_auc(np.zeros((2, SCORE_BINS)), table).status is Status.INSUFFICIENT
    assert estimate.estimated(confusion.f1, np.zeros((0, 2, 8)), []).status is Status.INSUFFICIENT
    huge = np.full((2, SCORE_BINS), np.inf)
    assert estimate.estimated(confusion.f1, huge, table).status is Status.INVALID


def counted(p: Floats, y: Bools, labelled: Bools) -> tuple[Floats, Floats, Floats]:
    """All rows and labelled ones by distinct prediction."""
    rows = ranking.by_score(p, y)
    place = np.searchsorted(rows.score, p[labelled])
    drawn = np.zeros((2, len(rows.score)))
    np.add.at(drawn, (y[labelled].astype(int), place), 1)
    return (rows.pos + rows.neg).astype(float), drawn, rows.score


def test_ppi_equals_its_formula_per_row() -> None:
    p = rng.random(900)
    y, labelled = rng.random(900) < p, np.arange(900) < 120
    value, variance = estimate.ppi_mean(*counted(p, y, labelled))
    f_n, f_rest = p[labelled], p[~labelled]
    weight = np.cov(y[labelled], f_n, ddof=0)[0, 1] / (p.var() * (1 + 120 / 780))
    assert value == pytest.approx(weight * f_rest.mean() + (y[labelled] - weight * f_n).mean())
    expected = weight**2 * f_rest.var() / 780 + (y[labelled] - weight * f_n).var() / 120
    assert variance == pytest.approx(expected)


def test_ppi_without_help_from_predictions_is_the_plain_mean() -> None:
    drawn, f = np.array([[30.0], [70.0]]), np.array([0.5])
    assert estimate.ppi_mean(np.array([1000.0]), drawn, f) == pytest.approx((0.7, 0.21 / 100))
    assert estimate.ppi_mean(np.array([100.0]), drawn, f)[0] == pytest.approx(0.7)  # no others
    assert math.isnan(estimate.ppi_mean(np.array([5.0]), np.zeros((2, 1)), f)[0])


def test_ppi_needs_50_labels_and_known_predictions() -> None:
    few = estimate.ppi(np.array([1000.0]), np.array([[20.0], [10.0]]), np.array([0.5]))
    assert (few.status, few.needed_n) == (Status.INSUFFICIENT, 20)
    assert estimate.ppi(np.array([1000.0]), np.array([[20.0], [70.0]]), np.array([np.nan])).status is Status.INVALID


def ppi_coverage(precision: float, share: float, flagged: int, runs: int) -> float:
    """Of the precision of all flagged rows, from a share of labels."""
    hits = 0
    for seed in range(runs):
        g = np.random.default_rng(seed)
        p = np.round(g.beta(8 * precision, 8 * (1 - precision), flagged), 2)
        y = g.random(flagged) < np.clip(p, 0.01, 0.99)
        labelled = np.zeros(flagged, np.bool_)
        labelled[g.permutation(flagged)[: round(share * flagged)]] = True
        seen: Estimate = estimate.ppi(*counted(p, y, labelled))
        hits += seen.lower <= y.mean() <= seen.upper
    return hits / runs


@pytest.mark.parametrize("precision", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(("share", "flagged"), [(0.01, 5000), (0.02, 5000), (0.05, 2000)])
@pytest.mark.parametrize("runs", [150, pytest.param(2000, marks=pytest.mark.long)])
def test_ppi_covers_with_few_labels(precision: float, share: float, flagged: int, runs: int) -> None:
    assert ppi_coverage(precision, share, flagged, runs) >= (0.93 if runs >= 1000 else 0.91)


def test_ppi_is_narrower_than_labels_alone_where_predictions_are_good() -> None:
    g = np.random.default_rng(3)
    p = g.beta(0.5, 0.3, 5000)
    y, labelled = g.random(5000) < p, np.arange(5000) < 100
    ours = estimate.ppi(*counted(p, y, labelled))
    alone = confusion.realised(confusion.precision, realised(y[labelled], np.ones(100, np.bool_)))
    assert ours.upper - ours.lower < 0.75 * (alone.upper - alone.lower)


def test_an_estimate_from_one_class_of_scores_is_exact() -> None:
    table = Table(np.array([0.25]), np.array([0]), np.array([4000.0]))
    seen = estimate.estimated(confusion.precision, np.array([[0.0], [400.0]]), table)
    assert seen.value == pytest.approx(0.25)
