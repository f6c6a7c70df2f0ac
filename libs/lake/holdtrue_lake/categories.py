"""How often each category was seen, without keeping those by value that single people could be told by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from holdtrue_lake import sketch

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from holdtrue_lake.sketch import Hashes

    Ints = npt.NDArray[np.int64]

NAMED_FROM = 5
"""A category that was seen fewer times is not stored by value."""
MOST = 4096
"""Categories of a column that are counted one by one; a column that has more is only estimated in its number."""


@dataclass(frozen=True, slots=True, eq=False)
class Categories:
    """`hashes` [m], ascending, and their `counts` [m, groups]; `names` of those seen often enough at once.

    `many` tells that there were more than `MOST`, and none is kept.
    """

    hashes: Hashes
    counts: Ints
    names: dict[int, str] = field(default_factory=dict[int, str])
    many: bool = False

    @classmethod
    def nothing(cls, groups: int, *, many: bool = False) -> Self:
        """Return the categories of no rows, or of too many values."""
        return cls(np.empty(0, np.uint64), np.zeros((0, groups), np.int64), {}, many)

    def __add__(self, other: Categories) -> Categories:
        """Return the categories of both. Counts never depend on the grouping of rows; a name needs one side with 5."""
        groups = self.counts.shape[1]
        hashes = np.union1d(self.hashes, other.hashes)
        if self.many or other.many or len(hashes) > MOST:
            return Categories.nothing(groups, many=True)
        counts = np.zeros((len(hashes), groups), np.int64)
        for side in (self, other):
            counts[np.searchsorted(hashes, side.hashes)] += side.counts
        return Categories(hashes, counts, dict(sorted((self.names | other.names).items())))

    def top(self, group: int | None, most: int) -> list[tuple[str | None, int]]:
        """Return the most frequent categories, None for one that was never seen 5 times at once, and their rows."""
        rows = self.counts.sum(1) if group is None else self.counts[:, group]
        first = np.argsort(-rows, kind="stable")[:most]
        return [(self.names.get(int(self.hashes[i])), int(rows[i])) for i in first if rows[i]]


def count(column: pa.ChunkedArray, group: Ints, groups: int, key: bytes) -> tuple[Categories, Hashes]:
    """Return the categories of a text column whose rows belong to `group` [n], and the sketch of their values."""
    encoded: Any = column.combine_chunks().dictionary_encode()
    present = encoded.is_valid().to_numpy(zero_copy_only=False)
    codes = encoded.indices.drop_null().to_numpy().astype(np.int64)
    size = len(encoded.dictionary)
    counts = np.bincount(codes * groups + group[present], minlength=size * groups).reshape(size, groups)
    seen = np.flatnonzero(counts.sum(1))  # a dictionary may hold values of rows that were cut off
    values: list[str] = encoded.dictionary.take(seen).to_pylist()
    hashes = np.fromiter((_hash(value, key) for value in values), np.uint64, len(values))
    distinct = sketch.of_hashes(hashes)
    if len(hashes) > MOST:
        return Categories.nothing(groups, many=True), distinct
    order, rows = np.argsort(hashes), counts[seen].astype(np.int64)
    named: dict[int, str] = {int(hashes[i]): values[i] for i in order if rows[i].sum() >= NAMED_FROM}
    return Categories(hashes[order], rows[order], named), distinct


def _hash(value: str, key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8, key=key).digest(), "little")
