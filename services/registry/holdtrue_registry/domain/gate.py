"""The gate: may this version be used? A pure function of a run's evidence and the model's policy.

Estimated precision is never evidence: when the world changes, the estimate is the last to know.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from holdtrue_contracts.columns import unpack
from holdtrue_contracts.common.v1 import measures_pb2
from holdtrue_contracts.common.v1.measures_pb2 import CheckResult
from holdtrue_stats import gates
from holdtrue_stats.gates import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue_contracts.trainer.v1.runs_pb2 import RunSucceeded

DEFAULT_MARGIN = 0.05
"""Precision that a version may lack against the champion, where the policy names no margin."""

_CELLS = 8


class State(StrEnum):
    """State of a model version."""

    REGISTERED = "registered"
    VALIDATED = "validated"
    APPROVED = "approved"
    REJECTED = "rejected"
    RETIRED = "retired"


@dataclass(frozen=True)
class Policy:
    """What a model demands of its versions.

    Precision of at least `min_precision` (0: no floor), at most `margin` less than the champion's (0: the default), and
    the consent of `approvals` people.
    """

    min_precision: float
    margin: float
    approvals: int


def policy_problems(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield (field, what is wrong) for everything that bars this policy from being used."""
    if not 0 <= policy.min_precision < 1:
        yield "min_precision", f"expected at least 0 and less than 1, got {policy.min_precision:g}"
    if not 0 <= policy.margin < 1:
        yield "precision_margin", f"expected at least 0 and less than 1, got {policy.margin:g}"
    if policy.approvals not in (0, 1, 2):
        yield "approvals", f"expected 0, 1 or 2, got {policy.approvals}"


@dataclass(frozen=True)
class Verdict:
    """Outcome of the gate: where the version stands now, why, and the evidence for it."""

    state: State
    reason: str
    checks: tuple[CheckResult, ...]


def judge(policy: Policy, run: RunSucceeded) -> Verdict:
    """Return the verdict; the worst outcome counts. The same evidence always gives the same verdict.

    Raises ValueError where the evidence contradicts itself.
    """
    checks = list(_checks(policy, run))
    results = tuple(_result(check) for check in checks)
    if not checks:
        return Verdict(State.VALIDATED, "the model's policy has no floor and there is no champion yet", results)
    worst = gates.worst(checks)
    reason = "; ".join(f"{c.name}: {c.reason}" for c in checks if c.outcome is worst)
    return Verdict(_STATES[worst], reason, results)


_STATES = {Outcome.PASS: State.VALIDATED, Outcome.FAIL: State.REJECTED, Outcome.INCONCLUSIVE: State.REGISTERED}
_OUTCOMES = {
    Outcome.PASS: measures_pb2.OUTCOME_PASS,
    Outcome.FAIL: measures_pb2.OUTCOME_FAIL,
    Outcome.INCONCLUSIVE: measures_pb2.OUTCOME_INCONCLUSIVE,
}


def _checks(policy: Policy, run: RunSucceeded) -> Iterator[gates.Check]:
    candidate = run.candidate
    if policy.min_precision > 0:
        yield gates.floor(candidate.tp, candidate.tp + candidate.fp, policy.min_precision)
    if run.HasField("cells"):
        yield gates.precision_noninferior(_cells(run), policy.margin or DEFAULT_MARGIN, _seed(run.spec.run_id))


def _cells(run: RunSucceeded) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    cells = unpack(run.cells, np.int64, 1)
    if cells.shape != (_CELLS,) or (cells < 0).any():
        raise ValueError(f"cells: expected {_CELLS} counts, got {cells.tolist()}")
    candidate = run.candidate
    if cells[3] + cells[7] != candidate.tp or cells[2] + cells[6] != candidate.fp:
        raise ValueError(
            f"cells {cells.tolist()} do not add up to the candidate's tp {candidate.tp} and fp {candidate.fp}"
        )
    return cells


def _seed(run_id: str) -> int:
    return zlib.crc32(run_id.encode())


def _result(check: gates.Check) -> CheckResult:
    return CheckResult(
        check=check.name,
        outcome=_OUTCOMES[check.outcome],
        value=check.value,
        lower=check.lower,
        upper=check.upper,
        n=check.n,
        margin=check.margin,
        needed_n=check.needed_n,
        reason=check.reason,
        required=True,
    )
