"""The report of a demonstration: what was true, what the platform said, and whether the loop closed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class PhaseReport:
    """One phase: truth, estimate, realisation. Precisions are from 0 to 1, NaN where unknown."""

    name: str
    from_: str
    to: str
    predictions: int
    true_precision: float
    estimated_precision: float
    estimated_low: float
    estimated_high: float
    realised_precision: float
    realised_low: float
    realised_high: float
    realised_n: int
    """Flagged rows with a label: what the realised figures rest on."""
    label_completeness: float


@dataclass(frozen=True)
class AlertReport:
    """One alert as the subscriber saw it."""

    id: str
    kind: str
    model: str
    version: int
    raised_at: str
    windows_after_change: int | None
    """Windows from the last change of the world to the end of the window that raised it; None in the stable phase."""
    resolved_at: str | None


@dataclass(frozen=True)
class VersionReport:
    """One model version and its gate."""

    model: str
    version: int
    dataset_version: int
    gate: str


@dataclass(frozen=True)
class RolloutReport:
    """One rollout and the steps it took: weights in percent."""

    id: str
    version: int
    state: str
    steps: list[float]


@dataclass(frozen=True)
class PredictionReport:
    """Every prediction, counted."""

    sent: int
    answered: int
    failed: int
    in_kafka: int
    lost: int
    duplicated: int


@dataclass(frozen=True)
class QuarantineReport:
    """What became of the bad records that were planted among the good ones."""

    planted: int
    in_quarantine: int
    lost: int
    """Planted, but not in quarantine with the content and the fault that they had."""
    not_planted: int
    """In quarantine, but nobody planted it so."""
    by_fault: dict[str, int]
    """Records in quarantine by the code of their first fault."""

    @property
    def complete(self) -> bool:
        """Whether exactly what was planted is there."""
        return not self.lost and not self.not_planted

    def __str__(self) -> str:
        """Say it in a line."""
        faults = ", ".join(f"{count} {code}" for code, count in self.by_fault.items())
        return (
            f"{self.planted} bad records were among them: {self.in_quarantine} in quarantine with their bytes, "
            f"{self.lost} lost ({faults})"
        )


@dataclass(frozen=True)
class Report:
    """The whole demonstration."""

    closed_loop: bool
    open_ends: list[str]
    """What is missing for a closed loop, in words; empty if it closed."""
    seconds: float
    seed: int
    phases: list[PhaseReport]
    alerts: list[AlertReport]
    versions: list[VersionReport]
    rollouts: list[RolloutReport]
    predictions: PredictionReport
    quarantine: QuarantineReport

    def write(self, path: Path) -> None:
        """Write the report as JSON; NaN becomes null."""
        path.write_text(json.dumps(_plain(asdict(self)), indent=2) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON is anything
    if isinstance(value, dict):
        return {str(key).rstrip("_"): _plain(inner) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [_plain(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(phases: list[PhaseReport]) -> str:
    """Return the closing table: truth, estimate and realisation per phase."""
    head = (
        f"{'phase':<18}{'predictions':>12}{'truth':>8}   {'estimated (95 %)':<22}{'realised (95 %)':<22}{'labelled':>9}"
    )
    return "\n".join([head, "─" * len(head), *(_line(phase) for phase in phases)])


def _line(phase: PhaseReport) -> str:
    estimated = _figure(phase.estimated_precision, phase.estimated_low, phase.estimated_high)
    realised = _figure(phase.realised_precision, phase.realised_low, phase.realised_high)
    labelled = f"{phase.label_completeness:.0%}" if math.isfinite(phase.label_completeness) else "–"
    return (
        f"{phase.name:<18}{phase.predictions:>12,}{phase.true_precision:>8.3f}   "
        f"{estimated:<22}{realised:<22}{labelled:>9}"
    )


def _figure(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f}–{high:.3f})" if math.isfinite(value) else "–"
