"""Do the replicas serve what is desired?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from holdtrue_contracts.inference.v1.replicas_pb2 import (
    LOAD_STATE_FAILED,
    LOAD_STATE_READY,
    DeploymentProgress,
    ReplicaState,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

LIVE_FOR = timedelta(seconds=15)
"""A replica lives as long as its heartbeat, which comes each 5 s, is younger than this."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A revision that a replica could not load."""

    revision: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Convergence:
    """How far the live replicas are."""

    live: int
    converged: int
    failures: tuple[Failure, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all live replicas serve the desired state; none alive is not complete."""
        return self.live > 0 and self.live == self.converged


def convergence(
    replicas: Iterable[ReplicaState], deployment_id: str, generation: int, needed: Collection[str], now: datetime
) -> Convergence:
    """Count the live replicas, and those that serve at least `generation` with all `needed` revisions ready."""
    live = [replica for replica in replicas if now - _heartbeat(replica) < LIVE_FOR]
    progress = [p for replica in live for p in replica.deployments if p.deployment_id == deployment_id]
    done = sum(p.generation >= generation and _ready(p).issuperset(needed) for p in progress)
    failed = (s for p in progress for s in p.revisions if s.state == LOAD_STATE_FAILED)
    failures = tuple(Failure(s.revision, s.reason, s.since.ToDatetime(tzinfo=UTC)) for s in failed)
    return Convergence(len(live), done, failures)


def _heartbeat(replica: ReplicaState) -> datetime:
    return replica.heartbeat_at.ToDatetime(tzinfo=UTC)


def _ready(progress: DeploymentProgress) -> set[str]:
    return {state.revision for state in progress.revisions if state.state == LOAD_STATE_READY}
