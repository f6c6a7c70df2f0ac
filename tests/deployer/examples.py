"""Rollouts and windows for the tests of the deployer's domain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from holdtrue_deployer.domain.evidence import LATENCY_BINS, Estimated, Figures, Window
from holdtrue_deployer.domain.machine import advance, begin
from holdtrue_deployer.domain.policy import Policy
from holdtrue_deployer.domain.replicas import Convergence
from holdtrue_deployer.domain.rollout import Advance, Evaluated, Observed, Rollout
from holdtrue_stats.sequential import Sums

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
POLICY = Policy(steps=(1_000, 5_000), step_seconds=60, step_rows=500, step_deadline_seconds=600, bake_seconds=120)
READY = Convergence(2, 2)
BEHIND = Convergence(2, 1)


def started(*, first: bool = False, warm: bool = False, policy: Policy = POLICY) -> Advance:
    return begin(
        rollout_id="rollout",
        deployment_id="deployment",
        from_revision="" if first else "old",
        to_revision="new",
        policy=policy,
        automatic=True,
        actor="deployer",
        generation=7,
        warm=warm,
        reason="approved",
        now=NOW,
    )


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def ns(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000_000


def latency(fast: int, slow: int = 0) -> tuple[int, ...]:
    """Answers of about 1 ms, and of about 1 s."""
    counts = [0] * LATENCY_BINS
    counts[20], counts[40] = fast, slow
    return tuple(counts)


def figures(  # noqa: PLR0913  a window has as many figures
    *,
    rows: int = 2_000,
    failed: int = 0,
    slow: int = 0,
    flagged: int = 1_000,
    realised: float | None = 0.9,
    estimated: float | None = 0.9,
    invalid: bool = False,
    restatement: int = 0,
) -> Figures:
    p = estimated or 0.0
    return Figures(
        restatement=restatement,
        rows=rows,
        answered=rows - failed,
        failed=failed,
        latency=latency(rows - failed - slow, slow),
        realised=Sums.of_rate(realised * flagged, flagged) if realised is not None else Sums(0, 0, 0),
        estimated=None
        if estimated is None
        else Estimated(sums=Sums(flagged, p * flagged, p * p * flagged), map_variance=1e-5, invalid=invalid),
    )


def window(revision: str, start: datetime, /, **given: Any) -> Evaluated:
    begin_ns = ns(start)
    end_ns = begin_ns + 60_000_000_000
    return Evaluated(Window(revision=revision, from_ns=begin_ns, to_ns=end_ns, figures=figures(**given)))


def stepping(policy: Policy = POLICY) -> Rollout:
    """A rollout that has just converged on its first step."""
    stepped = advance(started(policy=policy).rollout, Observed(READY), NOW).rollout
    return advance(stepped, Observed(READY), NOW).rollout


def fed(rollout: Rollout, at: float, champion: dict[str, Any], challenger: dict[str, Any]) -> Advance:
    """One window of both sides, starting and judged at this second."""
    half = advance(rollout, window("old", after(at), **champion), after(at)).rollout
    return advance(half, window("new", after(at), **challenger), after(at))
