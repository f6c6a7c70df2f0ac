"""The demonstration closes the loop on this machine, and its report holds against the truth."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 480
SEEDS = (1, 2, 3)

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(SECONDS)]

PHASES = ["stable", "covariate shift", "concept drift", "roll-out", "recovered"]


def demonstrate(home: dict[str, str], folder: Path, *options: str) -> dict[str, Any]:
    """Run `holdtrue demo`; its report."""
    report = folder / "report.json"
    command = [ROOT / "holdtrue", "demo", "--report", report, *options]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(report.read_text())


def check(report: dict[str, Any]) -> None:
    """What every report of a closed loop has to say."""
    assert report["closed_loop"] is True
    assert report["open_ends"] == []
    counts = report["predictions"]
    assert counts["sent"] == counts["answered"] == counts["in_kafka"] == sum(p["predictions"] for p in report["phases"])
    assert counts["failed"] == counts["lost"] == counts["duplicated"] == 0
    assert report["quarantine"] == {
        "planted": 40, "in_quarantine": 40, "lost": 0, "not_planted": 0,
        "by_fault": {"MISSING": 8, "NOT_ALLOWED": 8, "OUT_OF_RANGE": 8, "RULE": 8, "WRONG_TYPE": 8},
    }  # fmt: skip
    _check_phases({phase["name"]: phase for phase in report["phases"]})
    _check_alerts(report)
    assert [version["version"] for version in report["versions"]][:2] == [1, 2]
    assert "precision pass" in report["versions"][1]["gate"]
    assert report["rollouts"][-1]["state"] == "completed"
    assert report["rollouts"][-1]["steps"][0] == 0
    assert report["rollouts"][-1]["steps"][-1] == 100


def _check_phases(phases: dict[str, dict[str, Any]]) -> None:
    assert list(phases) == PHASES
    assert all(phase["label_completeness"] == 1 for phase in phases.values())
    stable, drifted, recovered = phases["stable"], phases["concept drift"], phases["recovered"]
    assert abs(stable["estimated_precision"] - stable["true_precision"]) <= 0.05
    assert abs(stable["realised_precision"] - stable["true_precision"]) <= 0.05
    assert drifted["true_precision"] < 0.6
    assert drifted["estimated_precision"] > 0.75, "scores alone cannot see a concept drift"
    assert recovered["realised_precision"] > stable["realised_precision"] - 0.05


def _check_alerts(report: dict[str, Any]) -> None:
    kinds = {alert["kind"] for alert in report["alerts"]}
    assert {"drift.feature", "performance.realised"} <= kinds
    first = next(alert for alert in report["alerts"] if alert["kind"] == "performance.realised")
    assert first["version"] == 1
    assert first["windows_after_change"] <= 3


def test_the_loop_closes_and_nothing_is_lost(home: dict[str, str], tmp_path: Path) -> None:
    report = demonstrate(home, tmp_path, "--fast")
    check(report)
    assert not list(Path(home["HOLDTRUE_HOME"]).glob("demo-*")), "the demonstration leaves no data"


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_other_worlds_close_it_too(home: dict[str, str], tmp_path: Path, seed: int) -> None:
    check(demonstrate(home, tmp_path, "--seed", str(seed)))
