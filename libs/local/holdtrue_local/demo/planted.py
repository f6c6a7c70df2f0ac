"""Bad records as producers send them: planted among the good ones, and looked for in quarantine."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from .report import QuarantineReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdtrue_contracts.registry.v1.quarantine_pb2 import RejectedRecord

RULES = """
version: 1
columns:
  amount: {min: 0}
  hour: {min: 0, max: 23}
  fraud: {one_of: [0, 1]}
conditions:
  - {id: no-foreign-blitz, condition: foreign == 0 or velocity < 1000}
"""
"""What a payment must be like besides the types of its columns; all of the stream's are."""
_SPOILT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("WRONG_TYPE", {"amount": "a lot"}),
    ("MISSING", {"account_age_days": None}),
    ("OUT_OF_RANGE", {"amount": -5.0}),
    ("NOT_ALLOWED", {"fraud": 7}),
    ("RULE", {"foreign": 1.0, "velocity": 5000.0}),
)
EACH = 8
"""Bad records of each kind."""
TOTAL = EACH * len(_SPOILT)


class Planted:
    """The bad records that were sent, with what is wrong with each: the oracle for what became of them."""

    def __init__(self) -> None:
        """Nothing is sent yet."""
        self._sent: list[tuple[str, str]] = []

    def spoil(self, good: Mapping[str, Any], at: float) -> dict[str, Any]:
        """Return the next bad record, made of a good one; `at` is the time of its event."""
        code, wrong = _SPOILT[len(self._sent) % len(_SPOILT)]
        bad = {**good, **wrong}
        self._sent.append((code, _content(bad | {"at": at})))
        return bad

    def compare(self, found: Iterable[RejectedRecord]) -> QuarantineReport:
        """Hold the records in quarantine against those that were sent."""
        kept = Counter((record.faults[0].code, _content(json.loads(record.raw))) for record in found)
        sent = Counter(self._sent)
        return QuarantineReport(
            planted=sent.total(),
            in_quarantine=kept.total(),
            lost=(sent - kept).total(),
            not_planted=(kept - sent).total(),
            by_fault=dict(sorted(Counter(code for code, _ in kept.elements()).items())),
        )


def _content(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)
