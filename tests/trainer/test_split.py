from __future__ import annotations

import numpy as np
import pytest
from holdtrue_trainer.domain.split import DataError, by_digest, by_time, window
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

times = arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 40))
shares = st.floats(0.05, 0.9)


@given(times, shares)
def test_every_row_is_used_once_and_training_comes_first(values: np.ndarray, share: float) -> None:
    try:
        split = by_time(values, share)
    except DataError:
        # nothing is earlier than the border
        assert np.sort(values)[min(len(values) - 1, round(len(values) * (1 - share)))] == values.min()
        return
    assert (split.train ^ split.holdout).all()
    assert split.holdout.any()
    assert values[split.train].max() < values[split.holdout].min()


def test_the_last_share_is_held_out() -> None:
    split = by_time(np.arange(100, dtype=np.int64)[::-1], 0.3)
    assert split.holdout.sum() == 30
    assert split.holdout[:30].all()


def test_rows_of_one_time_cannot_be_split() -> None:
    with pytest.raises(DataError, match="same time"):
        by_time(np.full(10, 5, np.int64), 0.3)


def test_split_by_content_keeps_equal_rows_together_and_stays_the_same_later() -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=(4_000, 3)).astype(np.float32)
    y = random.random(4_000) < 0.5
    first = by_digest(np.vstack([x, x]), np.concatenate([y, y]), 0.3)
    np.testing.assert_array_equal(first.holdout[:4_000], first.holdout[4_000:])
    assert abs(first.holdout.mean() - 0.3) < 0.03
    later = by_digest(np.vstack([x[::-1], x + 1]), np.concatenate([y[::-1], y]), 0.3)
    np.testing.assert_array_equal(later.holdout[:4_000][::-1], first.holdout[:4_000])


@given(times, st.integers(0, 40), st.integers(0, 60))
def test_window_keeps_the_latest_rows(values: np.ndarray, from_ns: int, last_rows: int) -> None:
    mask = window(values, from_ns, last_rows)
    late = values >= from_ns if from_ns else np.ones(len(values), bool)
    assert not (mask & ~late).any()
    kept, dropped = values[mask], values[late & ~mask]
    if len(dropped):
        assert kept.min() > dropped.max()
        assert len(kept) >= last_rows > 0
    if not last_rows:
        assert mask.sum() == late.sum()
