"""The canonical order of rows, and how to get there without sorting what is in order already."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

IDENTITY = ("_part", "_off", "_row")
"""Columns that identify a row; the canonical order sorts by them."""


def canonical(rows: pa.Table) -> pa.Table:
    """Return the rows in canonical order.

    Chunks, which come from one file each, hold runs of ordered rows: where the runs do not overlap they are only put in
    order, without copying a row.
    """
    if not rows.num_rows:
        return rows
    keys = [rows.column(name).to_numpy() for name in IDENTITY]
    descents = np.flatnonzero(_descends(keys)) + 1
    if not len(descents):
        return rows
    ends = np.cumsum([len(chunk) for chunk in rows.column(IDENTITY[0]).chunks])
    starts: list[int] = np.union1d([0, *ends], descents).tolist()
    runs = sorted(pairwise(starts), key=lambda run: _key(keys, run[0]))
    if any(_key(keys, left[1] - 1) >= _key(keys, right[0]) for left, right in pairwise(runs)):
        return rows.sort_by([(name, "ascending") for name in IDENTITY])
    return pa.concat_tables([rows.slice(start, end - start) for start, end in runs])


def _key(keys: Sequence[NDArray[Any]], row: int) -> tuple[int, ...]:
    return tuple(int(key[row]) for key in keys)


def _descends(keys: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Tell for each row but the last whether its successor comes before it in canonical order."""
    result = np.zeros(len(keys[0]) - 1, np.bool_)
    for key in reversed(keys):
        result = (key[1:] < key[:-1]) | ((key[1:] == key[:-1]) & result)
    return result
