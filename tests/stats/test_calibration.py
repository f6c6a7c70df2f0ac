"""Calibration error, Brier score and log loss against scikit-learn and their definitions; the test of validity."""

import numpy as np
import pytest
from holdtrue_stats import calibration
from holdtrue_stats.arrays import Bools, Floats, Ints
from holdtrue_stats.calibration import Map, Table, brier, ece, fit_isotonic, log_loss, score_bin
from holdtrue_stats.ranking import by_score
from holdtrue_stats.result import Status
from holdtrue_stats.validity import FIRST_LOOK, PROBATION, SIGNIFICANT, Watch, residual_test
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn import metrics

World = tuple[float, float, float, float]
"""Parameters of the scores' beta distribution, slope and place of P(y = 1 | score)."""
USUAL: World = (1, 2, 8, 4)
RARE: World = (1, 6, 8, 4)
STEEP: World = (2, 2, 12, 2)


def draw(n: int, world: World, g: np.random.Generator) -> tuple[Floats, Bools]:
    a, b, slope, place = world
    score = g.beta(a, b, n)
    return score, g.random(n) < 1 / (1 + np.exp(-(slope * score - place)))


def cells(score: Floats, y: Bools, threshold: float = 0.5) -> Ints:
    counts = np.zeros((2, 2, 1024), np.int64)
    np.add.at(counts, ((score >= threshold).astype(int), y.astype(int), score_bin(score)), 1)
    return counts


scored = st.integers(2, 60).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=st.floats(0, 1)), arrays(np.bool_, n))
)


@given(scored)
def test_losses_equal_scikit_learn(example: tuple[Floats, Bools]) -> None:
    p, y = example
    rows = by_score(p, y)
    assert brier(rows.labelled, rows.score).value == pytest.approx(metrics.brier_score_loss(y, p, pos_label=True))
    expected = metrics.log_loss(y, p, labels=[False, True])
    assert log_loss(rows.labelled, rows.score).value == pytest.approx(expected, rel=1e-9)


def test_ece_equals_its_definition_on_equal_groups() -> None:
    g = np.random.default_rng(1)
    p = np.sort(g.random(1500))
    y = g.random(1500) < p**2
    rows = by_score(p, y)
    parts = np.split(np.arange(1500), 15)
    assert ece(rows.labelled, rows.score).value == pytest.approx(
        np.mean([abs(y[i].mean() - p[i].mean()) for i in parts])
    )


@pytest.mark.parametrize("bend", [1.0, 1.5])
@pytest.mark.parametrize("runs", [200, pytest.param(3000, marks=pytest.mark.long)])
def test_intervals_cover(bend: float, runs: int) -> None:
    g = np.random.default_rng(2)
    grid = (np.arange(1024) + 0.5) / 1024
    true_ece = float(np.abs(grid.reshape(-1, 64).mean(1) - (grid**bend).reshape(-1, 64).mean(1)).mean())
    true_brier = float((grid**bend * (1 - grid) ** 2 + (1 - grid**bend) * grid**2).mean())
    hits = np.zeros(2)
    for _ in range(runs):
        place = g.integers(0, 1024, 2000)
        y = g.random(2000) < grid[place] ** bend
        counts = np.stack([np.bincount(place[y == label], minlength=1024) for label in (0, 1)])
        seen = ece(counts, grid, size=16), brier(counts, grid)
        hits += [s.lower <= t <= s.upper for s, t in zip(seen, (true_ece, true_brier), strict=True)]
    chance = 3 * (0.93 * 0.07 / runs) ** 0.5  # what so few runs may fall short of a true 93 %
    assert (hits / runs >= 0.93 - chance).all()


def test_losses_of_nothing_are_insufficient_and_of_unknown_probabilities_invalid() -> None:
    for loss in (brier, ece, log_loss):
        assert loss(np.zeros((2, 8)), np.full(8, np.nan)).status is Status.INSUFFICIENT
        assert loss(np.zeros((2, 0)), np.zeros(0)).status is Status.INSUFFICIENT
        assert loss(np.ones((2, 2, 8)), np.full(8, np.nan)).status is Status.INVALID
    one = brier(np.array([[0, 0], [1, 0]]), np.array([0.5, 0.5]))
    assert (one.status, one.value, one.needed_n) == (Status.INSUFFICIENT, 0.25, 1)


def test_scores_and_labels_without_a_number_are_left_out_of_the_map() -> None:
    clean = fit_isotonic([0.1, 0.2, 0.3], [0, 1, 1])
    dirty = fit_isotonic([0.1, np.nan, 0.2, 0.3, np.inf, 0.5], [0, 1, 1, 1, 0, np.nan])
    assert np.array_equal(clean(np.linspace(0, 1, 9)), dirty(np.linspace(0, 1, 9)))
    assert score_bin([np.nan, -np.inf, np.inf, 1e300]).tolist() == [0, 0, 1023, 1023]


def test_the_variance_of_a_block_is_that_of_its_labels() -> None:
    p, blocks, m = np.array([0.2, 0.4, 1.0]), np.array([0, 0, 2]), np.array([9.0, 5.0, 4.0])
    variance = calibration.block_variance(p, blocks, m, np.array([1.0, 3.0, 2.0]))
    mixed, pure = (9 * 0.35 + 0.5) / 10, 4.5 / 5
    assert variance == pytest.approx([mixed * (1 - mixed) / 9, 0, pure * (1 - pure) / 4])


def flat(p: float, labels: float) -> Table:
    """A map with one block."""
    return Table(np.full(8, p), np.zeros(8, np.int64), np.array([labels]))


def test_the_residual_test_of_one_block_equals_its_formula() -> None:
    counts = np.zeros((2, 2, 8), np.int64)
    counts[0, :, 2], counts[1, :, 6] = (60, 30), (10, 20)
    seen = residual_test(counts, flat(0.4, 500.0))
    z2 = stats.norm.ppf(1 - SIGNIFICANT / 2) ** 2
    error = (500 * 0.24 + z2 / 4) / (500 + z2) ** 2
    chance = (500 * 0.4 + z2 / 2) / (500 + z2)

    def p_value(positives: int, n: int) -> float:
        z = (positives - 0.4 * n) / np.sqrt(n * chance * (1 - chance) + n * n * error)
        return float(2 * stats.norm.sf(abs(z)))

    assert (seen.p_all, seen.p_flagged) == pytest.approx((p_value(50, 120), p_value(20, 30)))
    assert np.isnan(seen.p_scores)  # one block is one group
    assert seen.value == pytest.approx(50 / 120 - 0.4)
    assert seen.lower < seen.value < seen.upper
    assert seen.ok


def test_too_few_or_too_certain_labels_say_how_many_are_needed() -> None:
    counts = np.zeros((2, 2, 8), np.int64)
    counts[0, 0, 2] = FIRST_LOOK - 1
    assert (residual_test(counts, flat(0.5, 500)).status, residual_test(counts, flat(0.5, 500)).needed_n) == (
        Status.INSUFFICIENT,
        1,
    )
    counts[0, 0, 2] = 100
    certain = residual_test(counts, flat(0.01, 500))
    assert (certain.status, certain.needed_n) == (Status.INSUFFICIENT, 406)  # 5 / (.01 · .99) rows in all
    assert "406 more" in certain.reason
    assert residual_test(counts, flat(1.0, 500)).needed_n == 0
    assert residual_test(counts, fit_isotonic([], []).table(8)).status is Status.INSUFFICIENT


def looks(watch: Watch, stream: tuple[Floats, Bools], table: Table, sizes: range) -> list[Watch]:
    score, y = stream
    seen: list[Watch] = []
    for n in sizes:
        watch = watch.step(cells(score[:n], y[:n]), table)
        seen.append(watch)
    return seen


def test_a_watch_tests_at_doubling_numbers_and_ends_after_labels_without_significance() -> None:
    g = np.random.default_rng(5)
    table = fit_isotonic(*draw(8000, USUAL, g)).table()
    good, bad = draw(1000, USUAL, g), draw(400, (1, 2, 8, 6.5), g)
    score, y = (np.r_[a, b, a] for a, b in zip(good, bad, strict=True))
    seen = looks(Watch(), (score, y), table, range(10, 2400, 10))
    tested = [(w.last.n, w.invalid) for w in seen if w.last]
    assert [n for n, invalid in dict.fromkeys(tested) if not invalid][:5] == [50, 100, 200, 400, 800]
    first = next(i for i, w in enumerate(seen) if w.invalid)
    assert 1000 < 10 * (first + 1) <= 1700
    ends = next(i for i in range(first, len(seen)) if not seen[i].invalid)
    assert 10 * (ends - first) == PROBATION
    assert not seen[-1].invalid
    last = seen[first].last
    assert last is not None
    assert "contradict the estimate" in last.reason


def test_a_watch_stays_invalid_while_labels_contradict() -> None:
    g = np.random.default_rng(6)
    table = fit_isotonic(*draw(8000, USUAL, g)).table()
    seen = looks(Watch(), draw(3000, (1, 2, 8, 6.5), g), table, range(50, 3000, 50))
    first = next(i for i, w in enumerate(seen) if w.invalid)
    assert first <= 3
    assert all(w.invalid for w in seen[first:])


def alarms(labels: int, reference: World, stream: World, runs: int, total: int = 12_800) -> float:
    """The share of streams that are called invalid at any look."""
    hits = 0
    for seed in range(runs):
        g = np.random.default_rng(seed)
        table = fit_isotonic(*draw(labels, reference, g)).table()
        score, y = draw(total, stream, g)
        sizes = [FIRST_LOOK * 2**k for k in range(9)]
        hits += any(residual_test(cells(score[:n], y[:n]), table).status is Status.INVALID for n in sizes if n <= total)
    return hits / runs


@pytest.mark.parametrize(
    ("labels", "reference", "stream"),
    [
        (2000, USUAL, USUAL),
        (2000, USUAL, (3, 2, 8, 4)),
        (2000, USUAL, (1, 5, 8, 4)),
        (10_000, USUAL, (3, 2, 8, 4)),
        (3000, RARE, RARE),
        (3000, RARE, (2, 4, 8, 4)),
        (3000, STEEP, (1, 3, 12, 2)),
    ],
)
@pytest.mark.parametrize("runs", [25, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_clean_and_covariate_shifted_labels_are_seldom_called_invalid(
    labels: int, reference: World, stream: World, runs: int
) -> None:
    assert alarms(labels, reference, stream, runs) <= (0.02 if runs >= 1000 else 0.04)


@pytest.mark.parametrize(("place", "total"), [(6.0, 400), (4.5, 3200)])
def test_concept_drift_is_found(place: float, total: int) -> None:
    assert alarms(3000, USUAL, (1, 2, 8, place), 15, total) == 1.0


def test_a_map_survives_its_bytes() -> None:
    fitted = fit_isotonic(*draw(500, USUAL, np.random.default_rng(1)))
    again = Map.from_bytes(fitted.to_bytes())
    assert again.n == 500
    assert np.array_equal(again.table().p, fitted.table().p)
