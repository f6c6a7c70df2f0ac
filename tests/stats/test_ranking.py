"""AUC, average precision and thresholds against scikit-learn and brute force."""

import numpy as np
import pytest
from holdtrue_stats import ranking
from holdtrue_stats.arrays import Bools, Floats
from holdtrue_stats.calibration import score_bin
from holdtrue_stats.gates import delong
from holdtrue_stats.interval import macro, z_value
from holdtrue_stats.result import Status
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

rows = st.integers(2, 80).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]) | st.floats(0, 1)),
        arrays(np.bool_, n),
        st.floats(0, 1),
    )
)


@given(rows)
def test_values_equal_scikit_learn(example: tuple[Floats, Bools, float]) -> None:
    score, y, _ = example
    counted = ranking.by_score(score, y)
    if y.any() and not y.all():
        assert ranking.auc(counted.pos, counted.neg).value == pytest.approx(metrics.roc_auc_score(y, score), abs=1e-12)
    if y.any():
        seen = ranking.average_precision(counted.pos, counted.neg)
        assert seen.value == pytest.approx(metrics.average_precision_score(y, score), abs=1e-12)
        assert seen.lower <= seen.value <= seen.upper


def draw(n: int, shift: float, base: float, seed: int) -> tuple[Floats, Bools]:
    g = np.random.default_rng(seed)
    y = g.random(n) < base
    return g.normal(size=n) + shift * y, y


def test_the_auc_has_delongs_interval_on_the_logit() -> None:
    score, y = draw(4000, 1.0, 0.3, 1)
    value, covariance = delong(y, score[None])
    seen = ranking.auc(*ranking.by_score(score, y)[:2])
    half = z_value(0.95) * float(np.sqrt(covariance[0, 0])) / (value[0] * (1 - value[0]))
    logit = np.log(value[0] / (1 - value[0]))
    assert (seen.lower, seen.upper) == pytest.approx(
        tuple(1 / (1 + np.exp(-(logit + np.array([-half, half]))))), abs=1e-5
    )


def test_the_gradient_of_the_auc_is_its_derivative() -> None:
    g = np.random.default_rng(3)
    n, p = g.integers(1, 9, 12).astype(float), g.random(12)
    gradient = ranking.auc_gradient(n * p, n * (1 - p))
    for s in range(12):
        moved = [ranking.auc(n * p + e * np.eye(12)[s], n * (1 - p) - e * np.eye(12)[s]).value for e in (1e-6, -1e-6)]
        assert gradient[s] == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-5, abs=1e-9)


def test_1024_bins_cost_little() -> None:
    g = np.random.default_rng(2)
    score = g.beta(1, 2, 30_000)
    y = g.random(30_000) < score
    place = score_bin(score)
    pos, neg = np.bincount(place[y], minlength=1024), np.bincount(place[~y], minlength=1024)
    assert ranking.auc(pos, neg).value == pytest.approx(metrics.roc_auc_score(y, score), abs=5e-5)


@pytest.mark.parametrize(("n", "shift", "base"), [(300, 1.0, 0.3), (1000, 2.0, 0.3), (300, 3.0, 0.3), (2000, 1.0, 0.1)])
@pytest.mark.parametrize("runs", [300, pytest.param(4000, marks=pytest.mark.long)])
def test_intervals_cover(n: int, shift: float, base: float, runs: int) -> None:
    score, y = draw(200_000, shift, base, 0)
    truth = metrics.roc_auc_score(y, score), metrics.average_precision_score(y, score)
    hits = np.zeros(2)
    for seed in range(runs):
        counted = ranking.by_score(*draw(n, shift, base, seed + 1))
        seen = ranking.auc(*counted[:2]), ranking.average_precision(*counted[:2])
        hits += [s.lower <= t <= s.upper for s, t in zip(seen, truth, strict=True)]
    assert (hits / runs >= (0.89 if runs < 1000 else 0.925)).all()


def test_perfect_scores_have_an_interval_too() -> None:
    seen = ranking.auc(np.array([0, 0, 30]), np.array([50, 20, 0]))
    assert (seen.value, seen.upper) == (1.0, 1.0)
    assert 0.8 < seen.lower < 0.95


def test_one_class_is_insufficient_and_says_which_is_missing() -> None:
    assert ranking.auc(np.array([0, 0]), np.array([3, 4])).reason == "no positives"
    assert ranking.auc(np.array([3, 4]), np.array([0, 0])).reason == "no negatives"
    assert ranking.average_precision(np.array([0, 0]), np.array([3, 4])).status is Status.INSUFFICIENT
    assert ranking.average_precision(np.array([3, 4]), np.array([0, 0])).value == 1.0
    assert ranking.auc(np.array([np.inf, 1]), np.array([1, 1])).status is Status.INVALID
    assert np.isnan(ranking.auc_gradient(np.zeros(2), np.ones(2))).all()


def test_classes_are_averaged_as_scikit_learn_does() -> None:
    g = np.random.default_rng(4)
    label = g.integers(0, 3, 400)
    score = g.dirichlet(np.ones(3), 400) + np.eye(3)[label]
    score /= score.sum(1, keepdims=True)
    ours = macro([ranking.auc(*ranking.by_score(score[:, k], label == k)[:2]) for k in range(3)])
    assert ours.value == pytest.approx(metrics.roc_auc_score(label, score, multi_class="ovr"), abs=1e-12)


@given(rows)
def test_threshold_for_a_precision_is_the_lowest_that_reaches_it(example: tuple[Floats, Bools, float]) -> None:
    score, y, wanted = example
    found = ranking.threshold_for(score, y, wanted)
    reaching = [t for t in np.unique(score) if y[score >= t].mean() >= wanted]
    assert found == (min(reaching) if reaching else None)
