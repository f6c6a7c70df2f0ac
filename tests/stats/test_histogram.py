"""Edges, fold, merge and bytes."""

import subprocess
import sys

import numpy as np
import pytest
from holdtrue_stats.arrays import Float32s
from holdtrue_stats.histogram import Edges, State, fold, fold_numpy, freeze, groups, merge, rebin
from holdtrue_stats.packing import PackingError, pack
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

rng = np.random.default_rng(5)


def mixed(n: int, seed: int) -> Float32s:
    g = np.random.default_rng(seed)
    columns = [g.normal(0, 1, n), g.lognormal(0, 0.5, n), g.integers(0, 50, n), (g.random(n) < 0.01), np.full(n, 7.0)]
    x = np.column_stack(columns).astype(np.float32)
    x[g.random(x.shape) < 0.02] = np.nan
    return x


def same(a: State, b: State) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.arrays().values(), b.arrays().values(), strict=True))


REFERENCE = mixed(5000, 1)
EDGES = freeze(REFERENCE)
special = st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 3.4e38, -3.4e38, 7.0, 1.0])
values = st.one_of(st.floats(width=32), special, st.sampled_from([float(v) for v in REFERENCE[:200].ravel()]))
batches = arrays(np.float32, st.tuples(st.integers(0, 40), st.just(5)), elements=values)


@given(batches)
def test_numba_and_numpy_give_the_same_bits(x: Float32s) -> None:
    assert same(fold(EDGES, x, State.empty(EDGES)), fold_numpy(EDGES, x, State.empty(EDGES)))


@given(batches, st.integers(0, 40))
@settings(max_examples=50)
def test_order_and_batches_never_matter(x: Float32s, cut: int) -> None:
    whole = fold(EDGES, x, State.empty(EDGES))
    shuffled = x[np.random.default_rng(len(x) + cut).permutation(len(x))]
    first = fold(EDGES, shuffled[:cut], State.empty(EDGES))
    second = fold(EDGES, shuffled[cut:], State.empty(EDGES))
    assert same(whole, merge(second, first))


@given(batches)
@settings(max_examples=50)
def test_the_bin_of_a_value_is_the_number_of_edges_at_or_below_it(x: Float32s) -> None:
    state = fold(EDGES, x, State.empty(EDGES))
    expected = np.zeros_like(state.hist)
    for row in x:
        for j, value in enumerate(row):
            edges = EDGES.edges[j, : EDGES.counts[j]]
            expected[j, -1 if np.isnan(value) else int((edges <= value).sum())] += 1
    assert np.array_equal(state.hist, expected)
    assert state.n[0] == len(x)


def test_reference_never_falls_into_underflow_or_overflow_and_outsiders_do() -> None:
    state = fold(EDGES, REFERENCE, State.empty(EDGES))
    top = np.nanmax(REFERENCE, 0)
    assert (state.hist[:, 0] == 0).all()
    for j in range(5):
        assert state.hist[j, EDGES.counts[j]] == 0
        outside = REFERENCE[:2].copy()
        outside[:, j] = [np.nextafter(top[j], np.float32(np.inf)), np.nanmin(REFERENCE[:, j]) - 1]
        seen = fold(EDGES, outside, State.empty(EDGES)).hist[j]
        assert seen[EDGES.counts[j]] == seen[0] == 1


def test_a_rare_value_has_a_bin_of_its_own() -> None:
    x = rng.normal(0, 1, (10_000, 1)).astype(np.float32)
    x[:100] = 9.0
    edges = freeze(x)
    state = fold(edges, x, State.empty(edges))
    nine = int((edges.edges[0] <= 9.0).sum())
    assert state.hist[0, nine] == 100


def test_few_distinct_values_are_counted_without_loss() -> None:
    x = rng.integers(0, 24, (5000, 1)).astype(np.float32)
    edges = freeze(x)
    hist = fold(edges, x, State.empty(edges)).hist[0]
    assert sorted(hist[hist > 0]) == sorted(np.unique(x, return_counts=True)[1])


def test_sums_give_the_mean_within_fixed_point() -> None:
    x = rng.normal(3, 2, (4000, 2)).astype(np.float32)
    edges = freeze(x)
    state = fold(edges, x, State.empty(edges))
    mean = state.bin_sum.sum(1) / 65536 / len(x) / edges.inv_scale + edges.center
    spread = np.sqrt(state.sq_sum / 65536 / len(x)) / edges.inv_scale
    assert np.allclose(mean, x.mean(0, dtype=float), atol=1e-4)
    assert np.allclose(spread, x.std(0, dtype=float), rtol=1e-4)


def test_categories_have_a_bin_each_and_unseen_codes_are_apart() -> None:
    edges = freeze([[0], [1], [2]], kinds=["categorical"])
    hist = fold(edges, np.array([[0], [2], [2], [-1], [3], [np.nan]], np.float32), State.empty(edges)).hist[0]
    assert hist.tolist() == [1, 1, 0, 2, 1, 1]


@pytest.mark.parametrize("x", [np.zeros((0, 2)), np.full((3, 2), np.nan), np.ones((1, 2)), np.zeros((4, 0))])
def test_degenerate_references_freeze_and_fold(x: Float32s) -> None:
    edges = freeze(x)
    rows = np.array([[1, np.nan]], np.float32)[:, : x.shape[1]]
    assert same(fold(edges, rows, State.empty(edges)), fold_numpy(edges, rows, State.empty(edges)))


def test_wrong_shapes_are_refused_with_the_shape_that_is_wanted() -> None:
    with pytest.raises(ValueError, match=r"\[n, 5\], got \[3, 4\]"):
        fold(EDGES, np.zeros((3, 4)), State.empty(EDGES))
    with pytest.raises(ValueError, match="limit of 126 categories"):
        freeze([[1000.0]], kinds=["categorical"])


def test_bytes_give_back_the_same_and_damage_is_noticed() -> None:
    state = fold(EDGES, mixed(300, 2), State.empty(EDGES))
    data = state.to_bytes()
    assert same(State.from_bytes(data), state)
    assert State.from_bytes(data).to_bytes() == data
    back = Edges.from_bytes(EDGES.to_bytes())
    assert np.array_equal(back.edges, EDGES.edges, equal_nan=True)
    assert back.kinds == EDGES.kinds
    with pytest.raises(PackingError, match="expected a packed edges, got a packed state"):
        Edges.from_bytes(data)


@given(st.integers(0, 10**6), st.integers(0, 7))
@settings(max_examples=100)
def test_any_flipped_bit_is_noticed(place: int, bit: int) -> None:
    data = bytearray(State.empty(EDGES).to_bytes())
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(PackingError):
        State.from_bytes(bytes(data))


@given(st.binary(max_size=100))
def test_garbage_is_refused_and_never_crashes(data: bytes) -> None:
    with pytest.raises(PackingError):
        State.from_bytes(data)


def test_groups_have_equal_mass_and_a_heavy_atom_does_not_swallow_a_light_one() -> None:
    even = np.full((1, 64), 100)
    assert (rebin(even, groups(even)) == 400).all()
    lopsided = np.array([[1, 99, 0]])
    assert len(set(groups(lopsided)[0, :2].tolist())) == 2


@given(batches, batches, batches)
@settings(max_examples=50)
def test_merging_is_associative_and_commutative_with_nothing_as_its_zero(x: Float32s, y: Float32s, z: Float32s) -> None:
    a, b, c = (fold(EDGES, part, State.empty(EDGES)) for part in (x, y, z))
    whole = fold(EDGES, np.concatenate([x, y, z]), State.empty(EDGES))
    assert same(merge(merge(a, b), c), whole)
    assert same(merge(a, merge(c, b)), whole)
    assert same(merge(a, State.empty(EDGES)), a)


def test_a_state_of_other_bins_is_refused_and_stays_as_it_was() -> None:
    other = State.empty(freeze(np.zeros((3, 5))))
    with pytest.raises(ValueError, match="the state counts"):
        fold(EDGES, REFERENCE[:3], other)
    with pytest.raises(ValueError, match="are of other bins"):
        merge(other, State.empty(EDGES))
    assert other.n[0] == 0


def test_edges_that_lie_about_themselves_are_refused() -> None:
    short = EDGES.counts - 1  # the compiled fold would write beyond the state
    with pytest.raises(ValueError, match="as many as their counts say"):
        Edges(EDGES.edges, short, EDGES.center, EDGES.inv_scale, EDGES.kinds)
    with pytest.raises(ValueError, match="must ascend"):
        Edges(EDGES.edges[:, ::-1].copy(), EDGES.counts, EDGES.center, EDGES.inv_scale, EDGES.kinds)
    with pytest.raises(ValueError, match=r"counts must be i8 \[5\], got f8 \[5\]"):
        Edges(EDGES.edges, EDGES.counts.astype(float), EDGES.center, EDGES.inv_scale, EDGES.kinds)  # pyright: ignore[reportArgumentType]


def test_packed_arrays_that_are_no_state_are_refused() -> None:
    arrays = State.empty(EDGES).arrays()
    with pytest.raises(PackingError, match=r"hist must be int64 \[5, "):
        State.from_bytes(pack("state", arrays | {"hist": arrays["hist"].astype(np.float64)}))
    with pytest.raises(PackingError, match="clipped must be int64"):
        State.from_bytes(pack("state", arrays | {"clipped": arrays["clipped"][:2]}))
    with pytest.raises(PackingError, match="not the arrays of a state"):
        State.from_bytes(pack("state", {"hist": arrays["hist"]}))


def test_without_numba_the_bytes_are_the_same() -> None:
    program = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np; from holdtrue_stats import State, fold, freeze\n"
        "x = np.random.default_rng(3).normal(0, 1, (2000, 3)); edges = freeze(x)\n"
        "print(fold(edges, x, State.empty(edges)).to_bytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    x = np.random.default_rng(3).normal(0, 1, (2000, 3))
    edges = freeze(x)
    assert done.stdout.strip() == fold(edges, x, State.empty(edges)).to_bytes().hex()
