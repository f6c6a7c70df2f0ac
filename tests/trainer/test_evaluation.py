"""Metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from holdtrue_stats.gates import precision_difference
from holdtrue_trainer.domain.evaluation import Scored, cells, evaluate
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as oracle

scores = st.integers(2, 80).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=st.floats(0, 1, width=32)), arrays(np.bool_, n), st.floats(0, 1))
)


@given(scores)
def test_metrics_equal_scikit_learn(example: tuple[np.ndarray, np.ndarray, float]) -> None:
    score, y, threshold = example
    scored = Scored.of(score, threshold)
    judged = evaluate(scored, y)
    tn, fp, fn, tp = oracle.confusion_matrix(y, scored.flagged, labels=[False, True]).ravel()
    assert (judged.counts.tp, judged.counts.fp, judged.counts.fn, judged.counts.tn) == (tp, fp, fn, tn)
    expected = {
        "accuracy": oracle.accuracy_score(y, scored.flagged),
        "base_rate": y.mean(),
        "log_loss": oracle.log_loss(y, score, labels=[False, True]),
        "brier": oracle.brier_score_loss(y, score, pos_label=True),
    }
    if scored.flagged.any():
        expected["precision"] = oracle.precision_score(y, scored.flagged)
    if y.any():
        expected["recall"] = oracle.recall_score(y, scored.flagged)
    if not y.all():
        expected["specificity"] = oracle.recall_score(~y, ~scored.flagged)
    if y.any() or scored.flagged.any():
        expected["f1"] = oracle.f1_score(y, scored.flagged)
    if 0 < y.sum() < len(y):
        expected["auc"] = oracle.roc_auc_score(y, score)
    assert judged.metrics == pytest.approx(expected, abs=1e-12)


def test_no_rows_define_nothing() -> None:
    judged = evaluate(Scored.of(np.zeros(0), 0.5), np.zeros(0, bool))
    assert judged.metrics == {}
    assert judged.counts.n == 0


def test_threshold_is_compared_as_the_server_does() -> None:
    score = np.array([np.float64(np.float32(0.1))])
    assert Scored.of(score, 0.1).flagged[0]


def test_cells_are_what_the_gate_reads() -> None:
    random = np.random.default_rng(2)
    champion, candidate, y = (random.random(5_000) < p for p in (0.3, 0.4, 0.2))
    counted = cells(champion, candidate, y)
    assert counted.sum() == 5_000
    difference = y[candidate].mean() - y[champion].mean()
    assert precision_difference(counted) == pytest.approx(difference, abs=1e-12)
