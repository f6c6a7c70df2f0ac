"""How long a model takes for so many rows, learned while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FORGETTING = 0.99
_DEFAULT_SECONDS = 0.001


class RunTime:
    """Seconds = slope · rows + base, by least squares over the runs, each counting 1 % less with every later one.

    The runs of the warm-up are never forgotten: they keep the line defined when all traffic has one size, where plain
    recursive least squares winds up.
    """

    def __init__(self, warm_up: Iterable[tuple[int, float]] = ()) -> None:
        """Begin with the runs of the warm-up: rows and seconds of each."""
        runs = list(warm_up)
        self._fixed = (
            float(len(runs)),
            float(sum(rows for rows, _ in runs)),
            float(sum(rows * rows for rows, _ in runs)),
            sum(seconds for _, seconds in runs),
            sum(rows * seconds for rows, seconds in runs),
        )
        self._recent = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._slope, self._base = self._solve() if runs else (0.0, _DEFAULT_SECONDS)

    def seconds(self, rows: int) -> float:
        """The expected time of a run."""
        return max(self._slope * rows + self._base, 0.0)

    def learn(self, rows: int, seconds: float) -> None:
        """Take in a run that happened."""
        n, r, rr, s, rs = self._recent
        self._recent = (
            FORGETTING * n + 1,
            FORGETTING * r + rows,
            FORGETTING * rr + rows * rows,
            FORGETTING * s + seconds,
            FORGETTING * rs + rows * seconds,
        )
        self._slope, self._base = self._solve()

    def _solve(self) -> tuple[float, float]:
        n, r, rr, s, rs = (fixed + recent for fixed, recent in zip(self._fixed, self._recent, strict=True))
        spread = n * rr - r * r
        slope = max((n * rs - r * s) / spread, 0.0) if spread > 0 else 0.0
        return slope, (s - slope * r) / n
