"""Retraining: examples of each rule, and random histories in which no rule is ever broken."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from holdtrue_trainer.domain.policy import (
    DAY,
    LONGEST_COOL_DOWN,
    Cause,
    Dataset,
    Policy,
    Reason,
    Retraining,
    Start,
    Trigger,
    Wait,
    decide,
)
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Policy(dataset_id="d", on_drift=True, cool_down=timedelta(hours=6), min_new_labels=500, last_rows=1_000)
REALISED = Trigger("alert-1", Cause.PRECISION, "dep", 1, concept=True, first_bad_ns=70)
DRIFT = Trigger("alert-2", Cause.DRIFT, "dep", 1, concept=False, first_bad_ns=90)
DATA = Dataset("d", "payments", 3, suspect=False, later={70: 800})
CALM = Retraining(POLICY, champions={"dep": 1}, has_recipe=True)
ALARMED = CALM.alert_raised(REALISED)


def reason(memory: Retraining, dataset: Dataset | None = DATA, now: datetime = NOW) -> str:
    decision = decide(memory, dataset, now)
    assert isinstance(decision, Wait)
    return decision.reason


def test_concept_drift_trains_on_the_rows_since_it_began() -> None:
    assert decide(ALARMED, DATA, NOW) == Start(DATA, Cause.PRECISION, ("alert-1",), from_ns=70, last_rows=0)


def test_drift_of_the_inputs_trains_on_the_last_rows() -> None:
    assert decide(CALM.alert_raised(DRIFT), DATA, NOW) == Start(DATA, Cause.DRIFT, ("alert-2",), 0, 1_000)


def test_both_alerts_are_answered_by_one_run() -> None:
    started = decide(ALARMED.alert_raised(DRIFT), DATA, NOW)
    assert started == Start(DATA, Cause.PRECISION, ("alert-1", "alert-2"), 70, 0)


@pytest.mark.parametrize(
    ("memory", "dataset", "expected"),
    [
        (CALM, DATA, Reason.NO_TRIGGER),
        (ALARMED.alerts_closed(["alert-1"]), DATA, Reason.NO_TRIGGER),
        (ALARMED.alerts_closed(["alert-1"]).alert_raised(REALISED), DATA, Reason.NO_TRIGGER),
        (ALARMED.with_policy(replace(POLICY, on_precision=False)), DATA, Reason.NO_TRIGGER),
        (ALARMED.serving("dep", 2), DATA, Reason.NO_TRIGGER),
        (ALARMED.serving("dep", 0), DATA, Reason.NO_TRIGGER),
        (ALARMED.run_requested("r", NOW, automatic=False), DATA, Reason.OPEN_RUN),
        (ALARMED.rollout_opened("o"), DATA, Reason.OPEN_ROLLOUT),
        (ALARMED, replace(DATA, suspect=True), Reason.SUSPECT_DATA),
        (ALARMED, None, Reason.NO_DATA),
        (replace(ALARMED, has_recipe=False), DATA, Reason.NO_RECIPE),
        (ALARMED, replace(DATA, later={70: 499}), Reason.WAITING_FOR_LABELS),
        (ALARMED, replace(DATA, later={}), Reason.WAITING_FOR_LABELS),
        (ALARMED.judged(NOW, rejected=False), DATA, Reason.COOL_DOWN),
        (ALARMED.with_policy(replace(POLICY, runs_per_day=0)), DATA, Reason.BUDGET),
    ],
)
def test_reasons_to_wait(memory: Retraining, dataset: Dataset | None, expected: Reason) -> None:
    assert reason(memory, dataset) == expected


def test_waiting_for_labels_says_how_many_and_from_when() -> None:
    waiting = decide(ALARMED, replace(DATA, later={70: 312}), NOW)
    assert str(waiting) == "waiting for labels: 312 of 500"
    assert isinstance(waiting, Wait)
    assert waiting.from_ns == 70


def test_cool_down_doubles_with_setbacks_and_is_reset_by_a_promotion() -> None:
    memory = ALARMED
    for setbacks in range(8):
        assert memory.cool_down == min(LONGEST_COOL_DOWN, timedelta(hours=6) * 2**setbacks)
        memory = memory.judged(NOW, rejected=True)
    waiting = decide(memory, DATA, NOW)
    assert isinstance(waiting, Wait)
    assert waiting.until == NOW + LONGEST_COOL_DOWN
    assert isinstance(decide(memory, DATA, NOW + LONGEST_COOL_DOWN), Start)
    assert memory.promoted("o", "dep", 2, NOW).cool_down == timedelta(hours=6)


def test_a_promotion_answers_the_alerts_about_the_version_before_and_only_those() -> None:
    newer = replace(DRIFT, model_version=2)
    elsewhere = replace(DRIFT, alert_id="alert-3", deployment_id="other")
    memory = ALARMED.alert_raised(newer).alert_raised(elsewhere).promoted("o", "dep", 2, NOW)
    assert memory.triggers == (newer, elsewhere)
    assert memory.active == (newer,)


def test_after_a_promotion_the_next_alert_waits_for_nothing_but_the_cool_down() -> None:
    memory = ALARMED.rollout_opened("o").promoted("o", "dep", 2, NOW)
    memory = memory.alert_raised(replace(REALISED, alert_id="alert-9", model_version=2))
    assert reason(memory) == Reason.COOL_DOWN
    assert isinstance(decide(memory, DATA, NOW + POLICY.cool_down), Start)


def test_budget_frees_with_the_oldest_start_of_the_day() -> None:
    memory = CALM.with_policy(replace(POLICY, cool_down=timedelta(0)))
    for hour in range(4):
        at = NOW + timedelta(hours=hour)
        memory = memory.run_requested("r", at, automatic=True).run_ended("r", at, failed=False)
    memory = memory.alert_raised(REALISED)
    waiting = decide(memory, DATA, NOW + timedelta(hours=4))
    assert isinstance(waiting, Wait)
    assert (waiting.reason, waiting.until) == (Reason.BUDGET, NOW + DAY)
    assert isinstance(decide(memory, DATA, NOW + DAY), Start)


def test_memory_survives_storage() -> None:
    memory = ALARMED.run_requested("r", NOW, automatic=True).rollout_opened("o").judged(NOW, rejected=True)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(memory)), Retraining) == memory


class World:
    """The trainer's surroundings: events come in any order, at any time; decisions follow each at once."""

    def __init__(self, policy: Policy) -> None:
        self.memory = Retraining(policy, champions={"dep": 1}, has_recipe=True)
        self.now = NOW
        self.dataset = replace(DATA, later={70: 0})
        self.version = 1
        self.rollout = ""
        self.number = 0
        self.ended: datetime | None = None
        self.setbacks = 0
        self.automatic: list[datetime] = []

    def alert(self) -> None:
        self.memory = self.memory.alert_raised(replace(REALISED, model_version=self.version))

    def drift(self) -> None:
        self.memory = self.memory.alert_raised(replace(DRIFT, alert_id=self.name(), model_version=self.version))

    def resolve(self) -> None:
        self.memory = self.memory.alerts_closed(["alert-1"])

    def manual(self) -> None:
        if not self.memory.open_run:
            self.memory = self.memory.run_requested(self.name(), self.now, automatic=False)

    def succeed(self) -> None:
        self.end_run(failed=False)

    def fail(self) -> None:
        self.end_run(failed=True)

    def reject(self) -> None:
        self.memory = self.memory.judged(self.now, rejected=True)
        self.settle(setback=True)

    def approve(self) -> None:
        self.memory = self.memory.judged(self.now, rejected=False)
        self.settle(setback=False)

    def advance(self) -> None:
        self.rollout = self.rollout or self.name()
        self.memory = self.memory.rollout_opened(self.rollout)

    def complete(self) -> None:
        if self.rollout:
            self.version += 1
            self.memory = self.memory.promoted(self.rollout, "dep", self.version, self.now)
            self.settle(setback=False)
            self.rollout, self.setbacks = "", 0

    def roll_back(self) -> None:
        if self.rollout:
            self.memory = self.memory.rolled_back(self.rollout, self.now)
            self.settle(setback=True)
            self.rollout = ""

    def rows(self) -> None:
        self.dataset = replace(self.dataset, suspect=False, later={70: self.dataset.later[70] + 200})

    def suspect(self) -> None:
        self.dataset = replace(self.dataset, suspect=True)

    def name(self) -> str:
        self.number += 1
        return str(self.number)

    def end_run(self, *, failed: bool) -> None:
        if self.memory.open_run:
            self.memory = self.memory.run_ended(self.memory.open_run, self.now, failed=failed)
            self.settle(setback=failed)

    def settle(self, *, setback: bool) -> None:
        self.ended = self.now
        self.setbacks += setback

    def decide(self) -> None:
        """Decide, and check a start against what the world knows by itself."""
        decision = decide(self.memory, self.dataset, self.now)
        if isinstance(decision, Wait):
            if decision.until is not None:
                assert decision.until > self.now
            return
        policy = self.memory.policy
        assert not self.memory.open_run
        assert not self.rollout
        assert not self.dataset.suspect
        cool_down = min(LONGEST_COOL_DOWN, policy.cool_down * 2**self.setbacks)
        assert self.ended is None or self.now - self.ended >= cool_down
        assert sum(self.now - start < DAY for start in self.automatic) < policy.runs_per_day
        if decision.from_ns:
            assert self.dataset.later[70] >= policy.min_new_labels
        self.automatic.append(self.now)
        self.memory = self.memory.run_requested(f"a{len(self.automatic)}", self.now, automatic=True)


EVENTS = (
    World.alert,
    World.drift,
    World.resolve,
    World.manual,
    World.succeed,
    World.fail,
    World.reject,
    World.approve,
    World.advance,
    World.complete,
    World.roll_back,
    World.rows,
    World.suspect,
)
STEPS = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 16 * 3600)), max_size=60)


@given(STEPS, st.integers(0, 8), st.integers(1, 3))
def test_no_history_breaks_a_rule(
    steps: list[tuple[Callable[[World], None], int]], hours: int, runs_per_day: int
) -> None:
    world = World(replace(POLICY, cool_down=timedelta(hours=hours), runs_per_day=runs_per_day))
    for event, seconds in steps:
        world.now += timedelta(seconds=seconds)
        event(world)
        world.decide()
        world.decide()
