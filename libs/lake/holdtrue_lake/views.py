"""What checks read and what they answer: columns of a batch, rules that are functions on them, rows that break them.

NaN is null here: a column is cleaned when it is first read, so that no comparison meets a NaN. And unknown is never
passed on: a check answers with a plain mask, after it has decided what a null means to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from holdtrue_lake.faults import Code, Outcome
from holdtrue_lake.texts import few_texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_lake.payload import Mask

MOST_ROWS_NAMED = 100
"""Rows that an outcome names; it counts all."""


@dataclass(frozen=True)
class Finding:
    """Rows that break one rule. `columns` are those that it reads; `column` is empty if they are several."""

    column: str
    code: Code
    expected: str
    rows: Mask
    secret: bool = False
    rule: str = ""
    columns: tuple[str, ...] = ()

    def outcome(self) -> Outcome:
        """Count the rows, and name the first."""
        rows = np.flatnonzero(self.rows)
        return Outcome(
            self.rule, self.code, self.column, self.expected, len(rows), tuple(rows[:MOST_ROWS_NAMED].tolist())
        )


@dataclass(frozen=True)
class Check:
    """A compiled rule; `broken` gives the rows that break it, None if none does."""

    rule: str
    code: Code
    columns: tuple[str, ...]
    expected: str
    broken: Callable[[View], Mask | None]
    secret: bool = False


class View:
    """Columns of one batch as checks read them: one array each, null where a float is NaN."""

    def __init__(self, rows: int, column: Callable[[str], pa.Array | pa.ChunkedArray]) -> None:
        """Read columns by `column` when a check needs them; `bad` marks rows that are known to break a rule.

        Uniqueness is judged among the `candidates`.
        """
        self.rows = rows
        self.bad = np.zeros(rows, np.bool_)
        self.candidates = np.ones(rows, np.bool_)
        self._column = column
        self._values: dict[str, pa.Array] = {}
        self._extents: dict[str, tuple[Any, Any] | None] = {}
        self._few: dict[str, pa.Array | None] = {}

    def values(self, name: str) -> pa.Array:
        """Return the column with null for NaN."""
        if name not in self._values:
            array, self._extents[name] = _cleaned(one_array(self._column(name)))
            self._values[name] = array
        return self._values[name]

    def few(self, name: str) -> pa.Array | None:
        """Return the different values of a column of few, short texts; None where only a scan can tell."""
        if name not in self._few:
            self._few[name] = few_texts(self.values(name))
        return self._few[name]

    def extent(self, name: str) -> tuple[Any, Any] | None:
        """Smallest and largest value, of a column of numbers without nulls; None where only a scan can tell."""
        self.values(name)
        return self._extents[name]


def one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, with plain values: dictionary encoding is how it travels, not what it means."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def true(array: pa.Array) -> Mask:
    """Mask of what is true; null is not."""
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False)


def some(array: pa.Array) -> Mask | None:
    """Mask of what is true, None if nothing is."""
    return true(array) if array.true_count else None


def without_nan(array: pa.Array) -> pa.Array:
    """Null for NaN."""
    if not pa.types.is_floating(array.type) or not pc.any(pc.is_nan(array)).as_py():
        return array
    return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)


def _cleaned(array: pa.Array) -> tuple[pa.Array, tuple[Any, Any] | None]:
    """Null for NaN, and the extent if it is free of nulls."""
    kind = array.type
    if not len(array) or array.null_count or not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        return without_nan(array), None
    numbers = array.to_numpy()
    low, high = numbers.min(), numbers.max()
    if low != low:  # noqa: PLR0124  a NaN among them makes it NaN
        return without_nan(array), None
    return array, (low.item(), high.item())
