"""Precision over time as a chart: the geometry of an SVG of 760 x 260, as numbers that can be tested."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdtrue_console.domain.view import Alert, Deployment, Point

WIDTH, HEIGHT = 760.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 12.0, 24.0, 28.0
_TICKS = 5
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class Tick:
    """A grid line: where, and what stands beside it."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Dot:
    """Realised precision of a window, with its interval."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """Estimated precision of one version: a line, and the band of its interval, as SVG path data."""

    version: int
    line: str
    band: str


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that happened. `row` keeps labels that are near each other apart."""

    x: float
    text: str
    kind: str
    row: int


@dataclass(frozen=True, slots=True)
class Chart:
    """All that the SVG draws. `summary` says the same in words."""

    summary: str
    lines: tuple[Line, ...]
    dots: tuple[Dot, ...]
    values: tuple[Tick, ...]
    times: tuple[Tick, ...]
    markers: tuple[Marker, ...]
    gate: float | None


@dataclass(frozen=True, slots=True)
class _Scale:
    """From seconds and precision to the SVG's units."""

    start: float
    end: float
    low: float

    def x(self, seconds: float) -> float:
        span = max(self.end - self.start, 1e-9)
        return round(LEFT + (seconds - self.start) / span * (WIDTH - LEFT - RIGHT), 1)

    def y(self, precision: float) -> float:
        inside = min(max(precision, self.low), 1.0)
        return round(TOP + (1 - inside) / (1 - self.low) * (HEIGHT - TOP - BOTTOM), 1)


def chart(deployment: Deployment, alerts: Iterable[Alert]) -> Chart | None:
    """Return the chart of a deployment; None before its first window."""
    points = deployment.points
    if not points:
        return None
    start, end = points[0].from_s, max(point.to_s for point in points)
    scale = _Scale(start, end, _lowest(points, deployment.gate))
    return Chart(
        summary=_summary(points),
        lines=tuple(_lines(points, scale)),
        dots=tuple(_dots(points, scale)),
        values=tuple(_values(scale)),
        times=tuple(_times(scale)),
        markers=tuple(_staggered(_markers(deployment, alerts, scale))),
        gate=scale.y(deployment.gate) if deployment.gate else None,
    )


def _middle(point: Point) -> float:
    return (point.from_s + point.to_s) / 2


def _lowest(points: Sequence[Point], gate: float | None) -> float:
    """Return the tenth below all that is drawn, so that the chart shows as much as it can."""
    figures = [figure for point in points for figure in (point.estimated, point.realised)]
    values = [value for f in figures for value in (f.value, f.lower) if value is not None and f.n > 0]
    lowest = min([*values, gate or 1.0])
    return min(0.9, max(0.0, math.floor(lowest * 10) / 10))


def _lines(points: Sequence[Point], scale: _Scale) -> Iterator[Line]:
    """Yield one line per version and stretch; a window without estimate interrupts it."""
    for version in sorted({point.version for point in points}):
        mine = [point for point in points if point.version == version]
        for known, stretch in groupby(mine, key=lambda point: point.estimated.value is not None):
            if known:
                yield _line(version, list(stretch), scale)


def _line(version: int, stretch: Sequence[Point], scale: _Scale) -> Line:
    xs = [scale.x(_middle(point)) for point in stretch]
    middle = [scale.y(point.estimated.value or 0.0) for point in stretch]
    upper = [scale.y(point.estimated.upper or 0.0) for point in stretch]
    lower = [scale.y(point.estimated.lower or 0.0) for point in stretch]
    around = [*zip(xs, upper, strict=True), *zip(reversed(xs), reversed(lower), strict=True)]
    return Line(version, _path(zip(xs, middle, strict=True)), _path(around) + "Z")


def _path(places: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)


def _dots(points: Sequence[Point], scale: _Scale) -> Iterator[Dot]:
    for point in points:
        seen = point.realised
        if seen.value is None or seen.lower is None or seen.upper is None:
            continue
        title = f"v{point.version} realised {seen.value:.3f} [{seen.lower:.3f}, {seen.upper:.3f}], n = {seen.n}"
        yield Dot(scale.x(_middle(point)), scale.y(seen.value), scale.y(seen.lower), scale.y(seen.upper), title)


def _values(scale: _Scale) -> Iterator[Tick]:
    for i in range(_TICKS + 1):
        value = scale.low + (1 - scale.low) * i / _TICKS
        yield Tick(scale.y(value), f"{value:.2f}")


def _times(scale: _Scale) -> Iterator[Tick]:
    span = scale.end - scale.start
    step = next((s for s in _SECONDS if span / s <= _TICKS + 1), _SECONDS[-1])
    first = math.ceil(scale.start / step) * step
    for i in range(int((scale.end - first) // step) + 1):
        at = first + i * step
        yield Tick(scale.x(at), f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}")


def _markers(deployment: Deployment, alerts: Iterable[Alert], scale: _Scale) -> Iterator[Marker]:
    """Yield the rollout's changes of traffic and the alerts, in time."""
    events = [(a.raised_at, a.kind, a.severity.tone) for a in alerts if a.deployment == deployment.name]
    if deployment.rollout:
        to = deployment.rollout.to_version
        events += [(c.at, f"v{to} {c.weight / 100:g} %", "roll") for c in deployment.rollout.changes if c.weight]
    for at, text, kind in sorted(events):
        if scale.start <= at <= scale.end:
            yield Marker(scale.x(at), text, kind, 0)


def _staggered(markers: Iterable[Marker]) -> Iterator[Marker]:
    """Give each label the first row that is free at its place; three rows, then they share the last."""
    ends = [0.0, 0.0, 0.0]
    for marker in markers:
        row = next((i for i, end in enumerate(ends) if end <= marker.x), len(ends) - 1)
        ends[row] = marker.x + 6.2 * len(marker.text) + 8
        yield Marker(marker.x, marker.text, marker.kind, row)


def _summary(points: Sequence[Point]) -> str:
    last = points[-1]
    estimated, realised = last.estimated.value, last.realised.value
    said = [f"estimated {estimated:.3f}" if estimated is not None else "no estimate"]
    said.append(f"realised {realised:.3f}" if realised is not None else "no labels yet")
    return f"{len(points)} windows; in the last one v{last.version}: {', '.join(said)}"
