"""The gate's error rates by simulation, with truths from closed forms.

Scores of positives are normal around 1.2, of negatives around -0.2, with variance 1 shared by both models and 0.25 of
each model's own; the candidate's means are moved together by `drop`. A row is flagged above 0.8.
"""

from __future__ import annotations

from collections import Counter
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from holdtrue_stats import gates
from holdtrue_stats.gates import Outcome
from scipy.optimize import brentq

SPREAD = 1.25**0.5
PHI = NormalDist().cdf


def precision(drop: float) -> float:
    flagged = [0.3 * PHI((1.2 - drop - 0.8) / SPREAD), 0.7 * PHI((-0.2 + drop - 0.8) / SPREAD)]
    return flagged[0] / sum(flagged)


def auc(drop: float) -> float:
    return PHI((1.4 - 2 * drop) / (SPREAD * 2**0.5))


def drop_for(measure: str, loss: float) -> float:
    """The drop at which the candidate is truly worse by `loss`."""
    truth = {"precision": precision, "auc": auc}[measure]
    root: Any = brentq(lambda drop: truth(0) - truth(drop) - loss, 0, 0.7)  # pyright: ignore[reportUnknownLambdaType]
    return float(root)


def judged(n: int, drop: float, margins: dict[str, float], repeats: int, seed: int = 7) -> Counter[tuple[str, str]]:
    """Outcomes by check, and how often a raw comparison of precision rejects."""
    rng, found = np.random.default_rng(seed), Counter[tuple[str, str]]()
    for repeat in range(repeats):
        y = rng.random(n) < 0.3
        base = np.where(y, rng.normal(1.2, 1, n), rng.normal(-0.2, 1, n))
        a, b = base + rng.normal(0, 0.5, n), base + rng.normal(0, 0.5, n) - drop * np.where(y, 1, -1)
        cells = np.bincount((a > 0.8) * 4 + (b > 0.8) * 2 + y, minlength=8)
        found["raw", "fail"] += bool(gates.precision_difference(cells) < 0)
        if "precision" in margins:
            found["precision", gates.precision_noninferior(cells, margins["precision"], repeat).outcome] += 1
        if "auc" in margins:
            found["auc", gates.auc_noninferior(y, a, b, margins["auc"]).outcome] += 1
    return found


PASSES = [
    (500, {"precision": 0.05, "auc": 0.02}, {"precision": 0.52, "auc": 0.39}),
    (2000, {"precision": 0.05, "auc": 0.02}, {"precision": 0.95, "auc": 0.87}),
    (2000, {"precision": 0.02, "auc": 0.01}, {"precision": 0.39, "auc": 0.41}),
    (10_000, {"precision": 0.02, "auc": 0.01}, {"precision": 0.92, "auc": 0.95}),
]


@pytest.mark.parametrize(("n", "margins", "expected"), PASSES)
def test_equal_models_pass_as_often_as_designed(n: int, margins: dict[str, float], expected: dict[str, float]) -> None:
    repeats = 200 if n < 10_000 else 100
    found = judged(n, 0.0, margins, repeats)
    for check, share in expected.items():
        noise = 3 * (share * (1 - share) / repeats) ** 0.5
        assert found[check, Outcome.PASS] / repeats == pytest.approx(share, abs=0.04 + noise)
        assert found[check, Outcome.FAIL] == 0
    assert 0.35 <= found["raw", "fail"] / repeats <= 0.6


@pytest.mark.parametrize("check", ["precision", "auc"])
def test_a_candidate_worse_by_the_margin_passes_rarely(check: str) -> None:
    margin = {"precision": 0.05, "auc": 0.02}[check]
    found = judged(1500, drop_for(check, margin), {check: margin}, 400)
    assert found[check, Outcome.PASS] / 400 <= 0.06 + 0.03
    assert found[check, Outcome.FAIL] / 400 <= 0.06 + 0.03


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("check", ["precision", "auc"])
@pytest.mark.parametrize("n", [500, 2000, 10_000])
def test_error_rates_at_the_margin_long(check: str, n: int) -> None:
    margin, repeats = {"precision": 0.05, "auc": 0.02}[check], 3000
    found = judged(n, drop_for(check, margin), {check: margin}, repeats, seed=n)
    assert found[check, Outcome.PASS] / repeats <= 0.06
    assert found[check, Outcome.FAIL] / repeats <= 0.06


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("n", "margins", "expected"), PASSES)
def test_equal_models_long(n: int, margins: dict[str, float], expected: dict[str, float]) -> None:
    found = judged(n, 0.0, margins, 1000, seed=11)
    for check, share in expected.items():
        assert found[check, Outcome.PASS] / 1000 == pytest.approx(share, abs=0.06)
    assert 0.45 <= found["raw", "fail"] / 1000 <= 0.55


def few_flagged(rng: np.random.Generator, flagged: int, champion: float, candidate: float) -> np.ndarray:
    """Cells of two precise models that flag few rows, half of them in common."""
    both = (champion + candidate) / 2
    own = 2 * champion - both, 2 * candidate - both
    counts = np.zeros(8, np.int64)
    for cell, share in ((6, both), (4, min(1.0, own[0])), (2, min(1.0, own[1]))):
        n = rng.poisson(flagged / 2)
        counts[cell + 1] = right = rng.binomial(n, share)
        counts[cell] = n - right
    counts[:2] = 3 * flagged, flagged
    return counts


@pytest.mark.parametrize(("flagged", "champion"), [(40, 0.8), (40, 0.95), (100, 0.9), (100, 0.97)])
def test_precise_models_that_flag_few_rows_do_not_slip_through(flagged: int, champion: float) -> None:
    rng, repeats = np.random.default_rng(5), 500
    outcomes = [
        gates.precision_noninferior(few_flagged(rng, flagged, champion, champion - 0.05), 0.05, seed).outcome
        for seed in range(repeats)
    ]
    assert outcomes.count(Outcome.PASS) / repeats <= 0.06 + 0.03
