"""What the statistics cost, beside the libraries that people use for them: both sides in one run.

    python benchmarks/stats.py [--repeats 5] [--rows 200000]

The peers (NannyML, Evidently, river) run as programs of their own environment, which is made from
tests/foreign/peers.lock if it is missing. Ratios are of one run on one machine; absolute figures depend on it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_local import foreign
from holdtrue_stats import confusion, divergence, estimate, histogram, ranking
from holdtrue_stats.calibration import SCORE_BINS, fit_isotonic, score_bin
from holdtrue_stats.decision import drift
from holdtrue_stats.histogram import State, fold, fold_numpy, freeze

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdtrue_stats.arrays import Float32s
    from holdtrue_stats.histogram import Edges
    from numpy.typing import NDArray

FEATURES, BATCH = 30, 4096
RIVER_ROWS, EVIDENTLY_ROWS, CBPE_ROWS = 5_000, 20_000, 100_000


def main() -> None:
    arguments = _arguments()
    if foreign.missing("peers"):
        foreign.install("peers")
    g = np.random.default_rng(1)
    reference, x = (g.normal(0, 1, (rows, FEATURES)).astype(np.float32) for rows in (100_000, arguments.rows))
    edges = freeze(reference)
    print("| what | measured | goal |\n|---|---|---|", flush=True)
    _fold(edges, x, arguments.repeats)
    _score(edges, reference, x[:10_000], arguments.repeats)
    _cbpe(g, arguments.repeats)
    _import(arguments.repeats)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of which the best counts")
    parser.add_argument("--rows", type=int, default=200_000, help="rows to fold")
    return parser.parse_args()


def _fold(edges: Edges, x: Float32s, repeats: int) -> None:
    def through(kernel: Callable[[Edges, Any, State], State]) -> Callable[[], State]:
        def run() -> State:
            state = State.empty(edges)
            for batch in _batches(x):
                kernel(edges, batch, state)
            return state

        return run

    cuts = [edges.edges[j, : edges.counts[j]] for j in range(FEATURES)]

    def bare() -> None:
        for batch in _batches(x):
            for j in range(FEATURES):
                np.searchsorted(cuts[j], batch[:, j], side="right")

    numba, numpy = _rate(through(fold), len(x), repeats), _rate(through(fold_numpy), len(x), repeats)
    searched = _rate(bare, len(x), repeats)
    river = _ask("time_river", x=x[:RIVER_ROWS])["rows_per_second"]
    evidently = _ask("time_evidently", x=x[:EVIDENTLY_ROWS], reference=x[-EVIDENTLY_ROWS:])["rows_per_second"]
    _print(f"fold, numba, {FEATURES} float32 features, {BATCH:,}-row batches", f"{numba:,.0f} rows/s", "")
    _print("fold, numpy", f"{numpy:,.0f} rows/s", "")
    _print("bare `searchsorted`", f"{searched:,.0f} rows/s", "")
    _print("river, `Mean` and `Var` per feature", f"{river:,.0f} rows/s", "")
    _print("Evidently, `DataDriftPreset`, as many reference rows", f"{evidently:,.0f} rows/s", "")
    _ratio("numba / river", numba / river, 30)
    _ratio("numba / Evidently", numba / evidently, 100)
    _ratio("numba / numpy", numba / numpy, 4)
    _ratio("numpy / bare `searchsorted`", numpy / searched, 0.6)


def _score(edges: Edges, reference: Float32s, window: Float32s, repeats: int) -> None:
    before, after = (fold(edges, side, State.empty(edges)) for side in (reference, window))
    r, c = before.hist[:, :-1].astype(np.float64), after.hist[:, :-1].astype(np.float64)

    def score() -> None:
        drift(before.hist, after.hist, edges.kinds)
        divergence.distances(r, c, histogram.sums(edges, before), histogram.sums(edges, after))

    seconds = _best(score, 40 * repeats)
    _print(f"all divergences and the decision, {FEATURES} features", f"{seconds * 1e3:.2f} ms", "≤ 1 ms")


def _cbpe(g: np.random.Generator, repeats: int) -> None:
    reference, score = g.beta(1, 2, 10_000), g.beta(1.3, 2, CBPE_ROWS)
    y, flagged = g.random(10_000) < 1 / (1 + np.exp(-(8 * reference - 4))), score >= 0.5
    table = fit_isotonic(reference, y).table()

    def ours() -> dict[str, float]:
        place = score_bin(score) + SCORE_BINS * flagged
        rows = np.bincount(place, minlength=2 * SCORE_BINS).reshape(2, SCORE_BINS)
        cells, both = estimate.cbpe(rows, table.p), rows.sum(0)
        positive, negative = both * table.p, both * (1 - table.p)
        found = {measure.name: measure(cells) for measure in confusion.MEASURES}
        found["roc_auc"] = ranking.auc(positive, negative).value
        found["average_precision"] = ranking.average_precision(positive, negative).value
        return found

    inputs = {"reference": reference, "reference_flagged": reference >= 0.5, "y": y, "score": score, "flagged": flagged}
    seconds, theirs = _best(ours, 4 * repeats), _ask("time_cbpe", **inputs)["seconds"]
    _print(f"estimated performance of {CBPE_ROWS:,} rows, 7 measures", f"{seconds * 1e3:.2f} ms", "")
    _print("NannyML's CBPE, the same", f"{theirs * 1e3:.0f} ms", "")
    _ratio("NannyML / ours", theirs / seconds, 10)


def _import(repeats: int) -> None:
    program = "import time; began = time.perf_counter(); import holdtrue_stats; print(time.perf_counter() - began)"
    command = [sys.executable, "-c", program]
    seconds = min(float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(repeats))
    _print("`import holdtrue_stats`, numpy included", f"{seconds:.2f} s", "≤ 0.3 s")


def _batches(x: Float32s) -> Iterator[Float32s]:
    for start in range(0, len(x), BATCH):
        yield x[start : start + BATCH]


def _ask(task: str, **inputs: NDArray[Any]) -> dict[str, Any]:
    with TemporaryDirectory(prefix="holdtrue-bench-") as folder:
        path = Path(folder) / "inputs.npz"
        np.savez(path, allow_pickle=False, **inputs)
        return foreign.ask("peers", task, path)


def _rate(call: Callable[[], object], rows: int, repeats: int) -> float:
    return rows / _best(call, repeats)


def _best(call: Callable[[], object], repeats: int) -> float:
    call()  # compiles, and fills caches

    def once() -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    return min(once() for _ in range(repeats))


def _print(what: str, measured: str, goal: str) -> None:
    print(f"| {what} | {measured} | {goal} |", flush=True)


def _ratio(what: str, value: float, goal: float) -> None:
    _print(what, f"{value:,.1f} ×", f"≥ {goal:g} × {'✓' if value >= goal else '✗'}")


if __name__ == "__main__":
    main()
