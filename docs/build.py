"""Draw the pictures of docs/statistics from the library itself.

    python docs/build.py [--to FOLDER] [NAME …]

Writes NAME.svg, the same bytes every time.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from holdtrue_stats import (
    State,
    Sums,
    auc_noninferior,
    bh,
    chi2,
    compare_means,
    drift,
    estimated,
    fit_isotonic,
    fold,
    freeze,
    groups,
    ks,
    pca_fit,
    pca_residual,
    precision,
    psi_adjusted,
    realised,
    rebin,
    score_bin,
    wilson,
)
from holdtrue_stats.confusion import binary

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdtrue_stats.histogram import Kind

FOLDER = Path(__file__).parent / "statistics" / "img"
INK, BLUE, ORANGE, GREEN, RED = "#333a45", "#2f6fde", "#e07a1f", "#2a9d5c", "#c43d3d"
NUMERIC: list[Kind] = ["numeric"] * 30
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "holdtrue",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.figsize": (7, 3.4),
}


def histogram(axes: Any) -> None:
    """Reference and window on the same frozen bins."""
    g = np.random.default_rng(1)
    reference, window = g.lognormal(0, 0.5, (10_000, 1)), g.lognormal(0.15, 0.5, (1000, 1))
    edges = freeze(reference)
    r, c = (fold(edges, x, State.empty(edges)).hist[:, :-1] for x in (reference, window))
    group = groups(r)
    shares = [rebin(side, group)[0] / side.sum() for side in (r, c)]
    for share, colour, name, shift in zip(shares, (INK, ORANGE), ("reference", "window"), (-0.2, 0.2), strict=True):
        axes.bar(np.arange(16) + shift, share, 0.4, color=colour, label=name)
    axes.set_title(f"adjusted PSI {psi_adjusted(*(rebin(side, group) for side in (r, c)))[0]:.3f}", loc="left")
    axes.set_xlabel("16 groups of about equal reference mass")
    axes.set_ylabel("share of rows")
    axes.legend()


def drifts(axes: Any) -> None:
    """Share of windows that alarm, by how far one of 30 features has moved."""
    g, shifts, runs = np.random.default_rng(2), np.linspace(0, 0.3, 7), 60
    rules: dict[str, Callable[[Any, Any], bool]] = {
        "ours: evidence and effect": lambda r, c: bool(drift(r, c, NUMERIC).drifted.any()),
        "KS, Bonferroni .05": lambda r, c: bool((ks(r[:, :-1], c[:, :-1])[1] < 0.05 / 30).any()),
        "χ² on 16 bins, BH .01": lambda r, c: bool(bh(_chi2(r[:, :-1], c[:, :-1]), 0.01).any()),
        "KS p < .05 on any feature": lambda r, c: bool((ks(r[:, :-1], c[:, :-1])[1] < 0.05).any()),
    }
    alarms = np.zeros((len(rules), len(shifts)))
    for _ in range(runs):
        reference, window = g.normal(0, 1, (10_000, 30)), g.normal(0, 1, (1000, 30))
        edges = freeze(reference)
        r = fold(edges, reference, State.empty(edges)).hist
        for i, shift in enumerate(shifts):
            moved = window.copy()
            moved[:, 0] += shift
            c = fold(edges, moved, State.empty(edges)).hist
            alarms[:, i] += [rule(r, c) for rule in rules.values()]
    for name, line, colour in zip(rules, alarms / runs, (BLUE, GREEN, INK, RED), strict=True):
        axes.plot(shifts, line, color=colour, label=name)
    axes.set_xlabel("shift of one of 30 features, in σ")
    axes.set_ylabel("share of windows that alarm")
    axes.legend(loc="center right", fontsize=8)


def _chi2(r: Any, c: Any) -> Any:
    group = groups(r)
    return chi2(rebin(r, group), rebin(c, group))[1]


def performance(axes: Any) -> None:
    """Estimated and realised precision over 40 windows: covariate shift in the middle, concept drift at the end."""
    g = np.random.default_rng(3)
    score = g.beta(1, 2, 6000)
    table = fit_isotonic(score, g.random(6000) < score).table()
    lines: dict[str, list[Any]] = {"estimated": [], "realised": []}
    for window in range(40):
        now = g.beta(1 if window < 12 else 2, 2, 1500)
        meaning = now if window < 26 else now * max(0.35, 1 - 0.08 * (window - 26))
        y, flagged = g.random(1500) < meaning, now >= 0.5
        rows = np.zeros((2, 1024))
        np.add.at(rows, (flagged.astype(int), score_bin(now)), 1)
        cells = np.bincount(flagged * 2 + y, minlength=4).reshape(2, 2)
        lines["estimated"].append(estimated(precision, rows, table))
        lines["realised"].append(realised(precision, binary(cells)))
    for (name, found), colour in zip(lines.items(), (BLUE, ORANGE), strict=True):
        axes.plot([e.value for e in found], color=colour, label=name)
        axes.fill_between(range(40), [e.lower for e in found], [e.upper for e in found], color=colour, alpha=0.2)
    for at, text in ((12, "inputs move"), (26, "their meaning moves")):
        axes.axvline(at, color=INK, lw=0.8, ls=":")
        axes.text(at + 0.3, 0.22, text, color=INK, fontsize=8)
    axes.set_xlabel("window")
    axes.set_ylabel("precision")
    axes.set_ylim(0.2, 0.9)
    axes.legend(loc="upper left")


def intervals(axes: Any) -> None:
    """Exact coverage of two 95 % intervals of a rate with 50 rows."""
    n, rates = 50, np.linspace(0.005, 0.995, 199)
    bounds = [wilson(k, n) for k in range(n + 1)]
    naive = [(k / n - 1.96 * se, k / n + 1.96 * se) for k in range(n + 1) for se in [math.sqrt(k * (n - k) / n) / n]]
    chances = np.array([[math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)] for p in rates])
    for name, ends, colour in (
        ("± 1.96 standard errors", naive, RED),
        ("Wilson", [(e.lower, e.upper) for e in bounds], BLUE),
    ):
        low, high = np.array(ends).T
        inside = (low <= rates[:, None]) & (rates[:, None] <= high)
        axes.plot(rates, (chances * inside).sum(1), color=colour, label=name)
    axes.axhline(0.95, color=INK, lw=0.8, ls=":")
    axes.set_xlabel("true rate, 50 rows")
    axes.set_ylabel("coverage")
    axes.set_ylim(0.6, 1.0)
    axes.legend(loc="lower center")


def sequential(axes: Any) -> None:
    """A difference of two equal rates over growing rows, with an interval for one look and one for all."""
    g, looks, step = np.random.default_rng(18), 300, 40
    a, b = (np.cumsum(g.binomial(step, 0.88, looks)) for _ in range(2))
    rows = np.arange(1, looks + 1) * step
    found = [
        compare_means(Sums.of_rate(int(x), int(n)), Sums.of_rate(int(y), int(n)), 0.05)
        for x, y, n in zip(a, b, rows, strict=True)
    ]
    value = (b - a) / rows
    fixed = 1.96 * np.sqrt(sum(k / rows * (1 - k / rows) / rows for k in (a, b)))
    axes.fill_between(
        rows, [e.lower for e in found], [e.upper for e in found], color=BLUE, alpha=0.2, label="all looks"
    )
    axes.fill_between(rows, value - fixed, value + fixed, color=RED, alpha=0.35, label="one look")
    axes.axhline(0, color=INK, lw=0.8, ls=":")
    axes.set_ylim(-0.12, 0.12)
    axes.set_xlabel("rows of each group; the true difference is 0")
    axes.set_ylabel("difference of precision")
    axes.legend()


def gate(axes: Any) -> None:
    """The AUC check of equal and worse candidates at growing numbers of labels."""
    g = np.random.default_rng(5)
    colours = {"pass": GREEN, "inconclusive": INK, "fail": RED}
    place = 0
    for n in (500, 2000, 10_000):
        for drop in (0.0, 0.03, 0.12):
            y = g.random(n) < 0.3
            base = np.where(y, g.normal(1.2, 1, n), g.normal(-0.2, 1, n))
            a, b = base + g.normal(0, 0.5, n), base + g.normal(0, 0.5, n) - drop * np.where(y, 1, -1)
            check = auc_noninferior(y, a, b, 0.02)
            axes.plot([check.lower, check.upper], [place, place], color=colours[check.outcome], lw=3)
            axes.plot([check.value], [place], "o", color=colours[check.outcome])
            more = f", {check.needed_n:,} more labels" if check.needed_n else ""
            axes.text(0.022, place, f"{n:,} labels: {check.outcome}{more}", va="center", fontsize=8)
            place -= 1
        place -= 0.6
    axes.axvline(-0.02, color=INK, lw=0.8, ls=":")
    axes.text(-0.0205, 0.6, "margin", ha="right", fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.09, 0.07)
    axes.set_xlabel("AUC of candidate less champion, 5 % bounds")


def outliers(axes: Any) -> None:
    """Rows off the plane of the reference."""
    g = np.random.default_rng(4)
    x = g.normal(0, 1, (400, 1)) + g.normal(0, 0.15, (400, 2))
    odd = np.array([[1.2, -0.4], [-0.8, 0.9], [0.3, 1.4]])
    basis = pca_fit(x)
    axes.plot(*x.T, ".", ms=3, color=INK, alpha=0.5, label="reference")
    for row, residual in zip(odd, pca_residual(basis, odd), strict=True):
        axes.plot(*row, "o", color=RED if residual > basis.limit else GREEN)
        axes.text(row[0] + 0.12, row[1], f"{residual / basis.limit:.1f} × limit", fontsize=8, color=RED)
    axes.set_xlabel("first column")
    axes.set_ylabel("second column")
    axes.legend(loc="upper left")


PICTURES = {
    "histogram": histogram,
    "drift": drifts,
    "performance": performance,
    "intervals": intervals,
    "sequential": sequential,
    "gate": gate,
    "outliers": outliers,
}


def main() -> None:
    """Draw the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(PICTURES), metavar="NAME", help=f"of {', '.join(PICTURES)}")
    parser.add_argument("--to", type=Path, default=FOLDER, metavar="FOLDER", help="where; default: where pages look")
    options = parser.parse_args()
    pyplot: Any = plt
    for name in options.names:
        with pyplot.rc_context(STYLE):
            figure, axes = pyplot.subplots(layout="constrained")
            PICTURES[name](axes)
            figure.savefig(options.to / f"{name}.svg", metadata={"Date": None})
            pyplot.close(figure)


if __name__ == "__main__":
    main()
