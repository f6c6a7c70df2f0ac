from __future__ import annotations

import math
from fractions import Fraction
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from holdtrue_lake import categories, exact, sketch
from holdtrue_lake.layout import Layout
from holdtrue_lake.profile import Profile, observe
from holdtrue_lake.profile_bytes import from_bytes, to_bytes
from holdtrue_lake.profile_diff import compare
from holdtrue_stats import histogram
from holdtrue_stats.histogram import State, freeze
from holdtrue_stats.packing import PackingError, pack
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

if TYPE_CHECKING:
    import random

SCHEMA = pa.schema(
    [
        ("x", pa.float32()),
        ("wide", pa.float64()),
        ("whole", pa.int64()),
        ("text", pa.string()),
        ("secret", pa.string()),
        ("label", pa.bool_()),
    ]
)
row = st.fixed_dictionaries(
    {
        "x": st.none() | st.floats(width=32),
        "wide": st.none() | st.floats(),
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
        "text": st.none() | st.sampled_from(["a", "b", "", "ü"]),
        "secret": st.none() | st.just("ada@example.org"),
        "label": st.none() | st.booleans(),
    }
)


def reference(rows: int = 2000, seed: int = 1) -> pa.Table:
    g = np.random.default_rng(seed)
    values = {
        "x": pa.array(g.normal(size=rows).astype(np.float32), mask=g.random(rows) < 0.1),
        "wide": g.lognormal(0, 3, rows),
        "whole": g.integers(-(2**62), 2**62, rows),
        "text": pa.array(g.choice(["a", "b", "c"], rows).tolist(), mask=g.random(rows) < 0.05),
        "secret": pa.array(["ada@example.org"] * rows),
        "label": g.random(rows) < 0.3,
    }
    return pa.table(values, SCHEMA)


LAYOUT = Layout.of(reference(), label="label", pii=["secret"])


def without_names(profile: Profile) -> bytes:
    """Names of categories alone may depend on how rows were grouped."""
    for each in profile.categories:
        each.names.clear()
    return to_bytes(profile)


@given(st.lists(row, max_size=30), st.randoms(use_true_random=False), st.integers(1, 6))
def test_merged_commits_equal_one_pass_in_any_order(rows: list[Any], shuffle: random.Random, commits: int) -> None:
    whole = observe(pa.Table.from_pylist(rows, SCHEMA), LAYOUT)
    shuffle.shuffle(rows)
    parts = [observe(pa.Table.from_pylist(rows[i::commits], SCHEMA), LAYOUT) for i in range(commits)]

    left = reduce(Profile.__add__, parts)
    right = reduce(lambda a, b: b + a, reversed(parts))

    assert set(left.categories[0].names.items()) <= set(whole.categories[0].names.items())
    assert without_names(left) == without_names(right) == without_names(whole)


def test_figures_equal_a_recomputation() -> None:
    table = reference(5000, seed=2)
    profile = observe(table, LAYOUT)
    label = table.column("label").to_numpy(zero_copy_only=False)

    for name in ("x", "wide", "whole"):
        column = table.column(name).to_numpy(zero_copy_only=False)
        for group, rows in ((None, np.ones(5000, bool)), (0, ~label), (1, label)):
            values = column[rows].astype(np.float64)
            there = values[~np.isnan(values)]
            figures = profile.summary(name, group)
            assert (figures.rows, figures.missing) == (rows.sum(), np.isnan(values).sum())
            assert (figures.low, figures.high) == (column[rows][~np.isnan(values)].min(), np.nanmax(column[rows]))
            assert figures.mean == pytest.approx(there.mean(), rel=1e-12, abs=1e-12)
            assert figures.std == pytest.approx(there.std(), rel=1e-12)
    text = profile.summary("text", 1)
    expected = {value: (table.column("text").to_numpy(zero_copy_only=False)[label] == value).sum() for value in "abc"}
    assert dict(text.top) == expected
    assert text.distinct == 3


def test_histograms_are_those_of_the_monitor() -> None:
    x = np.random.default_rng(3).normal(size=(3000, 4)).astype(np.float32)
    x[::7, 1], x[::11, 2] = np.nan, np.inf
    table = pa.table({f"x{j}": x[:, j] for j in range(4)} | {"y": (x[:, 0] > 0).astype(np.int64)})

    layout = Layout.of(table, label="y")
    profile = observe(table, layout)

    edges = freeze(np.column_stack([x, table.column("y").to_numpy()]))
    assert layout.edges.to_bytes() == edges.to_bytes()
    rows = np.column_stack([x, table.column("y").to_numpy()])
    assert profile.state().to_bytes() == histogram.fold(edges, rows, State.empty(edges)).to_bytes()
    assert profile.state(1).to_bytes() == histogram.fold(edges, rows[x[:, 0] > 0], State.empty(edges)).to_bytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@given(data=st.data())
def test_sums_are_exact(dtype: Any, data: st.DataObject) -> None:
    values = data.draw(hnp.arrays(dtype, st.integers(0, 20)))
    values = values if dtype == np.int64 else values[~np.isnan(values)] + dtype(0)
    finite = [Fraction(value) for value in values.tolist() if math.isfinite(value)]

    found = exact.numbers(values)

    assert (found.total, found.squares) == (sum(finite), sum(value * value for value in finite))
    assert (found.count, found.infinite) == (len(finite), len(values) - len(finite))
    assert (found.low, found.high) == (min(finite, default=None), max(finite, default=None))
    if dtype != np.int64 and finite:
        assert exact.float_sums(values[np.isfinite(values)]) == (found.total, found.squares)


def test_mean_and_deviation_survive_the_ends_of_float64() -> None:
    found = exact.numbers(np.array([1.7e308, -1.7e308, 1.7e308, -1.7e308]))
    assert (found.mean, found.std) == (0, pytest.approx(1.7e308))
    assert exact.numbers(np.array([5e-324, 5e-324])).std == 0
    near = exact.numbers(np.array([1e15, 1e15 + 1, 1e15 + 2]))  # Σx² - n·mean² in floats is far off here
    assert near.std == pytest.approx(math.sqrt(2 / 3), rel=1e-15)


def test_distinct_is_exact_for_few_and_within_its_error_for_many() -> None:
    for many in (0, 1, 2, 500, sketch.SIZE - 1):
        assert sketch.estimate(sketch.of_numbers(np.repeat(np.arange(many), 5))) == many
    g = np.random.default_rng(4)
    off = [
        sketch.estimate(sketch.of_numbers(g.integers(-(2**63), 2**63, many))) / many - 1
        for many in (1000, 30_000, 100_000)
        for _ in range(60)
    ]
    assert abs(np.mean(off)) < 4 * sketch.ERROR / len(off) ** 0.5  # no bias
    assert np.std(off) == pytest.approx(sketch.ERROR, rel=0.25)  # 180 draws: 4 standard errors are 0.21


@given(hnp.arrays(np.uint32, st.integers(0, 5000), elements=st.integers(0, 2**32 - 1)), st.integers(1, 3000))
def test_compiled_and_plain_sketches_are_equal(bits: Any, few: int) -> None:
    kernels = pytest.importorskip("holdtrue_lake.kernels")
    for values in (bits, bits % few, np.arange(few * 7, dtype=np.uint64)):
        assert np.array_equal(kernels.smallest(values, sketch.SIZE), sketch.smallest_numpy(values))


def test_rare_categories_have_no_name_and_personal_columns_only_counts() -> None:
    names = ["often"] * 5 + ["rarely"] * 4 + [None]
    rows = pa.table({"name": names, "mail": ["ada@example.org"] * 10})
    layout = Layout.of(rows, pii=["mail"], key=b"pepper")
    profile = observe(rows, layout)

    assert profile.summary("name").top == [("often", 5), (None, 4)]
    mail = profile.summary("mail")
    assert (mail.rows, mail.missing, mail.distinct, mail.top, mail.low) == (10, 0, None, [], None)
    again = profile + profile
    assert again.summary("name").top == [("often", 10), (None, 8)]  # counted, but never named
    assert not any(word in str(from_bytes(to_bytes(again)).categories[0].names) for word in ("rarely", "ada"))
    other = observe(rows, Layout.of(rows, pii=["mail"]))
    assert set(other.categories[0].hashes) != set(profile.categories[0].hashes)


def test_more_categories_than_are_counted_leave_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(categories, "MOST", 10)
    rows = pa.table({"id": [str(i) for i in range(12)]})
    layout = Layout.of(rows)
    halves = [observe(part, layout) for part in (rows.slice(0, 6), rows.slice(6))]
    merged = halves[0] + halves[1]

    assert merged.categories[0].many
    assert merged.summary("id").distinct == 12
    assert to_bytes(merged) == to_bytes(observe(rows, layout)) == to_bytes(from_bytes(to_bytes(merged)))


@pytest.mark.parametrize(
    "column",
    [
        pa.nulls(20, pa.float32()),
        pa.array([math.nan] * 20, pa.float32()),
        pa.array([math.inf, -math.inf] * 10),
        pa.array([], pa.float64()),
        pa.array(["one"] * 20),
        pa.nulls(20, pa.string()),
        pa.array(["one", None] * 10).dictionary_encode(),
        pa.nulls(20),
        pa.array([[1]] * 20),
        pa.array([-0.0, 0.0] * 10),
        pa.array([2**63] * 20, pa.uint64()),
        pa.array([1e39] * 20),
    ],
    ids=lambda column: f"{column.type} {column[:1].to_pylist()}",
)
def test_hostile_columns_are_counted(column: pa.Array) -> None:
    rows = pa.table({"c": column})
    layout = Layout.of(rows)
    profile = observe(rows, layout)
    figures = profile.summary("c")

    values = [value for value in column.to_pylist() if value is not None and value == value]  # noqa: PLR0124
    finite = [value for value in values if isinstance(value, (int, float)) and math.isfinite(value)]
    assert figures.rows == len(column)
    assert figures.missing == len(column) - len(values)
    assert figures.infinite == sum(1 for value in values if isinstance(value, float) and math.isinf(value))
    assert (figures.low, figures.high) == (min(finite, default=None), max(finite, default=None))
    if figures.distinct is not None:
        assert figures.distinct == len(set(values))
    assert to_bytes(from_bytes(to_bytes(profile))) == to_bytes(profile)
    assert len(compare(profile, profile + profile)) == 1


@pytest.mark.long
def test_ten_thousand_columns() -> None:
    x = np.random.default_rng(5).normal(size=(20, 10_000)).astype(np.float32)
    rows = pa.table({f"x{j}": x[:, j] for j in range(10_000)})
    profile = observe(rows, Layout.of(rows))

    read = from_bytes(to_bytes(profile))

    assert read.summary("x9999").mean == pytest.approx(float(x[:, 9999].astype(float).mean()))
    assert len(read.numbers) == 10_000


def test_a_comparison_tells_what_changed() -> None:
    before = pa.table({"x": np.arange(1000.0), "text": ["a"] * 500 + ["b"] * 500, "same": [1] * 1000})
    after = pa.table(
        {
            "x": pa.array(np.arange(1000.0) + 400, mask=np.arange(1000) < 100),
            "text": ["a"] * 500 + ["c"] * 496 + ["d"] * 4,
            "same": [1] * 1000,
        }
    )
    layout = Layout.of(before)
    x, text, same = compare(observe(before, layout), observe(after, layout))

    assert x.psi > 0.25
    assert x.missing == (0, 0.1)
    assert x.mean == (499.5, pytest.approx(949.5))
    assert (text.appeared, text.vanished, text.unseen) == (("c",), ("b",), 0.5)
    assert (same.psi, same.std) == (0, (0, 0))


def test_wrong_input_is_told_what_where_and_what_to_do() -> None:
    rows = reference(10)
    for said, call in (
        ("no column 'nobody'; it has x, wide", lambda: Layout.of(rows, label="nobody")),
        ("key: at most 64 bytes", lambda: Layout.of(rows, key=b"k" * 65)),
        ("0 columns called 'x', the layout wants one", lambda: observe(rows.drop(["x"]), LAYOUT)),
        ("2 columns called 'x'", lambda: observe(rows.append_column("x", rows.column("x")), LAYOUT)),
        ("'x' is double, the layout has it as float; cast", lambda: observe(_recast(rows), LAYOUT)),
        ("different layouts", lambda: observe(rows, LAYOUT) + observe(rows, Layout.of(rows))),
        ("different layouts", lambda: compare(observe(rows, LAYOUT), observe(rows, Layout.of(rows)))),
        ("made with a key", lambda: observe(rows, Layout.from_bytes(Layout.of(rows, key=b"k").to_bytes()))),
        ("not the key", lambda: from_bytes(to_bytes(observe(rows, Layout.of(rows, key=b"k"))), key=b"other")),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    with pytest.raises(KeyError, match="no column 'y'"):
        observe(rows, LAYOUT).summary("y")


def _recast(rows: pa.Table) -> pa.Table:
    return rows.set_column(0, "x", rows.column("x").cast(pa.float64()))


def test_damaged_bytes_are_refused() -> None:
    data = to_bytes(observe(reference(50), LAYOUT))
    for place in range(0, len(data), 97):
        with pytest.raises(PackingError):
            from_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(PackingError, match="not the parts of a data profile"):
        from_bytes(pack("data profile", {}, {}))
    with pytest.raises(PackingError, match="expected a packed data profile"):
        from_bytes(pack("state", {}, {}))
