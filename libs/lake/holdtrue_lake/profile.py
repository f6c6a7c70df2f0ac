"""What a commit's or version's rows look like, in counts that add up: profiles of commits give that of the version.

Everything is whole numbers, exact sums or the smallest hashes of a set, so that neither the order of rows nor their
grouping into commits changes a bit. Two rules follow from keeping rare categories nameless: a category that no single
commit has 5 times is counted, but has no name; and a column of more than 4,096 categories has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from holdtrue_stats import histogram
from holdtrue_stats.histogram import Edges, State, fold

from holdtrue_lake import categories, sketch
from holdtrue_lake.exact import Numbers, numbers
from holdtrue_lake.layout import Layout, as_numbers, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from holdtrue_lake.categories import Categories
    from holdtrue_lake.sketch import Hashes

    Ints = npt.NDArray[np.int64]

T = TypeVar("T")
TOP = 20
"""Categories in a summary, at most."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A column in figures, of all rows or of one class of the label; nan, None or empty where there is nothing.

    Figures of numbers leave infinite ones out, which `infinite` counts; a missing value is null or NaN. `distinct` is
    of all rows and exact below 512 values, otherwise off by 4 % (one standard error); None for counted columns.
    """

    rows: int
    missing: int
    infinite: int
    low: float | None
    high: float | None
    mean: float
    std: float
    distinct: int | None
    top: list[tuple[str | None, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Counts by group of rows: one for each class of the label, and a last one for rows of none of them.

    `rows` [groups], `missing` [columns, groups]; `states` as holdtrue_stats keeps them, a row for each number column;
    `numbers` [number column][group]; `sketches` by number column, then by category column; `categories` by column.
    """

    layout: Layout
    rows: Ints
    missing: Ints
    states: tuple[State, ...]
    numbers: tuple[tuple[Numbers, ...], ...]
    sketches: tuple[Hashes, ...]
    categories: tuple[Categories, ...]

    def __add__(self, other: Profile) -> Profile:
        """Return the profile of the rows of both. Raises ValueError where they were counted in other ways."""
        if not self.layout.equals(other.layout):
            raise ValueError("profiles of different layouts do not add up; profile both tables with the same Layout")
        return Profile(
            self.layout,
            self.rows + other.rows,
            self.missing + other.missing,
            tuple(map(histogram.merge, self.states, other.states)),
            tuple(tuple(a + b for a, b in zip(*pair, strict=True)) for pair in _both(self.numbers, other.numbers)),
            tuple(map(sketch.merge, self.sketches, other.sketches)),
            tuple(a + b for a, b in _both(self.categories, other.categories)),
        )

    def state(self, group: int | None = None) -> State:
        """Return the histograms of the number columns, of all rows or of one group: what the monitor compares with."""
        return reduce(histogram.merge, self.states) if group is None else self.states[group]

    def summary(self, name: str, group: int | None = None) -> Summary:
        """Return a column in figures. Raises KeyError for a name that the layout does not have."""
        if name not in self.layout.names:
            raise KeyError(f"no column {name!r} in this profile; it has {', '.join(self.layout.names[:20])}")
        place = self.layout.names.index(name)
        kind = self.layout.kinds[place]
        order = self.layout.kinds[:place].count(kind)
        figures, top, distinct = Numbers(), list[tuple[str | None, int]](), None
        if kind == "number":
            each = self.numbers[order]
            figures = sum(each, Numbers()) if group is None else each[group]
            distinct = sketch.estimate(self.sketches[order])
        elif kind == "category":
            top = self.categories[order].top(group, TOP)
            distinct = sketch.estimate(self.sketches[len(self.numbers) + order])
        which = slice(None) if group is None else group
        return Summary(
            rows=int(self.rows[which].sum()),
            missing=int(self.missing[place, which].sum()),
            infinite=figures.infinite,
            low=figures.low,
            high=figures.high,
            mean=figures.mean,
            std=figures.std,
            distinct=distinct,
            top=top,
        )


def _both(a: tuple[T, ...], b: tuple[T, ...]) -> Iterator[tuple[T, T]]:
    return zip(a, b, strict=True)


def observe(table: pa.Table, layout: Layout) -> Profile:
    """Count the rows of a table. Raises ValueError where its columns are not those of the layout."""
    _check(table, layout)
    groups = _groups(table, layout)
    columns = [_decoded(table.column(name)) for name in layout.names]
    missing = np.stack([np.zeros(layout.groups, np.int64), *(_missing(column, groups) for column in columns)])[1:]
    states = tuple(State.empty(layout.edges) for _ in range(layout.groups))
    figures: list[tuple[Numbers, ...]] = []
    sketches: list[Hashes] = []
    texts: list[tuple[Categories, Hashes]] = []
    for column, kind, lost in zip(columns, layout.kinds, missing, strict=True):
        if kind == "number":
            parts = list(_parts(column, groups))
            lost[:] = groups.rows - [len(part) for part in parts]
            _fold(layout.edges, len(figures), parts, lost, states)
            figures.append(tuple(map(numbers, parts)))
            sketches.append(reduce(sketch.merge, map(sketch.of_numbers, parts)))
        elif kind == "category":
            texts.append(categories.count(column, groups.of_row, layout.groups, layout.key))
    for state, rows in zip(states, groups.rows, strict=True):
        state.n[0] = rows
    seen = (*sketches, *(each for _, each in texts))
    return Profile(layout, groups.rows, missing, states, tuple(figures), seen, tuple(each for each, _ in texts))


@dataclass(frozen=True)
class _Groups:
    """Group `of_row` [n], number of `rows` [groups], and the `order` that puts rows of a group together, if needed."""

    of_row: Ints
    rows: Ints
    order: Ints | None


def _groups(table: pa.Table, layout: Layout) -> _Groups:
    last = len(layout.classes)
    if not layout.classes:
        return _Groups(np.zeros(table.num_rows, np.int64), np.array([table.num_rows], np.int64), None)
    column = _decoded(table.column(layout.label))
    place = pc.index_in(column, value_set=pa.array(layout.classes, column.type))
    of_row = pc.fill_null(place, last).to_numpy().astype(np.int64)
    rows = np.bincount(of_row, minlength=last + 1)
    return _Groups(of_row, rows, np.argsort(of_row.astype(np.uint8), kind="stable"))


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = plain(column.type)
    return column if kind == column.type else column.cast(kind)


def _missing(column: pa.ChunkedArray, groups: _Groups) -> Ints:
    """Count nulls by group."""
    if not column.null_count:
        return np.zeros(len(groups.rows), np.int64)
    null = column.is_null().to_numpy()
    return np.bincount(groups.of_row[null], minlength=len(groups.rows))


def _parts(column: pa.ChunkedArray, groups: _Groups) -> Iterator[npt.NDArray[Any]]:
    """Yield each group's values that are there; zero without a sign."""
    array = as_numbers(column).combine_chunks()
    present = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    values: Any = (pc.fill_null(array, 0) if array.null_count else array).to_numpy()
    if values.dtype.kind == "f":
        values = values + values.dtype.type(0)  # -0 becomes 0
        there = values == values  # noqa: PLR0124 - NaN differs from itself
        present = there if present is None else present & there
    if groups.order is not None:
        values = values[groups.order]
        present = None if present is None else present[groups.order]
    ends = np.cumsum(groups.rows)
    for start, end in zip(ends - groups.rows, ends, strict=True):
        part = values[start:end]
        yield part if present is None or present[start:end].all() else part[present[start:end]]


def _fold(edges: Edges, j: int, parts: list[npt.NDArray[Any]], missing: Ints, states: tuple[State, ...]) -> None:
    """Add one number column to each group's state."""
    arrays: dict[str, Any] = {n: getattr(edges, n)[j : j + 1] for n in ("edges", "counts", "center", "inv_scale")}
    one = Edges(**arrays, kinds=("numeric",))
    for part, lost, state in zip(parts, missing, states, strict=True):
        with np.errstate(over="ignore"):  # beyond float32 is infinite there, and counted as above all bins
            rows = np.asarray(part, np.float32)[:, None]
        found = fold(one, rows, State.empty(one))
        state.hist[j, : one.bins] = found.hist[0, :-1]
        state.hist[j, -1] = lost
        state.bin_sum[j, : one.bins] = found.bin_sum[0]
        state.sq_sum[j], state.clipped[j] = found.sq_sum[0], found.clipped[0]


def _check(table: pa.Table, layout: Layout) -> None:
    if layout.key_id and not layout.key:
        raise ValueError("this layout was made with a key and read without it; add it by Layout.with_key")
    for name, kind in zip(layout.names, layout.types, strict=True):
        places = table.schema.get_all_field_indices(name)
        if len(places) != 1:
            raise ValueError(f"the table has {len(places)} columns called {name!r}, the layout wants one")
        got = plain(table.schema.field(places[0]).type)
        if str(got) != kind and str(table.schema.field(places[0]).type) != kind:
            raise ValueError(f"column {name!r} is {got}, the layout has it as {kind}; cast it, or make a new layout")
