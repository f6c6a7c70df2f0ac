"""How often drift rules cry wolf, and what they see: the table of docs/benchmarks.md.

    python benchmarks/false_alarms.py [--repetitions 5000] [--kinds normal,tied8] [--workers 2] [--json]

Each repetition draws a fresh reference (10,000 rows, 30 features) and a window (1,000 rows), runs the whole rule, and
counts any alarm. `shift` moves feature 0 of that window by 0.2 σ, `scale` stretches it by 1.2, both on the latent
normal that every kind of data is made of. `twice` is the two-window rule: the share of pairs of clean windows on one
reference in which the same feature alarms both times, over all pairs of `--windows` windows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from holdtrue_stats.arrays import kolmogorov
from holdtrue_stats.decision import DriftResult, drift
from holdtrue_stats.histogram import Edges, State, fold, freeze, groups, rebin
from holdtrue_stats.multiple import bh, cauchy
from holdtrue_stats.twosample import chi2, ks
from scipy.spatial.distance import jensenshannon
from scipy.special import ndtr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdtrue_stats.arrays import Bools, Floats
    from holdtrue_stats.histogram import Kind

REFERENCE, WINDOW, FEATURES = 10_000, 1_000, 30
SHIFT, SCALE = 0.2, 1.2
ALTERED = {"none": (0.0, 1.0), "shift": (SHIFT, 1.0), "scale": (0.0, SCALE)}
BLOCK = 25  # repetitions between two reports of progress


@dataclass(frozen=True)
class Data:
    """A kind of data: what is made of latent normals, and what the features are."""

    make: Callable[[Floats], Floats]
    kind: Kind = "numeric"
    correlation: float = 0.0
    missing: float = 0.0


def _levels(shares: Floats, z: Floats) -> Floats:
    """Cut latent normals into levels of these shares."""
    uniform: Floats = ndtr(z)
    return np.searchsorted(np.cumsum(shares)[:-1], uniform, side="right").astype(np.float64)


def _even(k: int) -> Floats:
    return np.full(k, 1 / k)


def _zipf(k: int) -> Floats:
    return 1 / np.arange(1, k + 1) / (1 / np.arange(1, k + 1)).sum()


def _kinds() -> dict[str, Data]:
    kinds = {
        "normal": Data(np.asarray),
        "correlated": Data(np.asarray, correlation=0.5),
        "lognormal": Data(np.exp),
        "missing": Data(np.asarray, missing=0.03),
        "missing.002": Data(np.asarray, missing=0.002),
    }
    for k in (2, 5, 8, 20, 50, 200):
        kinds[f"tied{k}"] = Data(partial(_levels, _even(k)))
    for share in (0.05, 0.01, 0.005, 0.002):
        kinds[f"flag{share:g}"] = Data(partial(_levels, np.array([1 - share, share])))
    for k in (2, 5, 8, 20, 60, 120):
        kinds[f"categories{k}"] = Data(partial(_levels, _even(k)), "categorical")
    for k in (5, 20, 60, 120):
        kinds[f"zipf{k}"] = Data(partial(_levels, _zipf(k)), "categorical")
    for share in (0.01, 0.005, 0.002):
        kinds[f"rare{share:g}"] = Data(partial(_levels, np.array([1 - share, share])), "categorical")
    return kinds


KINDS = _kinds()


@dataclass
class Tally:
    """Alarms counted over `runs` repetitions; `evidence` are clean windows that alarm before the effect is asked."""

    runs: int = 0
    evidence: int = 0
    none: int = 0
    shift: int = 0
    scale: int = 0
    pairs: int = 0
    twice: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Tally)))


def main() -> None:
    arguments = _arguments()
    names = arguments.kinds.split(",") if arguments.kinds else list(KINDS)
    found: dict[str, dict[str, int]] = {}
    with ProcessPoolExecutor(arguments.workers) as pool:
        if arguments.peers:
            _peers_table(arguments, pool)
        if not arguments.json:
            print(f"\n| our rule on | evidence alone | no drift | one +{SHIFT}σ | one ×{SCALE} | twice |")
            print("|---|---|---|---|---|---|", flush=True)
        for name in names:
            jobs = [(name, arguments.seed, block, arguments.windows) for block in _blocks(arguments.repetitions)]
            found[name] = asdict(sum(_progress(name, pool.map(_repeat, jobs), len(jobs)), Tally()))
            if not arguments.json:
                print(_row(name, Tally(**found[name])), flush=True)
    if arguments.json:
        print(json.dumps(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5000, help="fresh references for each kind of data")
    parser.add_argument("--kinds", default="", help=f"comma-separated, of {', '.join(KINDS)}; default: all")
    parser.add_argument("--windows", type=int, default=2, help="clean windows per reference for the two-window rule")
    parser.add_argument("--peers", type=int, default=0, help="repetitions of the peers' rules on the normal kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print counts instead of tables")
    return parser.parse_args()


def _blocks(repetitions: int) -> list[tuple[int, int]]:
    """(number, repetitions) of each block."""
    return [(i, min(BLOCK, repetitions - i * BLOCK)) for i in range(-(-repetitions // BLOCK))]


def _progress(name: str, results: Iterator[Any], total: int) -> Iterator[Any]:
    began = time.monotonic()
    for done, result in enumerate(results, 1):
        left = (time.monotonic() - began) / done * (total - done)
        print(f"\r{name}: {done} of {total} blocks, {left:.0f} s left  ", end="", file=sys.stderr, flush=True)
        yield result
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


def _repeat(job: tuple[str, int, tuple[int, int], int]) -> Tally:
    name, seed, (block, repetitions), windows = job
    rng = np.random.default_rng([seed, list(KINDS).index(name), block])
    return sum((_once(KINDS[name], rng, windows) for _ in range(repetitions)), Tally())


def _once(data: Data, rng: np.random.Generator, windows: int) -> Tally:
    """One reference: a clean window, the same with feature 0 altered in two ways, and further clean windows."""
    x = _rows(data, rng, _latent(data, rng, REFERENCE))
    kinds: list[Kind] = [data.kind] * FEATURES
    edges = freeze(x, kinds=kinds)
    reference = _hist(edges, x)
    z = _latent(data, rng, WINDOW)
    clean = _hist(edges, _rows(data, rng, z))
    tally, results = Tally(runs=1), dict[str, DriftResult]()
    for what, (shift, scale) in ALTERED.items():
        current = clean.copy()
        if what != "none":
            column = _rows(data, rng, z[:, :1] * scale + shift)
            current[:1] = _hist(_first(edges), column, edges.bins)
        results[what] = drift(reference, current, edges.kinds)
        setattr(tally, what, int(results[what].alarms.any()))
    seen = results["none"]
    tally.evidence = int(bh(np.r_[seen.p, seen.p_missing], 0.005).any())
    alarms = np.array(seen.alarms, np.int64)
    for _ in range(windows - 1):
        more = _hist(edges, _rows(data, rng, _latent(data, rng, WINDOW)))
        alarms += drift(reference, more, edges.kinds).alarms
    return replace(tally, pairs=windows * (windows - 1) // 2, twice=int((alarms * (alarms - 1) // 2).sum()))


def _latent(data: Data, rng: np.random.Generator, n: int) -> Floats:
    z = rng.standard_normal((n, FEATURES))
    if not data.correlation:
        return z
    return np.sqrt(data.correlation) * rng.standard_normal((n, 1)) + np.sqrt(1 - data.correlation) * z


def _rows(data: Data, rng: np.random.Generator, z: Floats) -> Floats:
    x = data.make(z)
    return np.where(rng.random(x.shape) < data.missing, np.nan, x) if data.missing else x


def _hist(edges: Edges, x: Floats, bins: int = 0) -> np.ndarray:
    """Counts [d, bins + 1] with missing values last."""
    hist = fold(edges, x, State.empty(edges)).hist
    return hist if not bins else np.c_[np.pad(hist[:, :-1], ((0, 0), (0, bins + 1 - hist.shape[1]))), hist[:, -1]]


def _first(edges: Edges) -> Edges:
    return replace(
        edges,
        edges=edges.edges[:1].copy(),
        counts=edges.counts[:1].copy(),
        center=edges.center[:1].copy(),
        inv_scale=edges.inv_scale[:1].copy(),
        kinds=edges.kinds[:1],
    )


def _row(name: str, t: Tally) -> str:
    shares = [f"{count / t.runs:.4f}" for count in (t.evidence, t.none, t.shift, t.scale)]
    return f"| {name} | {' | '.join(shares)} | {t.twice / max(t.pairs, 1):.1e} |"


# ---- other rules, on normal data -------------------------------------------------------------------------------


def _peers_table(arguments: argparse.Namespace, pool: ProcessPoolExecutor) -> None:
    jobs = [(arguments.seed, block) for block in _blocks(arguments.peers)]
    counts = sum(_progress("peers", pool.map(_peers, jobs), len(jobs)), np.zeros((len(RULES), 3)))
    print(f"\n| any alarm on normal data ({arguments.peers} runs) | no drift | one +{SHIFT}σ | one ×{SCALE} |")
    print("|---|---|---|---|")
    for name, row in zip(RULES, counts / arguments.peers, strict=True):
        print(f"| {name} | {' | '.join(f'{share:.3f}' for share in row)} |", flush=True)


def _peers(job: tuple[int, tuple[int, int]]) -> Floats:
    seed, (block, repetitions) = job
    rng, counts = np.random.default_rng([seed, 999, block]), np.zeros((len(RULES), 3))
    for _ in range(repetitions):
        x, z = rng.standard_normal((REFERENCE, FEATURES)), rng.standard_normal((WINDOW, FEATURES))
        edges = freeze(x)
        for column, (shift, scale) in enumerate(ALTERED.values()):
            w = z.copy()
            w[:, 0] = w[:, 0] * scale + shift
            sides = _hist(edges, x)[:, :-1].astype(np.float64), _hist(edges, w)[:, :-1].astype(np.float64)
            counts[:, column] += [rule(x, w, *sides).any() for rule in RULES.values()]
    return counts


def _chunked_js(x: Floats, w: Floats, *_: Floats) -> Bools:
    """NannyML's rule: JS distance above mean + 3 std of the distances of ten reference chunks (Doane's bins)."""
    alarm = np.zeros(FEATURES, np.bool_)
    for j in range(FEATURES):
        cuts = np.histogram_bin_edges(x[:, j], "doane")
        whole = np.histogram(x[:, j], cuts)[0] / len(x)

        def distance(chunk: Floats, whole: Floats = whole, cuts: Floats = cuts) -> float:
            share = np.histogram(chunk, cuts)[0] / len(chunk)
            return float(jensenshannon(np.r_[whole, 0.0], np.r_[share, 1 - share.sum()], 2))

        known = [distance(chunk) for chunk in np.split(x[:, j], 10)]
        alarm[j] = distance(w[:, j]) > np.mean(known) + 3 * np.std(known)
    return alarm


def _ks_exact(x: Floats, w: Floats) -> Floats:
    """KS p-values of the raw values, as peers compute them from the rows."""
    root, p = np.sqrt(len(x) * len(w) / (len(x) + len(w))), np.empty(FEATURES)
    for j in range(FEATURES):
        both = np.concatenate([x[:, j], w[:, j]])
        f, g = (np.searchsorted(np.sort(side[:, j]), both, side="right") / len(side) for side in (x, w))
        p[j] = kolmogorov(np.abs(f - g).max() * (root + 0.12 + 0.11 / root))
    return p


def _chi2_p(r: Floats, c: Floats) -> Floats:
    group = groups(r)
    return chi2(rebin(r, group), rebin(c, group))[1]


def _both(r: Floats, c: Floats) -> Floats:
    return cauchy(np.stack([ks(r, c)[1], _chi2_p(r, c)]), c.sum(1))


NUMERIC: list[Kind] = ["numeric"] * FEATURES
RULES: dict[str, Callable[[Floats, Floats, Floats, Floats], Bools]] = {
    "NannyML: JS > mean + 3 std of 10 chunks": _chunked_js,
    "Evidently-like: KS p < .05": lambda x, w, _r, _c: _ks_exact(x, w) < 0.05,
    "Alibi Detect: Bonferroni KS .05": lambda x, w, _r, _c: _ks_exact(x, w) < 0.05 / FEATURES,
    "BH .01: KS": lambda _x, _w, r, c: bh(ks(r, c)[1], 0.01),
    "BH .01: χ² on 16 bins": lambda _x, _w, r, c: bh(_chi2_p(r, c), 0.01),
    "BH .01: Cauchy(KS, χ²)": lambda _x, _w, r, c: bh(_both(r, c), 0.01),
    "ours": lambda _x, _w, r, c: drift(np.c_[r, np.zeros(FEATURES)], np.c_[c, np.zeros(FEATURES)], NUMERIC).drifted,
}

if __name__ == "__main__":
    main()
