"""Confusion, calibration and estimated performance against scikit-learn."""

import numpy as np
import pytest
from holdtrue_stats import confusion, estimate
from holdtrue_stats.calibration import Map, fit_isotonic, score_bin
from holdtrue_stats.packing import PackingError
from holdtrue_stats.result import Status
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.isotonic import IsotonicRegression

rng = np.random.default_rng(8)


def test_measures_equal_scikit_learn() -> None:
    y, flagged = rng.random(500) < 0.3, rng.random(500) < 0.4
    cells = np.zeros((2, 2), np.int64)
    np.add.at(cells, (flagged.astype(int), y.astype(int)), 1)
    c = confusion.binary(cells)
    assert confusion.precision(c) == pytest.approx(metrics.precision_score(y, flagged))
    assert confusion.recall(c) == pytest.approx(metrics.recall_score(y, flagged))
    assert confusion.f1(c) == pytest.approx(metrics.f1_score(y, flagged))
    assert confusion.accuracy(c) == pytest.approx(metrics.accuracy_score(y, flagged))
    assert confusion.specificity(c) == pytest.approx(metrics.recall_score(~y, ~flagged))


def test_measures_of_nothing_are_nan() -> None:
    nothing = confusion.binary(np.zeros((2, 2, 8), np.int64))
    for measure in (confusion.precision, confusion.recall, confusion.f1, confusion.accuracy, confusion.specificity):
        assert np.isnan(measure(nothing))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1)), min_size=1, max_size=80))
def test_isotonic_map_equals_scikit_learn(rows: list[tuple[int, int]]) -> None:
    score, y = np.array(rows, np.float64).T
    grid = np.linspace(-1, 21, 67)
    exact = IsotonicRegression(out_of_bounds="clip").fit(score, y)
    ours = fit_isotonic(score, y)
    assert np.allclose(ours(grid), exact.predict(grid), atol=1e-9)
    assert ours.n == len(rows)


def test_maps_survive_bytes_and_empty_ones_say_nan() -> None:
    fitted = fit_isotonic(rng.random(100), rng.random(100) < 0.5)
    back = Map.from_bytes(fitted.to_bytes())
    assert np.array_equal(back(np.linspace(0, 1, 50)), fitted(np.linspace(0, 1, 50)))
    assert np.isnan(fit_isotonic([], []).table(8).p).all()
    with pytest.raises(PackingError):
        Map.from_bytes(b"nonsense")


def test_score_bins_are_the_upper_bits_of_the_score_code() -> None:
    score = rng.random(1000).astype(np.float32)
    code = np.minimum(4095, np.floor(score * np.float32(4096))).astype(int)
    assert (score_bin(score) == code >> 2).all()
    assert score_bin([0.0, 1.0]).tolist() == [0, 1023]


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    score = g.beta(1, 2, n)
    truth = 1 / (1 + np.exp(-(8 * score - 4)))
    return score, truth, g.random(n) < truth


def histogram(score: np.ndarray, threshold: float) -> np.ndarray:
    cells = np.zeros((2, 1024), np.int64)
    np.add.at(cells, ((score >= threshold).astype(int), score_bin(score)), 1)
    return cells


def test_cbpe_from_bins_equals_the_per_row_formula() -> None:
    score, _, y = draw(5000, 1)
    mapping = fit_isotonic(score, y)
    current, _, _ = draw(20_000, 2)
    p, flagged = mapping(current), current >= 0.5
    binned = estimate.cbpe(histogram(current, 0.5), mapping.table().p)
    assert confusion.precision(binned) == pytest.approx(p[flagged].mean(), abs=1e-4)
    assert confusion.recall(binned) == pytest.approx(p[flagged].sum() / p.sum(), abs=1e-4)


def test_the_interval_of_estimated_precision_covers_realised_precision() -> None:
    hits = 0
    for seed in range(300):
        score, _, y = draw(3000, 3 * seed)
        current, _, labels = draw(1500, 3 * seed + 1)
        flagged = current >= 0.5
        e = estimate.estimated(confusion.precision, histogram(current, 0.5), fit_isotonic(score, y).table())
        assert e.ok
        hits += e.lower <= labels[flagged].mean() <= e.upper
    assert hits / 300 >= 0.91


def test_cbpe_variance_equals_its_formula_row_by_row() -> None:
    score, _, y = draw(400, 9)
    mapping = fit_isotonic(score, y)
    rows, _, _ = draw(200, 10)
    p, g = mapping(rows), rng.random(200)
    blocks = mapping.block(rows)
    expected = float((g**2 * p * (1 - p)).sum())
    for b in set(blocks.tolist()):
        inside, m = blocks == b, mapping.labels[b]
        smooth = (m * p[inside].mean() + 0.5) / (m + 1)
        expected += g[inside].sum() ** 2 * smooth * (1 - smooth) / m
    assert estimate.cbpe_variance(g, p, blocks, mapping.labels) == pytest.approx(expected)


def test_estimates_that_cannot_be_trusted_say_so() -> None:
    score, _, y = draw(500, 4)
    few = estimate.estimated(confusion.precision, histogram(score, 0.5), fit_isotonic(score, y).table())
    assert (few.status, few.needed_n) == (Status.INSUFFICIENT, 1500)
    assert few.lower < few.value < few.upper
    assert (
        estimate.estimated(confusion.precision, histogram(score, 2.0), fit_isotonic(score, y).table()).status
        is Status.INSUFFICIENT
    )
    assert (
        estimate.estimated(confusion.precision, histogram(score, 0.5), fit_isotonic([], []).table()).status
        is Status.INSUFFICIENT
    )
