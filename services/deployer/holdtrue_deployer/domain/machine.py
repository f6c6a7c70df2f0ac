"""The state machine of a rollout: pure, and total over states and signals.

At equal time a person comes first, then failure, then success, then the clock. The weight never rises while held,
before the replicas have converged, or on evidence of failure. Evidence convicts at once; it promotes only on a tick
that finds all replicas converged.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from holdtrue_deployer.domain.checks import Check, Outcome, judge, judge_alone, verdict, waive_labels
from holdtrue_deployer.domain.policy import FULL, Policy
from holdtrue_deployer.domain.rollout import (
    GIVE_UP_AFTER,
    AbortAsked,
    Advance,
    Alerted,
    Change,
    Desired,
    Evaluated,
    Hold,
    HoldAsked,
    IllegalTransition,
    Observed,
    ResumeAsked,
    Rollout,
    Signal,
    State,
    enter,
    patience,
    shares,
)

if TYPE_CHECKING:
    from holdtrue_deployer.domain.replicas import Convergence

SILENCE = timedelta(seconds=30)
"""The monitor is silent if its next two windows are later than this."""


def begin(  # noqa: PLR0913  a rollout has as many beginnings
    *,
    rollout_id: str,
    deployment_id: str,
    from_revision: str,
    to_revision: str,
    policy: Policy,
    automatic: bool,
    actor: str,
    generation: int,
    warm: bool,
    reason: str,
    now: datetime,
) -> Advance:
    """Start a rollout. `warm` (a way back to a revision that all replicas still hold) moves the traffic at once."""
    blank = Rollout(
        rollout_id=rollout_id,
        deployment_id=deployment_id,
        from_revision=from_revision,
        to_revision=to_revision,
        policy=policy,
        automatic=automatic,
        actor=actor,
        started_at=now,
        generation=generation,
        since=now,
        due_at=now,
    )
    state = State.BAKING if warm else State.PREPARING
    weight = FULL if warm or not from_revision else 0
    return _moved(enter(blank, state, now, weight=weight, reason=reason), Change.STARTED)


def advance(rollout: Rollout, signal: Signal, now: datetime) -> Advance:
    """Return what follows of a signal; the same rollout object if nothing does.

    Raises IllegalTransition if a person asks for what the state does not allow. News about a finished rollout is stale
    and changes nothing.
    """
    match signal:
        case AbortAsked() | HoldAsked() | ResumeAsked():
            return _asked(rollout, signal, now)
        case _ if rollout.final:
            return Advance(rollout)
        case Observed(convergence):
            return _observed(rollout, convergence, now)
        case Evaluated():
            return _evaluated(rollout, signal, now)
        case Alerted():
            return _alerted(rollout, signal, now)


def _asked(rollout: Rollout, signal: AbortAsked | HoldAsked | ResumeAsked, now: datetime) -> Advance:
    movable = not rollout.final and rollout.state is not State.ROLLING_BACK
    match signal:
        case AbortAsked() if movable:
            return roll_back(rollout, signal.reason, now)
        case HoldAsked() if movable and rollout.hold is not Hold.PERSON:
            return _held(rollout, Hold.PERSON, signal.reason, now)
        case ResumeAsked() if rollout.state is State.HELD:
            return _resumed(rollout, signal.reason, now)
        case AbortAsked():
            raise IllegalTransition(rollout.state, "rolled back")
        case HoldAsked():
            raise IllegalTransition(rollout.state, "held")
        case ResumeAsked():
            raise IllegalTransition(rollout.state, "resumed")


def _alerted(rollout: Rollout, alert: Alerted, now: datetime) -> Advance:
    about_this = alert.revision == rollout.to_revision and alert.at >= rollout.started_at
    if rollout.state is State.ROLLING_BACK or not about_this:
        return Advance(rollout)
    return roll_back(rollout, f"critical alert: {alert.title}", now)


def _evaluated(rollout: Rollout, signal: Evaluated, now: datetime) -> Advance:
    """Fold a window. One that began before this generation was served everywhere says nothing about it."""
    window, since = signal.window, rollout.converged_at
    ours = window.revision in (rollout.from_revision, rollout.to_revision)
    if rollout.state is State.ROLLING_BACK or since is None or not ours or window.from_ns < _ns(since):
        return Advance(rollout)
    evidence = rollout.evidence.fold(window, challenger=window.revision == rollout.to_revision)
    if evidence is rollout.evidence:
        return Advance(rollout)
    checks = _judged(replace(rollout, evidence=evidence))
    known = replace(rollout, evidence=evidence, checks=checks)
    if verdict(checks) is Outcome.FAIL:
        return roll_back(known, _why(checks, Outcome.FAIL), now)
    if known.hold is Hold.SILENT:
        return _resumed(known, "the monitor is heard again", now)
    return Advance(known)


def _judged(rollout: Rollout) -> tuple[Check, ...]:
    phase = rollout.held_from or rollout.state
    if phase is State.STEPPING:
        return judge(rollout.evidence, rollout.policy)
    return judge_alone(rollout.evidence) if phase is State.BAKING else ()


def _observed(rollout: Rollout, convergence: Convergence, now: datetime) -> Advance:
    failure = _failure(rollout, convergence)
    if failure is not None and rollout.state is not State.ROLLING_BACK:
        return roll_back(rollout, f"load_failed: a replica could not serve the revision: {failure}", now)
    match rollout.state:
        case State.PREPARING:
            return _prepare(rollout, convergence, now)
        case State.STEPPING | State.BAKING:
            return _watch(_clocked(rollout, convergence, now), convergence, now)
        case State.HELD:
            return _wait(rollout, convergence, now)
        case _:
            return _return(rollout, convergence, now)


def _failure(rollout: Rollout, convergence: Convergence) -> str | None:
    """Why a replica could not load the revision, since this rollout wants it."""
    mine = (f for f in convergence.failures if f.revision == rollout.to_revision and f.since >= rollout.started_at)
    return next((f.reason for f in mine), None)


def _prepare(rollout: Rollout, convergence: Convergence, now: datetime) -> Advance:
    if convergence.complete:
        return _next(rollout, "all replicas have loaded it", now)
    if now < rollout.due_at:
        return Advance(rollout)
    return roll_back(rollout, f"not_converged: {convergence.converged} of {convergence.live} replicas are ready", now)


def _clocked(rollout: Rollout, convergence: Convergence, now: datetime) -> Rollout:
    """Start the step's clock and evidence when the replicas serve it."""
    if rollout.converged_at is not None or not convergence.complete:
        return rollout
    return replace(rollout, since=now, due_at=now + patience(rollout.policy, rollout.state), converged_at=now)


def _watch(rollout: Rollout, convergence: Convergence, now: datetime) -> Advance:
    converged = rollout.converged_at is not None and convergence.complete
    if converged and _ripe(rollout, now) and verdict(_judged(rollout)) is Outcome.PASS:
        return _next(rollout, "all checks pass", now)
    if now >= rollout.due_at:
        return _due(rollout, now, converged=converged)
    if _silent(rollout, now):
        return _held(rollout, Hold.SILENT, "monitor_silent: no window was evaluated for too long", now)
    return Advance(rollout)


def _ripe(rollout: Rollout, now: datetime) -> bool:
    """Whether the least time is over and, in a step, the least rows are there."""
    if rollout.state is State.BAKING:
        return now >= rollout.since + timedelta(seconds=rollout.policy.bake_seconds)
    enough = rollout.evidence.rows >= rollout.policy.step_rows
    return enough and now >= rollout.since + timedelta(seconds=rollout.policy.step_seconds)


def _due(rollout: Rollout, now: datetime, *, converged: bool) -> Advance:
    """At the deadline labels are waived if the scores could be judged; what else is undecided is held."""
    known = replace(rollout, checks=waive_labels(_judged(rollout)))
    if converged and _ripe(known, now) and verdict(known.checks) is Outcome.PASS:
        return _next(known, "deadline: judged by scores only (estimated_only)", now)
    return _held(known, Hold.UNDECIDED, _undecided(known, converged=converged), now)


def _undecided(rollout: Rollout, *, converged: bool) -> str:
    if not converged:
        return "deadline: not all replicas serve the step"
    if rollout.state is State.STEPPING and rollout.evidence.rows < rollout.policy.step_rows:
        return f"deadline: {rollout.evidence.rows} of {rollout.policy.step_rows} rows"
    return f"deadline: {_why(rollout.checks, Outcome.WAITING, Outcome.INCONCLUSIVE)}"


def _silent(rollout: Rollout, now: datetime) -> bool:
    evidence = rollout.evidence
    if not evidence.longest_ns:
        return False
    late = max(evidence.latest_end_ns, _ns(rollout.since)) + 2 * evidence.longest_ns
    return _ns(now - SILENCE) > late


def _wait(rollout: Rollout, convergence: Convergence, now: datetime) -> Advance:
    if now >= rollout.due_at:
        return roll_back(rollout, f"hold_expired: {rollout.reason}", now)
    if rollout.hold is Hold.UNDECIDED and convergence.complete and _decided(rollout):
        return _resumed(rollout, "what was missing is there", now)
    return Advance(rollout)


def _decided(rollout: Rollout) -> bool:
    """Whether the reason of a hold is gone: the replicas that were missing came, or the evidence."""
    if rollout.converged_at is None or rollout.held_from is not State.STEPPING:
        return True
    return rollout.evidence.rows >= rollout.policy.step_rows and verdict(_judged(rollout)) is Outcome.PASS


def _return(rollout: Rollout, convergence: Convergence, now: datetime) -> Advance:
    if convergence.complete or not rollout.from_revision:
        return _ended(rollout, State.ROLLED_BACK, Change.ROLLED_BACK, rollout.reason, now)
    state = f"{convergence.converged} of {convergence.live} replicas have confirmed"
    if now >= rollout.since + GIVE_UP_AFTER:
        return _ended(rollout, State.FAILED, Change.ROLLED_BACK, f"{rollout.reason}; given up: {state}", now)
    if now < rollout.due_at:
        return Advance(rollout)
    told = replace(rollout, due_at=rollout.since + GIVE_UP_AFTER, reason=f"{rollout.reason}; late: {state}")
    return Advance(told, (Change.ADVANCED,))


def _next(rollout: Rollout, reason: str, now: datetime) -> Advance:
    """Take the next step up."""
    steps = rollout.policy.steps
    step = 0 if rollout.state is State.PREPARING else rollout.step + 1
    if rollout.state is State.BAKING or not rollout.from_revision:
        return _moved(enter(rollout, State.COMPLETED, now, weight=FULL, reason=reason), Change.COMPLETED)
    if step < len(steps):
        stepped = enter(rollout, State.STEPPING, now, weight=steps[step], step=step, reason=reason)
        return _moved(stepped, Change.ADVANCED)
    return _moved(enter(rollout, State.BAKING, now, weight=FULL, step=step, reason=reason), Change.ADVANCED)


def roll_back(rollout: Rollout, reason: str, now: datetime) -> Advance:
    """Give all traffic back to the champion at once."""
    back = enter(rollout, State.ROLLING_BACK, now, weight=0, step=rollout.step, reason=reason)
    return _moved(back, Change.ADVANCED)


def _held(rollout: Rollout, hold: Hold, reason: str, now: datetime) -> Advance:
    held_from = rollout.held_from or rollout.state
    due_at = now + patience(rollout.policy, State.HELD)
    held = replace(rollout, state=State.HELD, held_from=held_from, hold=hold, since=now, due_at=due_at, reason=reason)
    return Advance(held, (Change.HELD,))


def _resumed(rollout: Rollout, reason: str, now: datetime) -> Advance:
    """Return to the state before; its clock starts again, its evidence stays, for the traffic was the same."""
    state = rollout.held_from or State.PREPARING
    due_at = now + patience(rollout.policy, state)
    resumed = replace(rollout, state=state, held_from=None, hold=None, since=now, due_at=due_at, reason=reason)
    return Advance(resumed, (Change.RESUMED,))


def _ended(rollout: Rollout, state: State, change: Change, reason: str, now: datetime) -> Advance:
    return Advance(replace(rollout, state=state, since=now, due_at=now, reason=reason), (change,))


def _moved(rollout: Rollout, change: Change) -> Advance:
    return Advance(rollout, (change,), Desired(rollout.generation, shares(rollout)))


def _why(checks: tuple[Check, ...], *outcomes: Outcome) -> str:
    return "; ".join(f"{c.name}: {c.reason}" for c in checks if c.required and c.outcome in outcomes)


def _ns(time: datetime) -> int:
    return int((time - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1)) * 1_000
