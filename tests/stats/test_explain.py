"""Outliers, fairness, causes, errors of regressions, and distances and quantiles in the unit of the values."""

import numpy as np
import pytest
from holdtrue_stats import divergence, regression
from holdtrue_stats.arrays import Floats, Ints
from holdtrue_stats.cause import rank
from holdtrue_stats.fairness import Rate, gaps
from holdtrue_stats.histogram import Edges, State, fold, freeze, interpolate, quantile, sums
from holdtrue_stats.interval import newcombe
from holdtrue_stats.outlier import Basis, pca_fit, pca_residual, tail_rank
from holdtrue_stats.packing import PackingError, pack
from holdtrue_stats.result import Status
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.decomposition import PCA

rng = np.random.default_rng(11)


def counted(edges: Edges, x: Floats) -> State:
    return fold(edges, x, State.empty(edges))


def moved(edges: Edges, a: Floats, b: Floats) -> Floats:
    r, c = counted(edges, a), counted(edges, b)
    return divergence.wasserstein(r.hist[:, :-1], c.hist[:, :-1], sums(edges, r), sums(edges, c))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_wasserstein_equals_scipy_where_each_value_has_its_bin(a: list[int], b: list[int]) -> None:
    edges = freeze(np.arange(10.0)[:, None])
    exact = stats.wasserstein_distance(a, b)
    assert moved(edges, np.array(a)[:, None], np.array(b)[:, None])[0] == pytest.approx(exact, abs=1e-3)


def test_wasserstein_is_close_to_scipy_on_64_bins() -> None:
    a, b = rng.lognormal(0, 0.5, (20_000, 1)), 3 * rng.lognormal(0.1, 0.6, (5000, 1))
    exact = stats.wasserstein_distance(a[:, 0], b[:, 0])
    assert moved(freeze(a), a, b)[0] == pytest.approx(exact, rel=0.01)
    shift = moved(freeze(a), a, a + 0.25)[0]
    assert shift == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (2, 0)])
def test_distances_are_those_of_the_functions_bit_for_bit(shape: tuple[int, int]) -> None:
    g = np.random.default_rng(5)
    r, c = g.poisson(2, shape), g.poisson(2, shape)
    c[0] = 0
    sums_of = g.normal(size=shape), g.normal(size=shape)
    every = divergence.distances(r, c, *sums_of)
    for name in ("js", "hellinger", "linf", "tvd"):
        np.testing.assert_array_equal(getattr(every, name), getattr(divergence, name)(r, c))
    np.testing.assert_array_equal(every.wasserstein, divergence.wasserstein(r, c, *sums_of))


def test_wasserstein_of_nothing_is_nan_and_of_the_same_0() -> None:
    edges = freeze(rng.normal(size=(500, 2)))
    x = rng.normal(size=(100, 2))
    assert np.isnan(moved(edges, x[:0], x)).all()
    assert moved(edges, x, x) == pytest.approx([0, 0], abs=1e-12)


def test_quantiles_are_within_a_bin_and_exact_for_repeated_values() -> None:
    x = np.c_[rng.normal(5, 2, 20_000), rng.integers(0, 7, 20_000), rng.integers(0, 3, 20_000)]
    edges = freeze(x, kinds=["numeric", "numeric", "categorical"])
    hist = counted(edges, x).hist
    cuts = edges.edges[0, : edges.counts[0]]
    for q in (0.01, 0.3, 0.5, 0.99):
        smooth, ticked, coded = quantile(hist, edges, q)
        place = np.searchsorted(cuts, [smooth, np.quantile(x[:, 0], q)])
        assert abs(np.diff(place))[0] <= 1
        assert abs(smooth - np.quantile(x[:, 0], q)) < (0.1 if 0.1 < q < 0.9 else 2.0)
        assert ticked == pytest.approx(np.quantile(x[:, 1], q), abs=1e-5)
        assert np.isnan(coded)
    assert quantile(hist, edges, 0.0)[0] == pytest.approx(np.float32(x[:, 0].min()), abs=1e-5)
    assert np.isnan(quantile(np.zeros_like(hist), edges, 0.5)).all()
    assert np.isnan(quantile(hist, edges, 1.5)).all()


def test_quantiles_interpolate_inside_a_bin_and_stop_at_infinite_ends() -> None:
    assert interpolate([0, 4, 4], [0.0, 1.0, 2.0, 4.0], 0.75) == pytest.approx(3.0)
    assert interpolate([5, 0, 5], [-np.inf, 1.0, 2.0, np.inf], 0.1) == 1.0
    assert interpolate([5, 0, 5], [-np.inf, 1.0, 2.0, np.inf], 0.9) == 2.0
    assert np.isnan(interpolate([], [0.0], 0.5))


def test_sums_are_those_of_the_values_in_each_bin() -> None:
    x = rng.normal(100, 3, (4000, 1)).astype(np.float32)
    edges = freeze(x)
    place = np.searchsorted(edges.edges[0, : edges.counts[0]], x[:, 0], side="right")
    exact = np.bincount(place, x[:, 0].astype(float), edges.bins)
    assert sums(edges, counted(edges, x.astype(float)))[0] == pytest.approx(exact, abs=0.05)


def test_tail_ranks_are_those_of_the_reference() -> None:
    x = rng.normal(size=(20_000, 2))
    edges = freeze(x)
    ranks = tail_rank(edges, counted(edges, x).hist, x)
    first = np.abs(2 * (stats.rankdata(x, axis=0) - 0.5) / len(x) - 1).max(1)
    assert np.abs(ranks - first).max() < 0.02
    assert tail_rank(edges, counted(edges, x).hist, [[99.0, 0.0], [0.0, -np.inf]]).tolist() == [1.0, 1.0]


def test_tail_ranks_of_repeated_values_categories_and_missing_values() -> None:
    x = np.c_[np.repeat([0.0, 1.0, 2.0], [10, 80, 10]), np.repeat([0.0, 1.0, 2.0], [60, 30, 10])]
    edges = freeze(x, kinds=["numeric", "categorical"])
    hist = counted(edges, x).hist
    nan = np.nan
    rows = [[1, nan], [0, nan], [nan, 0], [nan, 1], [nan, 2], [nan, 7], [nan, nan], [1, 2]]
    assert tail_rank(edges, hist, rows) == pytest.approx([0, 0.9, 0, 0.6, 0.9, 1, nan, 0.9], nan_ok=True)
    assert np.isnan(tail_rank(edges, np.zeros_like(hist), rows)).all()


def test_pca_equals_scikit_learn() -> None:
    x = rng.normal(size=(3000, 6)) @ rng.normal(size=(6, 6)) + 3
    basis = pca_fit(x)
    z = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    exact = PCA(0.65, svd_solver="full").fit(z)
    assert len(basis.components) == exact.n_components_
    assert basis.explained == pytest.approx(exact.explained_variance_ratio_.sum(), rel=1e-4)
    left = np.linalg.norm(z - exact.inverse_transform(exact.transform(z)), axis=1)
    assert pca_residual(basis, x) == pytest.approx(left, abs=1e-3)
    assert (pca_residual(basis, x) > basis.limit).mean() == pytest.approx(0.001, abs=2e-4)


def test_rows_that_break_a_correlation_are_off_the_plane_though_each_value_is_usual() -> None:
    x = rng.normal(size=(5000, 1)) @ np.ones((1, 3)) + 0.1 * rng.normal(size=(5000, 3))
    basis, edges = pca_fit(x), freeze(x)
    odd = np.array([[1.0, -1.0, 1.0]])
    assert pca_residual(basis, odd)[0] > basis.limit
    assert tail_rank(edges, counted(edges, x).hist, odd)[0] < 0.9


def test_a_basis_survives_its_bytes() -> None:
    basis = pca_fit(np.c_[rng.normal(size=(50, 2)), np.full(50, 4.0)])
    again = Basis.from_bytes(basis.to_bytes())
    assert np.array_equal(again.components, basis.components)
    assert (again.limit, again.explained) == (basis.limit, basis.explained)
    with pytest.raises(PackingError, match="not the arrays of a basis"):
        Basis.from_bytes(pack("basis", {"other": np.zeros(3)}))


def _selected(c: Ints) -> tuple[int, int]:
    return c[1].sum(), c.sum()


def _true_positives(c: Ints) -> tuple[int, int]:
    return c[1, 1], c[:, 1].sum()


def _false_positives(c: Ints) -> tuple[int, int]:
    return c[1, 0], c[:, 0].sum()


def test_gaps_are_newcombes_against_all_others() -> None:
    labelled = rng.integers(60, 400, (3, 2, 2, 4))
    found = {(gap.group, gap.rate): gap for gap in gaps(labelled)}
    assert len(found) == 9
    for group in range(3):
        own, rest = labelled[group].sum(2), labelled.sum(0).sum(2) - labelled[group].sum(2)
        for rate, part in (
            (Rate.SELECTION, _selected),
            (Rate.TPR, _true_positives),
            (Rate.FPR, _false_positives),
        ):
            (k1, n1), (k2, n2), gap = part(own), part(rest), found[group, rate]
            exact = newcombe(float(k1), float(n1), float(k2), float(n2))
            assert (gap.value, gap.lower, gap.upper) == (exact.value, exact.lower, exact.upper)
            assert gap.ratio == pytest.approx(min(k1 / n1, k2 / n2) / max(k1 / n1, k2 / n2))


def test_an_unfair_rate_alarms_and_a_small_or_uncertain_gap_does_not() -> None:
    def alarm(first: tuple[int, int], second: tuple[int, int]) -> bool:
        counts = np.zeros((2, 2, 2), np.int64)
        for group, (flagged, n) in enumerate((first, second)):
            counts[group, 1, 1], counts[group, 0, 1] = flagged, n - flagged
        return gaps(counts)[0].alarms

    assert alarm((300, 1000), (600, 1000))
    assert alarm((600, 1000), (300, 1000))
    assert not alarm((570, 1000), (600, 1000))
    assert not alarm((50, 100), (63, 100))
    assert not alarm((3, 90), (60, 100))


def test_calibration_gaps_compare_promise_and_labels() -> None:
    p = np.array([0.2, 0.8])
    counts = np.zeros((2, 2, 2, 2))
    counts[0, 0, :, 0], counts[0, 1, :, 1] = (400, 100), (100, 400)  # as promised
    counts[1, 0, :, 0], counts[1, 1, :, 1] = (300, 200), (50, 450)  # more positives than promised
    gap = gaps(counts, p)[7]
    assert (gap.group, gap.rate, gap.value) == (1, Rate.CALIBRATION, pytest.approx(0.15))
    assert gap.alarms
    assert "0.150 above the others" in gap.reason


def test_a_small_or_single_group_is_insufficient() -> None:
    counts = np.full((2, 2, 2), 10)
    assert {(gap.status, gap.needed_n) for gap in gaps(counts)} == {(Status.INSUFFICIENT, n) for n in (60, 80)}
    assert "60 more rows" in gaps(counts)[0].reason
    (alone, *_) = gaps(np.full((1, 2, 2), 1000))
    assert (alone.status, alone.needed_n) == (Status.INSUFFICIENT, 100)
    assert gaps(np.zeros((0, 2, 2))) == ()


def test_causes_are_ranked_by_effect_times_importance_then_by_time() -> None:
    found = rank([0.5, np.nan, 0.2, 0.2, -1.0], [0.1, 0.5, 0.2, 0.2, 0.0], [3, 1, 9, 4, 2])
    assert [cause.feature for cause in found] == [0, 3, 2, 1, 4]
    assert [cause.weight for cause in found] == pytest.approx([5 / 13, 4 / 13, 4 / 13, 0, 0])
    assert [cause.weight for cause in rank([0.0, np.nan], [1.0, 1.0])] == [0.0, 0.0]
    assert rank([], []) == ()


@pytest.mark.parametrize("error", ["normal", "laplace", "uniform"])
@pytest.mark.parametrize("runs", [300, pytest.param(3000, marks=pytest.mark.long)])
def test_errors_of_a_regression_in_the_unit_of_y_with_intervals_that_cover(error: str, runs: int) -> None:
    g = np.random.default_rng(4)
    hits = np.zeros(3)
    big = getattr(g, error)(size=400_000) + 0.3
    truth = np.abs(big).mean(), np.sqrt((big**2).mean()), big.mean()
    for _ in range(runs):
        y = g.normal(20, 5, 400)
        predicted = y + getattr(g, error)(size=400) + 0.3
        reg = regression.observe(y, predicted, 5.0)
        e = predicted - y
        seen = regression.mae(reg, 5.0), regression.rmse(reg, 5.0), regression.bias(reg, 5.0)
        exact = np.abs(e).mean(), np.sqrt((e**2).mean()), e.mean()
        assert [s.value for s in seen] == pytest.approx(exact, abs=2e-4)
        hits += [s.lower <= t <= s.upper for s, t in zip(seen, truth, strict=True)]
    assert (hits / runs >= 0.92).all(), hits / runs


def test_errors_add_up_and_leave_out_what_is_not_finite() -> None:
    y, predicted = np.array([1.0, 2.0, np.nan, 4.0]), np.array([1.5, np.inf, 3.0, 3.0])
    whole = regression.observe(y, predicted, 2.0)
    parts = regression.observe(y[:1], predicted[:1], 2.0) + regression.observe(y[1:], predicted[1:], 2.0)
    assert (whole == parts).all()
    assert whole[0] == 2
    assert regression.mae(whole, 2.0).value == pytest.approx(0.75)


def test_errors_of_nothing_of_perfection_and_of_no_scale() -> None:
    nothing, perfect = regression.observe([], [], 1.0), regression.observe([1.0, 2.0], [1.0, 2.0], 1.0)
    for measure in (regression.mae, regression.rmse, regression.bias):
        assert measure(nothing, 1.0).status is Status.INSUFFICIENT
        assert (measure(perfect, 1.0).value, measure(perfect, 1.0).ok) == (0.0, True)
        assert measure(perfect, np.nan).status is Status.INVALID
    assert regression.observe([1.0], [2.0], 0.0).tolist() == [0] * 5
