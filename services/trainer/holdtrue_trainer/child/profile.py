"""What the monitor will hold the stream against: bins, calibration and importances, all from the hold-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_contracts.columns import pack
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.prediction_id import CODES, ScoreMap, score_code
from holdtrue_contracts.trainer.v1.profile_pb2 import ReferenceProfile
from holdtrue_stats import calibration, histogram
from holdtrue_stats.calibration import SCORE_BINS

from holdtrue_trainer.domain.evaluation import Evaluation, Scored, log_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_contracts.common.v1.columns_pb2 import Column as Packed
    from holdtrue_models.signature import Column
    from holdtrue_stats.arrays import Bools, Float32s, Floats

    from holdtrue_trainer.child.data import Rows

CROWDED_CODES = 16
"""Scores crowd if more than half of them fall in so many codes: then codes are spread by the logit."""
IMPORTANCE_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Reference:
    """A model on its hold-out: rows, scores and their evaluation, and the importance of each column [d]."""

    holdout: Rows
    scored: Scored
    evaluation: Evaluation
    importances: Floats
    threshold: float

    @property
    def score_map(self) -> ScoreMap:
        """The map that keeps these scores apart in prediction ids."""
        counts = np.sort(np.bincount(score_code(self.scored.score, "identity"), minlength=CODES))
        return "logit" if counts[-CROWDED_CODES:].sum() * 2 > len(self.scored.score) else "identity"

    def profile(self) -> ReferenceProfile:
        """Return what the monitor needs. Bins of scores are bins of their codes: code // 4."""
        rows, judged = self.holdout, self.evaluation.metrics
        edges = histogram.freeze(rows.x)
        # A single fold is over long before a compiled one has been loaded.
        state = histogram.fold_numpy(edges, rows.x, histogram.State.empty(edges))
        return ReferenceProfile(
            columns=[_spec(column) for column in rows.columns],
            state=state.to_bytes(),
            edges=edges.to_bytes(),
            rows=len(rows),
            **self._scores(),
            importances=pack(self.importances),
            precision=judged.get("precision", np.nan),
            base_rate=judged["base_rate"],
            threshold=self.threshold,
        )

    def _scores(self) -> dict[str, Packed]:
        codes = score_code(self.scored.score, self.score_map)
        bins = codes // (CODES // SCORE_BINS)
        counts = np.bincount(self.scored.flagged * SCORE_BINS + bins, minlength=2 * SCORE_BINS)
        table = calibration.fit_isotonic((codes + 0.5) / CODES, self.holdout.y).table()
        return {
            "score_histogram": pack(counts.reshape(2, -1).astype(np.int64)),
            "calibration": pack(table.p),
            "calibration_blocks": pack(table.blocks.astype(np.int32)),
            "block_labels": pack(table.labels.astype(np.int64)),
        }


def importances(score: Callable[[Float32s], Floats], holdout: Rows, seed: int) -> Floats:
    """Return how much worse the log loss gets when one column is shuffled, as shares that sum to 1 (Breiman 2001)."""
    random = np.random.default_rng(seed)
    rows = random.permutation(len(holdout))[:IMPORTANCE_ROWS]
    x, y = holdout.x[rows], holdout.y[rows]
    base = log_loss(score(x), y)
    loss = np.array([_shuffled_loss(score, x, y, column, random) for column in range(x.shape[1])]) - base
    gain = np.maximum(loss, 0.0)
    return gain / gain.sum() if gain.sum() > 0 else np.full(len(gain), 1 / len(gain))


def _shuffled_loss(
    score: Callable[[Float32s], Floats], x: Float32s, y: Bools, column: int, random: np.random.Generator
) -> float:
    shuffled = x.copy()
    shuffled[:, column] = random.permutation(x[:, column])
    return log_loss(score(shuffled), y)


def _spec(column: Column) -> ColumnSpec:
    return ColumnSpec(name=column.name, dtype=column.dtype, unit=column.unit, pii=column.pii, segment=column.segment)
