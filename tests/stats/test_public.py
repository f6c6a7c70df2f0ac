"""The whole public surface: complete, documented, cheap to import, and unimpressed by any input."""

import inspect
import math
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import holdtrue_stats
import numpy as np
import pytest
from holdtrue_stats import (
    Bernstein,
    Confusion,
    EProcess,
    Estimate,
    Map,
    State,
    Status,
    Sums,
    Table,
    Watch,
    cause,
    confusion,
    divergence,
    estimate,
    fairness,
    histogram,
    interval,
    multiple,
    outlier,
    ranking,
    regression,
    sequential,
    twosample,
    validity,
)
from holdtrue_stats import calibration as cal
from holdtrue_stats.arrays import Floats
from hypothesis import given, settings
from hypothesis import strategies as st

INTERNAL = {"arrays", "binning", "kernel", "packing", "state"}  # parts of other modules, which offer what is public
OFFERED: list[str] = getattr(holdtrue_stats, "__all__")  # noqa: B009  the stub, which pyright reads, has none
JUDGED_ELSEWHERE = {"gates", "decision"}  # test_gates, test_gate_checks, test_drift and test_decision fuzz these


def public(module: str) -> dict[str, Any]:
    """What a module defines: functions and classes, and measures, which are called like functions."""
    loaded = import_module(f"holdtrue_stats.{module}")
    if hasattr(loaded, "__all__"):
        return {name: getattr(loaded, name) for name in loaded.__all__ if not name.isupper()}
    names = [name for name in vars(loaded) if not name.startswith("_") and not name.isupper()]
    found = {name: getattr(loaded, name) for name in names}
    return {name: value for name, value in found.items() if _is_own(value, loaded.__name__)}


def _is_own(value: object, module: str) -> bool:
    if isinstance(value, confusion.Measure):
        return module == confusion.__name__
    return callable(value) and getattr(value, "__module__", "") == module


MODULES = sorted({m.name for m in pkgutil.iter_modules(holdtrue_stats.__path__)} - INTERNAL)


def test_every_public_name_can_be_imported_from_the_package() -> None:
    offered = set(OFFERED) - {"PackingError"}
    assert offered == {name for module in MODULES for name in public(module)}
    assert not offered & set(MODULES)
    for module in MODULES:
        for name, value in public(module).items():
            assert getattr(holdtrue_stats, name) is value
    assert set(dir(holdtrue_stats)) == set(OFFERED)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = getattr(holdtrue_stats, "nonsense")  # noqa: B009  pyright knows that there is none


def test_every_public_name_has_a_docstring() -> None:
    for module in MODULES:
        assert import_module(f"holdtrue_stats.{module}").__doc__
        for name, value in public(module).items():
            if inspect.isfunction(value) or inspect.isclass(value):
                assert value.__doc__, name
                assert not value.__doc__.startswith(f"{name}("), name  # what dataclasses write by themselves


def test_importing_is_cheap_and_loads_only_what_is_used() -> None:
    program = (
        "import sys, time; begin = time.process_time(); import holdtrue_stats; took = time.process_time() - begin;"
        "print(took, 'numpy' in sys.modules); holdtrue_stats.wilson(1, 2); print('holdtrue_stats.gates' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert float(found[0]) <= 0.3
    assert found[1:] == ["False", "False"]


def test_files_are_small() -> None:
    for path in Path(str(holdtrue_stats.__file__)).parent.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path.name


class Ugly:
    """Draws input that no honest data has."""

    numbers = st.sampled_from(
        [0.0, 1.0, -1.0, 0.5, 0.1, math.nan, math.inf, -math.inf, 5e-324, 1e-300, 1e308, -1e308, 1e6]
    )
    numbers_of_rows = st.sampled_from([0.0, 1.0, 3.0, 20.0, 400.0, 1e9, 1e15, 1e300])

    def __init__(self, data: st.DataObject, size: int) -> None:
        self.draw = data.draw
        self.size = size
        self.d = self.draw(st.integers(0, 3))

    @property
    def x(self) -> float:
        """Any number."""
        return self.draw(self.numbers)

    @property
    def n(self) -> float:
        """A number of rows."""
        return self.draw(self.numbers_of_rows)

    def values(self, *shape: int) -> Floats:
        """Numbers, all alike or all different."""
        count = math.prod(shape)
        alike = self.draw(st.booleans())
        drawn = [self.x] * count if alike else self.draw(st.lists(self.numbers, min_size=count, max_size=count))
        return np.array(drawn, np.float64).reshape(shape)

    def counts(self, *shape: int) -> Floats:
        """Numbers of rows, often none, or all of them in one place."""
        count = math.prod(shape)
        one = np.zeros(count)
        one[:1] = self.n
        some = st.lists(self.numbers_of_rows, min_size=count, max_size=count).map(np.array)
        drawn: Floats = self.draw(st.one_of(st.just(np.zeros(count)), st.just(one), some))
        return drawn.reshape(shape)

    def integers(self, *shape: int) -> Any:
        """Numbers of rows as they are folded."""
        return np.minimum(self.counts(*shape), 1e15).astype(np.int64)

    @property
    def table(self) -> Table:
        """A map fitted on whatever there is."""
        y = self.draw(st.lists(st.integers(0, 1), min_size=self.size, max_size=self.size))
        return cal.fit_isotonic(self.values(self.size), y, self.counts(self.size)).table(8)

    @property
    def edges(self) -> histogram.Edges:
        """Bins of whatever there is."""
        return histogram.freeze(self.values(self.size, self.d))

    @property
    def sums(self) -> Sums:
        """Sums of anything."""
        return Sums(self.n, self.x, abs(self.x))

    @property
    def confusion(self) -> Confusion:
        """Any four cells."""
        return Confusion(self.n, self.n, self.n, self.n)

    @property
    def parts(self) -> list[Estimate]:
        """A few estimates, some of nothing."""
        return [interval.wilson(self.x, self.n) for _ in range(self.d)]

    def pair(self) -> tuple[Floats, Floats]:
        """Counts of two windows on the same bins."""
        return self.counts(self.d, self.size), self.counts(self.d, self.size)


def _shares(u: Ugly, size: int) -> Floats:
    return np.clip(np.nan_to_num(u.values(size)), 0, 1)


def _folded(u: Ugly) -> tuple[histogram.Edges, State]:
    edges = u.edges
    return edges, histogram.fold(edges, u.values(2, u.d), State.empty(edges))


def _bits(u: Ugly) -> Any:
    return np.array(u.draw(st.lists(st.booleans(), min_size=u.size, max_size=u.size)), np.bool_)


def _two(function: Callable[..., object]) -> Callable[[Ugly], object]:
    return lambda u: function(*u.pair())


def _of_state(function: Callable[[histogram.Edges, State], object]) -> Callable[[Ugly], object]:
    def call(u: Ugly) -> object:
        edges, state = _folded(u)
        return function(edges, state)

    return call


def _cbpe_variance(u: Ugly) -> float:
    table = u.table
    p = np.nan_to_num(table.p)
    return estimate.cbpe_variance(np.nan_to_num(u.values(8)), p, table.blocks, table.labels, u.counts(8))


def _blocks(u: Ugly, function: Callable[..., object]) -> object:
    table = u.table
    return function(table.p, table.blocks, table.labels, u.counts(8))


def _reg(u: Ugly) -> Any:
    return u.draw(st.sampled_from([u.integers(5), regression.observe(u.values(u.size), u.values(u.size), 2.0)]))


def _measured(measure: confusion.Measure, u: Ugly) -> object:
    return measure(u.confusion), measure.gradient(u.confusion)


MEASURE = st.sampled_from(confusion.MEASURES)
CASES: dict[str, Callable[[Ugly], object]] = {
    "Bernstein": lambda u: Bernstein().update(u.sums).update(u.sums).minus(Bernstein().update(u.sums)),
    "EProcess": lambda u: repr(EProcess(0.5).update(u.values(u.size)).update(u.x)),
    "Map": lambda u: (Map.table(cal.fit_isotonic(u.values(u.size), _bits(u))), u.table),
    "Watch": lambda u: Watch().step(u.integers(2, 2, 8), u.table).step(u.integers(2, 2, 8), u.table),
    "apart": lambda u: sequential.apart(interval.wilson(u.x, u.n), interval.wilson(u.x, u.n)),
    "auc": lambda u: ranking.auc(u.counts(u.size), u.counts(u.size)),
    "auc_gradient": lambda u: ranking.auc_gradient(u.counts(u.size), u.counts(u.size)),
    "average_precision": lambda u: ranking.average_precision(u.counts(u.size), u.counts(u.size)),
    "bh": lambda u: multiple.bh(_shares(u, u.size), 0.05),
    "bias": lambda u: regression.bias(_reg(u), u.x),
    "binary": lambda u: confusion.binary(u.counts(2, 2, u.size)),
    "block_variance": lambda u: _blocks(u, cal.block_variance),
    "brier": lambda u: cal.brier(u.counts(2, u.size), u.values(u.size)),
    "by_score": lambda u: ranking.by_score(u.values(u.size), _bits(u)).labelled,
    "cauchy": lambda u: multiple.cauchy(_shares(u, u.size)[:, None], u.n),
    "cbpe": lambda u: estimate.cbpe(u.counts(2, 8), u.table.p),
    "cbpe_variance": _cbpe_variance,
    "chi2": _two(twosample.chi2),
    "compare_means": lambda u: sequential.compare_means(u.sums, u.sums, 0.05, extra_variance=u.x),
    "compare_quantiles": lambda u: sequential.compare_quantiles(
        u.counts(4), u.counts(4), [-np.inf, 0, 1, 2, np.inf], u.x
    ),
    "compare_rates": lambda u: sequential.compare_rates(u.x, u.n, u.x, u.n),
    "difference": lambda u: interval.difference(interval.wilson(u.x, u.n), interval.wilson(u.x, u.n)),
    "ece": lambda u: cal.ece(u.counts(2, 2, u.size), u.values(u.size)),
    "estimated": lambda u: estimate.estimated(u.draw(MEASURE), u.counts(2, 2, 8), [u.table, u.table]),
    "estimated_auc": lambda u: estimate.estimated_auc(u.counts(2, 8), u.table, draws=3),
    "fit_isotonic": lambda u: cal.fit_isotonic(u.values(u.size), u.values(u.size), u.values(u.size)).table(8),
    "fold": lambda u: _folded(u)[1],
    "fold_numpy": _of_state(lambda edges, state: histogram.fold_numpy(edges, np.zeros((0, edges.features)), state)),
    "freeze": lambda u: u.edges,
    "gaps": lambda u: [(g.alarms, g.reason) for g in fairness.gaps(u.counts(u.d, 2, 2, u.size), _shares(u, u.size))],
    "groups": lambda u: histogram.groups(u.counts(u.d, u.size)),
    "half_width": lambda u: sequential.half_width(abs(np.nan_to_num(u.x)) + 1e-9, 0.05),
    "hellinger": _two(divergence.hellinger),
    "holm": lambda u: multiple.holm(_shares(u, u.size), 0.05),
    "insufficient": lambda u: holdtrue_stats.insufficient(u.n, 3),
    "interpolate": lambda u: histogram.interpolate(u.counts(3), [-np.inf, 0, 1, np.inf], u.x),
    "invalid": lambda u: holdtrue_stats.invalid(u.n, "for a test"),
    "joined": lambda u: interval.joined(interval.wilson(1, 2), u.parts),
    "js": _two(divergence.js),
    "ks": _two(twosample.ks),
    "linf": _two(divergence.linf),
    "log_loss": lambda u: cal.log_loss(u.counts(2, u.size), u.values(u.size)),
    "macro": lambda u: interval.macro(u.parts),
    "mae": lambda u: regression.mae(_reg(u), u.x),
    "mean": lambda u: interval.mean(u.x, u.x, u.n),
    "mean_cs": lambda u: sequential.mean_cs(u.x, u.x, u.n),
    "merge": _of_state(lambda _, state: histogram.merge(state, state)),
    "newcombe": lambda u: interval.newcombe(u.x, u.n, u.x, u.n),
    "observe": lambda u: regression.observe(u.values(u.size), u.values(u.size), u.x),
    "one_versus_rest": lambda u: confusion.one_versus_rest(u.counts(u.d, u.d)),
    "pca_fit": lambda u: outlier.pca_fit(u.values(u.size, u.d)),
    "pca_residual": lambda u: outlier.pca_residual(outlier.pca_fit(u.values(u.size, u.d)), u.values(2, u.d)),
    "pool": lambda u: interval.pool(u.parts),
    "ppi": lambda u: estimate.ppi(u.counts(u.size), u.counts(2, u.size), u.values(u.size)),
    "ppi_mean": lambda u: estimate.ppi_mean(u.counts(u.size), u.counts(2, u.size), _shares(u, u.size)),
    "psi": _two(divergence.psi),
    "psi_adjusted": _two(divergence.psi_adjusted),
    "psi_noise": _two(divergence.psi_noise),
    "quantile": _of_state(lambda edges, state: histogram.quantile(state.hist, edges, 0.3)),
    "quantile_cs": lambda u: sequential.quantile_cs(u.counts(3), [-np.inf, 0, 1, np.inf], u.x),
    "rank": lambda u: cause.rank(u.values(u.d), u.values(u.d), u.values(u.d)),
    "rank_location": _two(twosample.rank_location),
    "rank_scale": _two(twosample.rank_scale),
    "rank_tests": _two(twosample.rank_tests),
    "rare": _two(twosample.rare),
    "rate_cs": lambda u: sequential.rate_cs(u.x, u.n),
    "realised": lambda u: confusion.realised(u.draw(MEASURE), u.confusion),
    "realised_macro": lambda u: confusion.realised_macro(u.draw(MEASURE), u.counts(u.d, u.d)),
    "rebin": lambda u: histogram.rebin(c := u.counts(u.d, u.size), histogram.groups(c)),
    "residual_test": lambda u: validity.residual_test(u.counts(2, 2, 8), u.table).reason,
    "rmse": lambda u: regression.rmse(_reg(u), u.x),
    "rows_needed": lambda u: sequential.rows_needed(abs(np.nan_to_num(u.x, posinf=1.0)) % 1, 0.05),
    "score_bin": lambda u: cal.score_bin(u.values(u.size)),
    "score_interval": lambda u: interval.score_interval(u.x, u.x, u.n),
    "smoothed": lambda u: _blocks(u, cal.smoothed),
    "sums": _of_state(histogram.sums),
    "tail_rank": lambda u: outlier.tail_rank(e := u.edges, u.integers(u.d, e.bins + 1), u.values(2, u.d)),
    "threshold_for": lambda u: ranking.threshold_for(u.values(u.size), _bits(u), u.x),
    "tvd": _two(divergence.tvd),
    "two_proportions": lambda u: twosample.two_proportions(u.x, u.n, u.x, u.n),
    "distances": lambda u: divergence.distances(*u.pair(), u.values(u.d, u.size), u.values(u.d, u.size)),
    "wasserstein": lambda u: divergence.wasserstein(*u.pair(), u.values(u.d, u.size), u.values(u.d, u.size)),
    "wilson": lambda u: interval.wilson(u.x, u.n),
    "z_value": lambda _: interval.z_value(0.9),
    **{measure.name: partial(_measured, measure) for measure in confusion.MEASURES},
}


def test_no_public_function_is_left_out_here() -> None:
    mine = [public(module) for module in MODULES if module not in JUDGED_ELSEWHERE]
    functions = {name for names in mine for name, value in names.items() if not inspect.isclass(value)}
    assert functions - {"Kind"} <= CASES.keys()


def estimates(found: object) -> list[Estimate]:
    """All estimates in a result."""
    if isinstance(found, Estimate):
        return [found]
    if isinstance(found, (list, tuple)):
        return [one for part in found for one in estimates(part)]
    return []


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=40)
@given(data=st.data(), size=st.sampled_from([0, 1, 2, 7]))
def test_no_input_raises_and_a_status_says_why(name: str, data: st.DataObject, size: int) -> None:
    with np.errstate(all="ignore"):
        found = CASES[name](Ugly(data, size))
    for seen in estimates(found):
        assert isinstance(str(seen), str)
        assert seen.needed_n >= 0
        if seen.status is Status.OK:
            assert seen.lower <= seen.value <= seen.upper
        elif math.isnan(seen.value):
            assert seen.reason or seen.needed_n


def test_results_are_frozen() -> None:
    results = [Estimate, Confusion, Table, Map, Sums, Bernstein, EProcess, Watch]
    results += [fairness.Gap, cause.Cause, outlier.Basis, validity.Validity]
    for result in results:
        assert is_dataclass(result)
        assert getattr(result, "__dataclass_params__").frozen  # noqa: B009  no stub knows it
    for result in (Estimate, validity.Validity, fairness.Gap):
        assert {"value", "lower", "upper", "n", "status", "needed_n"} <= {field.name for field in fields(result)}
