"""A rollout: its states, what it reacts to, and what follows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from holdtrue_deployer.domain.checks import Check  # noqa: TC001  msgspec reads the annotations
from holdtrue_deployer.domain.evidence import Evidence, Window
from holdtrue_deployer.domain.policy import FULL, Policy

if TYPE_CHECKING:
    from holdtrue_deployer.domain.replicas import Convergence


class State(StrEnum):
    """Where a rollout is."""

    PREPARING = "preparing"
    STEPPING = "stepping"
    BAKING = "baking"
    HELD = "held"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    COMPLETED = "completed"
    FAILED = "failed"


FINAL = frozenset({State.ROLLED_BACK, State.COMPLETED, State.FAILED})


class Hold(StrEnum):
    """Why a rollout is held; all but `person` end by themselves when the reason is gone."""

    PERSON = "person"
    UNDECIDED = "undecided"
    SILENT = "monitor_silent"


class Change(StrEnum):
    """What happened to a rollout: the kind of its event."""

    STARTED = "started"
    ADVANCED = "advanced"
    HELD = "held"
    RESUMED = "resumed"
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"


class Duty(StrEnum):
    """What a revision does."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True)
class Share:
    """A revision's part of the traffic, in basis points."""

    revision: str
    duty: Duty
    weight: int


@dataclass(frozen=True, slots=True)
class Desired:
    """What replicas shall serve from this generation on. Weights sum to 10,000, or there are no shares."""

    generation: int
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout as it stands. Weight is the challenger's, in basis points; the champion has the rest."""

    rollout_id: str
    deployment_id: str
    from_revision: str
    """Empty for the first of a deployment."""
    to_revision: str
    policy: Policy
    """As it was at the start: a later change is for the next rollout."""
    automatic: bool
    actor: str
    started_at: datetime
    generation: int
    """Desired generation that this rollout made last."""
    state: State = State.PREPARING
    step: int = 0
    weight: int = 0
    since: datetime
    """When the state, or its clock, began."""
    due_at: datetime
    """When the state ends by the clock if nothing else ends it."""
    converged_at: datetime | None = None
    """Since when all live replicas serve this generation; evidence counts from there."""
    held_from: State | None = None
    hold: Hold | None = None
    evidence: Evidence = field(default_factory=Evidence)
    checks: tuple[Check, ...] = ()
    """The last verdict: after a change of state the one that led to it, until the next window is judged."""
    reason: str = ""

    @property
    def final(self) -> bool:
        """Whether nothing can happen any more."""
        return self.state in FINAL

    @property
    def needed(self) -> frozenset[str]:
        """Revisions that must be ready for the replicas to be converged."""
        both = {self.from_revision, self.to_revision} if self.state is not State.ROLLING_BACK else {self.from_revision}
        return frozenset(both - {""})


@dataclass(frozen=True, slots=True)
class Observed:
    """The clock ticked, and this is how far the replicas are."""

    convergence: Convergence


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The monitor closed or restated a window of one of the two revisions."""

    window: Window


@dataclass(frozen=True, slots=True)
class Alerted:
    """A critical alert of performance or serving about a revision; `at` is the end of the window that breached."""

    revision: str
    title: str
    at: datetime


@dataclass(frozen=True, slots=True)
class HoldAsked:
    """A person wants everything to stay."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """A person lets it go on."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class AbortAsked:
    """A person wants the champion back."""

    actor: str
    reason: str


Signal = Observed | Evaluated | Alerted | HoldAsked | ResumeAsked | AbortAsked


class IllegalTransition(Exception):
    """The signal makes no sense in this state."""

    def __init__(self, state: State, signal: str) -> None:
        """Name both."""
        super().__init__(f"a rollout that is {state} cannot be {signal}")
        self.state = state
        self.signal = signal


@dataclass(frozen=True, slots=True)
class Advance:
    """What follows of a signal: the rollout then, what to tell, and the new desired state if traffic changes."""

    rollout: Rollout
    changes: tuple[Change, ...] = ()
    desired: Desired | None = None


PREPARE_WITHIN = timedelta(minutes=5)
HOLD_FOR = timedelta(hours=24)
ROLL_BACK_WITHIN = timedelta(seconds=60)
GIVE_UP_AFTER = timedelta(minutes=10)
"""After so long a rollback that replicas do not confirm has failed."""


def shares(rollout: Rollout) -> tuple[Share, ...]:
    """Return who shall get what in the rollout's state."""
    old, new = rollout.from_revision, rollout.to_revision
    if rollout.state is State.COMPLETED:
        both = Share(new, Duty.CHAMPION, FULL), Share(old, Duty.STANDBY, 0)
    elif rollout.state in (State.ROLLING_BACK, State.ROLLED_BACK, State.FAILED):
        both = (Share(old, Duty.CHAMPION, FULL),)
    else:
        both = Share(old, Duty.CHAMPION, FULL - rollout.weight), Share(new, Duty.CHALLENGER, rollout.weight)
    return tuple(share for share in both if share.revision)


def enter(  # noqa: PLR0913  all that changes
    rollout: Rollout, state: State, now: datetime, *, weight: int, reason: str, step: int = 0
) -> Rollout:
    """Return the rollout in a state that changes traffic: a new generation, new evidence, a new clock."""
    return replace(
        rollout,
        state=state,
        step=step,
        weight=weight,
        generation=rollout.generation + 1,
        since=now,
        due_at=now + patience(rollout.policy, state),
        converged_at=None,
        held_from=None,
        hold=None,
        evidence=Evidence(),
        reason=reason,
    )


def patience(policy: Policy, state: State) -> timedelta:
    """Return how long a state may last."""
    match state:
        case State.PREPARING:
            return PREPARE_WITHIN
        case State.HELD:
            return HOLD_FOR
        case State.ROLLING_BACK:
            return ROLL_BACK_WITHIN
        case State.BAKING:
            return timedelta(seconds=policy.bake_seconds + policy.step_deadline_seconds)
        case _:
            return timedelta(seconds=policy.step_deadline_seconds)
