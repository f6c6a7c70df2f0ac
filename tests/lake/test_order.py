from __future__ import annotations

from itertools import pairwise, permutations

import pyarrow as pa
import pytest
from holdtrue_lake.order import IDENTITY, canonical
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)), unique=True, max_size=12)


def as_table(keys: list[tuple[int, int, int]]) -> pa.Table:
    kinds = (pa.int32(), pa.int64(), pa.int32())
    columns = [pa.array([key[index] for key in keys], kind) for index, kind in enumerate(kinds)]
    return pa.table([*columns, pa.array([str(key) for key in keys], pa.string())], [*IDENTITY, "value"])


@given(KEYS, st.lists(st.integers(0, 12), max_size=3))
def test_rows_come_in_canonical_order(keys: list[tuple[int, int, int]], cuts: list[int]) -> None:
    """Chunks that are each in order are what files give; wholly mixed rows are what foreign writers may give."""
    bounds = [0, *sorted(cuts), len(keys)]
    runs = [sorted(keys[start:end]) for start, end in pairwise(bounds)]
    for mixed in (as_table(keys), pa.concat_tables([as_table([]), *map(as_table, runs)])):
        assert canonical(mixed).to_pylist() == as_table(sorted(keys)).to_pylist()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_runs_that_do_not_overlap_are_not_copied(order: tuple[int, ...]) -> None:
    """Also where a file that comes later follows one that comes earlier, so that nothing descends between them."""
    tables = [as_table([(0, 0, 0), (0, 1, 0)]), as_table([(0, 2, 0), (1, 0, 0)]), as_table([(1, 1, 0), (2, 0, 0)])]

    rows = canonical(pa.concat_tables([tables[place] for place in order]))

    addresses = [chunk.buffers()[1].address for chunk in rows.column("_off").chunks]
    assert addresses == [table.column("_off").chunk(0).buffers()[1].address for table in tables]
