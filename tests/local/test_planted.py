"""The oracle of the demonstration's bad records finds what is lost, added or kept for another reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from holdtrue_contracts.registry.v1.quarantine_pb2 import RecordFault, RejectedRecord
from holdtrue_local.demo.planted import TOTAL, Planted

GOOD: dict[str, Any] = {"amount": 1.0, "account_age_days": 3.0, "foreign": 0.0, "velocity": 1.0, "fraud": 0}


@pytest.fixture
def planted() -> Planted:
    return Planted()


def kept(planted: Planted) -> list[RejectedRecord]:
    """Sow everything; return it as it has to be in quarantine."""
    codes = ["WRONG_TYPE", "MISSING", "OUT_OF_RANGE", "NOT_ALLOWED", "RULE"]
    return [
        RejectedRecord(
            raw=json.dumps({"at": float(number)} | planted.spoil(GOOD, float(number))).encode(),
            faults=[RecordFault(code=codes[number % 5])],
        )
        for number in range(TOTAL)
    ]


def test_all_is_well_when_everything_is_there_in_any_order(planted: Planted) -> None:
    report = planted.compare(reversed(kept(planted)))

    assert report.complete
    assert (report.planted, report.in_quarantine, sum(report.by_fault.values())) == (40, 40, 40)
    assert "40 bad records were among them: 40 in quarantine with their bytes, 0 lost (8 MISSING" in str(report)


def test_what_is_lost_changed_or_kept_for_another_reason_is_counted(planted: Planted) -> None:
    found = kept(planted)
    found[1].raw = b"{}"
    found[2].faults[0].code = "MISSING"

    report = planted.compare(found[1:])

    assert not report.complete
    assert (report.lost, report.not_planted, report.in_quarantine) == (3, 2, 39)
