"""Which rows a model learns from and which it is judged on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from holdtrue_stats.arrays import Bools, Float32s, Ints


class DataError(ValueError):
    """The data does not allow the training; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Split:
    """Rows by use, as masks [n]: no row is in both."""

    train: Bools
    holdout: Bools


def window(times: Ints, from_ns: int, last_rows: int) -> Bools:
    """Return the mask of the rows to use: not before `from_ns`, and at most the `last_rows` latest (0: all).

    Rows at the same time as the earliest of the latest rows are kept as well.
    """
    mask = times >= from_ns if from_ns else np.ones(len(times), np.bool_)
    if not last_rows or mask.sum() <= last_rows:
        return mask
    return mask & (times >= np.sort(times[mask])[-last_rows])


def by_time(times: Ints, share: float) -> Split:
    """Train on the earlier rows, judge on the last `share`; rows of one time stay together. Raises DataError."""
    border = np.sort(times)[min(len(times) - 1, round(len(times) * (1 - share)))]
    split = Split(times < border, times >= border)
    if not split.train.any():
        raise DataError(
            "all rows have the same time, so none are earlier than the hold-out; "
            "give the dataset a time column with the time of each event, or none"
        )
    return split


def by_digest(x: Float32s, y: Bools, share: float) -> Split:
    """Judge on the rows whose content hashes below `share`: equal rows stay together, also in later versions."""
    rows = np.ascontiguousarray(np.column_stack([x, y]), "<f4")
    words = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    holdout = np.frombuffer(b"".join(words), "<u8") < share * 2.0**64
    return Split(~holdout, holdout)
