"""Any signals in any order: what must never happen does not, and every rollout ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

from holdtrue_deployer.domain.machine import advance
from holdtrue_deployer.domain.policy import FULL
from holdtrue_deployer.domain.replicas import Convergence, Failure
from holdtrue_deployer.domain.rollout import (
    FINAL,
    AbortAsked,
    Advance,
    Alerted,
    HoldAsked,
    IllegalTransition,
    Observed,
    ResumeAsked,
    Rollout,
    Signal,
    State,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.deployer.examples import BEHIND, NOW, POLICY, READY, after, started, window

SIGNALS = 250
WAITS = (0.0, 0.1, 1.0, 1.0, 5.0, 5.0, 30.0, 60.0, 60.0, 61.0, 300.0, 600.0, 900.0, 4_000.0, 86_400.0)
CONVERGENCES = (READY, READY, READY, READY, BEHIND, Convergence(0, 0))
ROWS = (0, 10, 400, 2_000, 2_000, 2_000)
PEOPLE = (HoldAsked("ada", "r"), ResumeAsked("ada", "r"), ResumeAsked("ada", "r"), AbortAsked("ada", "r"))
seen: Counter[tuple[State, str]] = Counter()


def fresh(a: int, now: datetime) -> Rollout:
    policy = replace(POLICY, steps=((), (1_000,), (1_000, 5_000), (1, 2, 9_999))[a % 4], bake_seconds=a % 2 * 120.0)
    begun = started(first=a % 7 == 0, warm=a % 5 == 1, policy=policy)
    rollout = replace(begun.rollout, started_at=now, since=now, due_at=now + timedelta(minutes=5))
    check_desired(replace(begun, rollout=rollout))
    return rollout


def signal(kind: int, a: int, b: int, now: datetime) -> Signal:
    """Four bytes make a signal: half are ticks, a third windows, the rest alerts, failures and people."""
    if kind < 120:
        return Observed(CONVERGENCES[a % len(CONVERGENCES)])
    if kind < 230:
        rows = ROWS[b % len(ROWS)]
        bad = {"failed": rows // 2} if b % 37 == 1 else {"invalid": True} if b % 11 == 1 else {}
        start = now - timedelta(seconds=60 * (a % 4))
        revision = ("old", "new", "new", "other")[b % 4]
        return window(revision, start, rows=rows, flagged=rows // 2, restatement=a % 3, **bad)
    if kind < 234:
        return Alerted(("old", "new", "other")[a % 3], "title", now - timedelta(seconds=b * 10))
    if kind < 236:
        return Observed(Convergence(2, 1, (Failure("new", "reason", now - timedelta(seconds=b)),)))
    return PEOPLE[a % len(PEOPLE)]


def check_desired(made: Advance) -> None:
    desired = made.desired
    assert desired is not None
    assert desired.generation == made.rollout.generation
    weights = [share.weight for share in desired.shares]
    assert min(weights, default=0) >= 0
    assert sum(weights) == FULL or (not desired.shares and not made.rollout.from_revision)
    assert len({share.revision for share in desired.shares}) == len(weights)


def check(before: Rollout, given_signal: Signal, made: Advance) -> None:
    rollout = made.rollout
    if made.desired is None:
        assert rollout.generation == before.generation
        assert rollout.weight == before.weight
    else:
        assert rollout.generation == before.generation + 1
        check_desired(made)
    if rollout.weight > before.weight:
        assert isinstance(given_signal, Observed)
        assert given_signal.convergence.complete
        assert before.state in (State.PREPARING, State.STEPPING)
        assert all(check.outcome != "fail" for check in rollout.checks if check.required)
    if before.state is State.ROLLING_BACK:
        assert rollout.weight == 0
        assert rollout.state in (State.ROLLING_BACK, State.ROLLED_BACK, State.FAILED)
    if rollout is not before and rollout.state is not before.state:
        assert made.changes


def ends(rollout: Rollout, convergence: Convergence, now: datetime) -> bool:
    """Left to itself, with replicas that stay as they are, it ends within a few waits for the clock."""
    for _ in range(40):
        if rollout.final:
            return True
        now = max(now, rollout.due_at)
        rollout = advance(rollout, Observed(convergence), now).rollout
    return rollout.final


@settings(derandomize=True)
@given(st.binary(min_size=4 * SIGNALS, max_size=4 * SIGNALS))
def run(noise: bytes) -> None:
    now, rollout = NOW, fresh(noise[0], NOW)
    for i in range(0, len(noise), 4):
        kind, wait, a, b = noise[i : i + 4]
        now += timedelta(seconds=WAITS[wait % len(WAITS)])
        given_signal = signal(kind, a, b, now)
        seen[rollout.state, type(given_signal).__name__] += 1
        try:
            made = advance(rollout, given_signal, now)
        except IllegalTransition:
            assert isinstance(given_signal, AbortAsked | HoldAsked | ResumeAsked)
            continue
        assert advance(rollout, given_signal, now) == made
        check(rollout, given_signal, made)
        assert rollout.state not in FINAL or made.rollout is rollout
        rollout = fresh(a, now) if rollout.final and a % 2 else made.rollout
    held = rollout if rollout.state is not State.HELD else advance(rollout, ResumeAsked("ada", "r"), now).rollout
    for last in (rollout, held):
        assert all(ends(last, convergence, now) for convergence in CONVERGENCES)


def test_random_signals() -> None:
    """Every state meets every kind of signal."""
    run()
    assert seen.total() >= SIGNALS * settings().max_examples
    kinds = {"Observed", "Evaluated", "Alerted", "HoldAsked", "ResumeAsked", "AbortAsked"}
    assert {(state, kind) for state in State for kind in kinds} - set(seen) == set()


def test_a_rollout_that_is_never_looked_at_again_still_has_its_due_time() -> None:
    rollout = fresh(1, NOW)
    assert rollout.due_at == after(300)
