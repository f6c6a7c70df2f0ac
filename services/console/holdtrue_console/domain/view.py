"""The view model of the page: frozen dataclasses, also what `Accept: application/json` is answered with.

Every figure says what it is (estimated or realised), its interval, n and window. Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdtrue_console.domain.words import Word


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95 % interval; None where nothing can be said. `note` says why."""

    value: float | None
    lower: float | None
    upper: float | None
    n: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a gate or of a rollout."""

    name: str
    outcome: Word
    figure: Figure
    margin: float
    reason: str
    required: bool


@dataclass(frozen=True, slots=True)
class Version:
    """A model version with its gate."""

    number: int
    state: Word
    reason: str
    role: str
    dataset_version: int
    run_id: str
    registered_at: float
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A model with its versions, newest first."""

    name: str
    min_precision: float | None
    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """A revision's part of the traffic; `start` and `weight` in basis points."""

    version: int
    role: str
    start: int
    weight: int


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a rollout."""

    state: Word
    weight: int
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """The open rollout of a deployment, or its last one."""

    from_version: int
    to_version: int
    state: Word
    weight: int
    reason: str
    checks: tuple[Check, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A closed window of one revision."""

    version: int
    from_s: float
    to_s: float
    rows: int
    labelled: int
    estimated: Figure
    realised: Figure


@dataclass(frozen=True, slots=True)
class Health:
    """How a revision does over its rolling span."""

    version: int
    from_s: float
    to_s: float
    rows: int
    labelled: int
    completeness: float | None
    estimated: Figure
    realised: Figure
    drifted: tuple[str, ...]
    features: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment: traffic, rollout, and precision over time (windows oldest first)."""

    name: str
    model: str
    generation: int
    replicas: int
    converged: int
    gate: float | None
    traffic: tuple[Traffic, ...]
    rollout: Rollout | None
    health: tuple[Health, ...]
    points: tuple[Point, ...]
    alerts: int


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert with its evidence."""

    id: str
    title: str
    kind: str
    severity: Word
    status: str
    deployment: str
    version: int
    figure: Figure
    threshold: float | None
    from_s: float
    to_s: float
    raised_at: float
    resolved_at: float | None
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """A service and whether it answers."""

    name: str
    address: str
    state: Word
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """A topic: events since its creation and per second of late."""

    topic: str
    total: int
    per_second: float


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page shows at one moment. `gaps` names what could not be asked, and why."""

    at: float
    version: str
    services: tuple[Service, ...]
    models: tuple[Model, ...]
    deployments: tuple[Deployment, ...]
    alerts: tuple[Alert, ...]
    rates: tuple[Rate, ...]
    gaps: tuple[str, ...]

    @property
    def open_alerts(self) -> tuple[Alert, ...]:
        """Alerts that are not over."""
        return tuple(alert for alert in self.alerts if alert.resolved_at is None)
