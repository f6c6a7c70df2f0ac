"""Same inputs, same numbers: NannyML, Evidently and river, each in the environment that it needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from holdtrue_local import foreign
from holdtrue_stats import confusion, divergence, estimate, gates, histogram, ranking, twosample
from holdtrue_stats.calibration import SCORE_BINS, fit_isotonic, score_bin
from holdtrue_stats.histogram import State, fold, freeze

if TYPE_CHECKING:
    from pathlib import Path

MISSING = foreign.missing("peers")
pytestmark = [pytest.mark.peers, pytest.mark.timeout(600), pytest.mark.skipif(bool(MISSING), reason=MISSING)]


def ask(task: str, folder: Path, **inputs: Any) -> dict[str, Any]:
    path = folder / "inputs.npz"
    np.savez(path, **inputs)
    return foreign.ask("peers", task, path)


def performance(n: int, seed: int, *, calibrated: bool) -> dict[str, np.ndarray]:
    """Reference and current scores, distinct, and labels that follow them, or lie far from them."""
    g = np.random.default_rng(seed)
    reference, score = g.beta(1, 2, 6000), g.beta(1.3, 2, n)
    truth = reference if calibrated else 1 / (1 + np.exp(-(8 * reference - 4)))
    both = {"reference": reference, "reference_flagged": reference >= 0.5, "score": score, "flagged": score >= 0.5}
    return both | {"y": g.random(6000) < truth}


def estimated(p: np.ndarray, order: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    """Our figures with one bin per row, which makes them exact."""
    bins = np.argsort(np.argsort(order, kind="stable"))
    table, score = np.zeros(len(p)), np.zeros((2, len(p)))
    table[bins] = p
    score[flagged.astype(int), bins] = 1
    cells = estimate.cbpe(score, table)
    found = {m.name: m(cells) for m in confusion.MEASURES}
    rows = score.sum(0)
    found["roc_auc"] = ranking.auc(rows * table, rows * (1 - table)).value
    return found


@pytest.mark.parametrize("calibrated", [True, False])
def test_estimated_performance_equals_nannyml(tmp_path: Path, calibrated: bool) -> None:  # noqa: FBT001
    inputs = performance(20_000, 3, calibrated=calibrated)
    theirs = ask("cbpe", tmp_path, **inputs)
    mapping = fit_isotonic(inputs["reference"], inputs["y"])
    p = mapping(inputs["score"]) if theirs["calibrated"] else inputs["score"]
    ours = estimated(p, inputs["score"], inputs["flagged"])
    assert theirs["calibrated"] or calibrated
    for name in ("precision", "recall", "f1", "accuracy", "specificity"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-9), name
    assert ours["roc_auc"] == pytest.approx(theirs["roc_auc"], abs=1e-8)  # it rounds its counts to five digits

    table = mapping.table() if theirs["calibrated"] else None
    middle = (np.arange(SCORE_BINS) + 0.5) / SCORE_BINS
    binned = np.zeros((2, SCORE_BINS))
    np.add.at(binned, (inputs["flagged"].astype(int), score_bin(inputs["score"])), 1)
    cells = estimate.cbpe(binned, middle if table is None else table.p)
    for measure in confusion.MEASURES:
        assert measure(cells) == pytest.approx(theirs[measure.name], abs=1e-4), measure.name


def test_calibration_error_equals_nannyml(tmp_path: Path) -> None:
    g = np.random.default_rng(4)
    score = g.random(1500)
    y = g.random(1500) < score**2
    theirs = ask("calibration", tmp_path, score=score, y=y)
    perfect = np.where(y, 1.0, 0.0)  # its own error is 0, so the difference is the other's
    assert gates.ece_difference(y, perfect, score) == pytest.approx(theirs["ece"], abs=1e-12)


def test_distances_equal_nannyml_and_evidently(tmp_path: Path) -> None:
    g = np.random.default_rng(5)
    reference, current = g.binomial(9, 0.4, 4000), g.binomial(9, 0.45, 1500)
    theirs = ask("univariate", tmp_path, reference=reference, current=current)
    edges = freeze(np.arange(10.0)[:, None])
    states = [fold(edges, side[:, None], State.empty(edges)) for side in (reference, current)]
    r, c = (state.hist[:, :-1] for state in states)
    sums = [histogram.sums(edges, state) for state in states]
    ours = {
        "js": divergence.js(r, c)[0],
        "hellinger": divergence.hellinger(r, c)[0],
        "linf": divergence.linf(r, c)[0],
        "ks": twosample.ks(r, c)[0][0],
    }
    wasserstein = divergence.wasserstein(r, c, *sums)[0]
    for name, value in ours.items():
        assert value == pytest.approx(theirs["nannyml"][name], abs=1e-9), name
    assert wasserstein == pytest.approx(theirs["nannyml"]["wasserstein"], abs=1e-4)  # sums are of 16 binary digits
    assert wasserstein / reference.std() == pytest.approx(theirs["evidently"]["wasserstein_per_std"], abs=1e-4)
    nats = math.sqrt(math.log(2))  # Evidently's logarithm is the natural one
    assert ours["js"] * nats == pytest.approx(theirs["evidently"]["js"], abs=1e-9)
    assert ours["hellinger"] == pytest.approx(theirs["evidently"]["hellinger"], abs=1e-9)
    assert twosample.ks(r, c)[1][0] == pytest.approx(theirs["evidently"]["ks_p"], rel=0.06, abs=1e-9)
    present = r[:, (r[0] > 0) & (c[0] > 0)], c[:, (r[0] > 0) & (c[0] > 0)]
    if all((side >= 10).all() for side in present):  # no bin is pooled: the definitions agree
        assert twosample.chi2(*present)[0][0] == pytest.approx(theirs["nannyml"]["chi2"], rel=1e-9)


def test_running_figures_equal_river(tmp_path: Path) -> None:
    g = np.random.default_rng(6)
    x, y = g.normal(3, 2, 3000).astype(np.float32), g.random(3000) < 0.3
    flagged = g.random(3000) < np.where(y, 0.8, 0.2)
    theirs = ask("river", tmp_path, current=x, y=y, flagged=flagged)
    edges = freeze(x[:, None])
    state = fold(edges, x[:, None], State.empty(edges))
    scale = 1 / edges.inv_scale[0]
    mean = state.bin_sum.sum() / 65536 / 3000
    assert histogram.sums(edges, state).sum() / 3000 == pytest.approx(theirs["mean"], abs=1e-4)
    assert (state.sq_sum[0] / 65536 / 3000 - mean**2) * scale**2 == pytest.approx(theirs["variance"], rel=1e-4)
    cells = np.zeros((2, 2))
    np.add.at(cells, (flagged.astype(int), y.astype(int)), 1)
    seen = confusion.binary(cells)
    for measure in (confusion.precision, confusion.recall, confusion.f1):
        assert measure(seen) == pytest.approx(theirs[measure.name], abs=1e-12)
