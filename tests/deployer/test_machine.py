"""The rollout's state machine, transition by transition."""

from __future__ import annotations

from dataclasses import replace

import pytest
from holdtrue_deployer.domain.machine import advance
from holdtrue_deployer.domain.policy import FULL
from holdtrue_deployer.domain.replicas import Convergence, Failure
from holdtrue_deployer.domain.rollout import (
    AbortAsked,
    Alerted,
    Change,
    Duty,
    Hold,
    HoldAsked,
    IllegalTransition,
    Observed,
    ResumeAsked,
    Share,
    State,
)

from tests.deployer.examples import BEHIND, NOW, POLICY, READY, after, fed, started, stepping, window

GOOD: dict[str, object] = {}


def test_a_rollout_begins_by_loading_the_challenger_without_traffic() -> None:
    begun = started()
    assert begun.rollout.state is State.PREPARING
    assert begun.changes == (Change.STARTED,)
    assert begun.desired is not None
    assert begun.desired.generation == 8
    assert begun.desired.shares == (Share("old", Duty.CHAMPION, FULL), Share("new", Duty.CHALLENGER, 0))


def test_the_first_deployment_completes_when_it_is_loaded() -> None:
    begun = started(first=True)
    assert begun.desired is not None
    assert begun.desired.shares == (Share("new", Duty.CHALLENGER, FULL),)
    done = advance(begun.rollout, Observed(READY), after(1))
    assert done.rollout.state is State.COMPLETED
    assert done.desired is not None
    assert done.desired.shares == (Share("new", Duty.CHAMPION, FULL),)


def test_a_warm_target_gets_the_traffic_at_once_and_completes_when_replicas_confirm() -> None:
    begun = started(warm=True, policy=POLICY.at_once())
    assert begun.rollout.state is State.BAKING
    assert begun.rollout.weight == FULL
    assert advance(begun.rollout, Observed(BEHIND), after(1)).rollout.state is State.BAKING
    assert advance(begun.rollout, Observed(READY), after(1)).rollout.state is State.COMPLETED


def test_nothing_moves_before_all_live_replicas_have_converged() -> None:
    rollout = started().rollout
    for convergence in (BEHIND, Convergence(0, 0)):
        assert advance(rollout, Observed(convergence), after(299)).rollout is rollout


def test_a_challenger_that_cannot_be_loaded_is_rolled_back() -> None:
    rollout = started().rollout
    failed = Convergence(2, 1, (Failure("new", "digest differs", after(1)),))
    back = advance(rollout, Observed(failed), after(2))
    assert back.rollout.state is State.ROLLING_BACK
    assert "digest differs" in back.rollout.reason
    late = advance(rollout, Observed(BEHIND), after(300))
    assert late.rollout.state is State.ROLLING_BACK
    assert late.rollout.reason.startswith("not_converged")


def test_a_failure_from_before_the_rollout_or_of_another_revision_is_not_its_failure() -> None:
    rollout = started().rollout
    for failure in (Failure("new", "x", after(-1)), Failure("old", "x", after(1))):
        assert advance(rollout, Observed(Convergence(2, 1, (failure,))), after(2)).rollout is rollout


def test_a_good_challenger_goes_all_the_way() -> None:
    rollout, weights = stepping(), []
    for second in range(0, 1_000, 30):
        if rollout.final:
            break
        weights.append(rollout.weight)
        rollout = fed(rollout, second, GOOD, GOOD).rollout
        rollout = advance(rollout, Observed(READY), after(second + 1)).rollout
    assert rollout.state is State.COMPLETED
    assert sorted(set(weights)) == [1_000, 5_000, FULL]
    assert weights == sorted(weights)


def test_a_step_needs_its_time_its_rows_and_converged_replicas() -> None:
    rollout = stepping()
    fresh = fed(rollout, 10, GOOD, GOOD).rollout
    assert advance(fresh, Observed(READY), after(59)).rollout.step == 0
    assert advance(fresh, Observed(BEHIND), after(61)).rollout.step == 0
    assert advance(fresh, Observed(READY), after(61)).rollout.step == 1
    few = fed(rollout, 10, GOOD, {"rows": 499}).rollout
    assert advance(few, Observed(READY), after(61)).rollout.step == 0


@pytest.mark.parametrize(
    "bad",
    [{"failed": 300}, {"slow": 300}, {"realised": 0.6}, {"realised": None, "estimated": 0.6}],
    ids=["errors", "latency", "realised", "estimated"],
)
def test_a_bad_challenger_is_rolled_back_by_the_window_that_shows_it(bad: dict[str, object]) -> None:
    back = fed(stepping(), 10, GOOD, bad)
    assert back.rollout.state is State.ROLLING_BACK
    assert back.rollout.weight == 0
    assert back.desired is not None
    assert back.desired.shares == (Share("old", Duty.CHAMPION, FULL),)
    assert any(check.outcome == "fail" for check in back.rollout.checks)
    done = advance(back.rollout, Observed(READY), after(12))
    assert done.rollout.state is State.ROLLED_BACK
    assert done.changes == (Change.ROLLED_BACK,)


def test_windows_of_an_earlier_generation_say_nothing() -> None:
    rollout = stepping()
    early = advance(rollout, window("new", after(-1), failed=900), after(60))
    assert early.rollout is rollout
    unserved = advance(started().rollout, Observed(READY), after(0)).rollout
    assert advance(unserved, window("new", after(5), failed=900), after(60)).rollout is unserved


def test_a_window_counts_once_and_a_restatement_takes_its_place() -> None:
    rollout = advance(stepping(), window("new", after(0), rows=300), after(60)).rollout
    assert advance(rollout, window("new", after(0), rows=300), after(61)).rollout is rollout
    restated = advance(rollout, window("new", after(0), rows=310, restatement=1), after(61)).rollout
    assert restated.evidence.rows == 310
    assert advance(restated, window("new", after(0), rows=300), after(62)).rollout is restated


def test_windows_are_compared_only_where_both_sides_served() -> None:
    rollout = advance(stepping(), window("old", after(0), failed=0), after(60)).rollout
    alone = advance(rollout, window("new", after(60), failed=500), after(120)).rollout
    assert alone.state is State.STEPPING


def test_a_critical_alert_on_the_challenger_rolls_back_from_any_state() -> None:
    held = advance(stepping(), HoldAsked("ada", "look"), after(1)).rollout
    for rollout in (started().rollout, stepping(), held):
        back = advance(rollout, Alerted("new", "realised precision 0.4", after(5)), after(6))
        assert back.rollout.state is State.ROLLING_BACK
        assert "realised precision" in back.rollout.reason


def test_alerts_about_the_champion_or_about_older_windows_do_not_convict() -> None:
    rollout = stepping()
    for alert in (Alerted("old", "bad", after(5)), Alerted("new", "bad", after(-60))):
        assert advance(rollout, alert, after(6)).rollout is rollout


def test_what_is_undecided_at_the_deadline_is_held_and_goes_on_when_decided() -> None:
    rollout = advance(stepping(), Observed(READY), after(600))
    assert rollout.rollout.state is State.HELD
    assert rollout.rollout.hold is Hold.UNDECIDED
    assert "0 of 500 rows" in rollout.rollout.reason
    assert rollout.desired is None
    fresh = fed(rollout.rollout, 610, GOOD, GOOD).rollout
    resumed = advance(fresh, Observed(READY), after(611))
    assert resumed.changes == (Change.RESUMED,)
    assert resumed.rollout.state is State.STEPPING
    assert advance(resumed.rollout, Observed(READY), after(671)).rollout.step == 1


def test_labels_that_do_not_come_are_waived_at_the_deadline_if_the_scores_pass() -> None:
    rollout = fed(stepping(), 10, {"realised": None}, {"realised": None}).rollout
    assert advance(rollout, Observed(READY), after(70)).rollout.step == 0
    done = advance(
        replace(rollout, evidence=replace(rollout.evidence, latest_end_ns=2**62)), Observed(READY), after(600)
    )
    assert done.rollout.step == 1
    assert "estimated_only" in done.rollout.reason


def test_an_invalid_estimate_decides_nothing() -> None:
    lying: dict[str, object] = {"estimated": 0.97, "invalid": True, "realised": 0.5}
    rollout = fed(stepping(), 10, lying, {"estimated": 0.9, "realised": 0.9}).rollout
    assert advance(rollout, Observed(READY), after(61)).rollout.step == 1
    blind = fed(stepping(), 10, {**lying, "realised": None}, {"realised": None}).rollout
    heard = replace(blind, evidence=replace(blind.evidence, latest_end_ns=2**62))
    assert advance(heard, Observed(READY), after(600)).rollout.state is State.HELD


def test_labels_outrank_scores() -> None:
    rollout = fed(stepping(), 10, {"estimated": 0.95, "realised": 0.5}, {"estimated": 0.8, "realised": 0.9}).rollout
    assert rollout.state is State.STEPPING
    assert advance(rollout, Observed(READY), after(61)).rollout.step == 1


def test_a_silent_monitor_holds_and_its_next_window_resumes() -> None:
    rollout = fed(stepping(replace(POLICY, step_rows=5_000, step_deadline_seconds=9_999)), 0, GOOD, GOOD).rollout
    assert advance(rollout, Observed(READY), after(200)).rollout is rollout
    held = advance(rollout, Observed(READY), after(211)).rollout
    assert held.hold is Hold.SILENT
    resumed = advance(held, window("new", after(220)), after(280))
    assert resumed.changes == (Change.RESUMED,)


def test_a_person_holds_until_a_person_resumes() -> None:
    rollout = fed(stepping(), 10, GOOD, GOOD).rollout
    held = advance(rollout, HoldAsked("ada", "dinner"), after(20)).rollout
    assert held.weight == rollout.weight
    assert advance(held, Observed(READY), after(5_000)).rollout is held
    with pytest.raises(IllegalTransition, match="held cannot be held"):
        advance(held, HoldAsked("bob", "too"), after(21))
    resumed = advance(held, ResumeAsked("ada", "back"), after(5_000)).rollout
    assert resumed.state is State.STEPPING
    assert advance(resumed, Observed(READY), after(5_059)).rollout.step == 0
    assert advance(resumed, Observed(READY), after(5_060)).rollout.step == 1


def test_a_hold_ends_after_a_day() -> None:
    held = advance(stepping(), HoldAsked("ada", "holiday"), after(0)).rollout
    back = advance(held, Observed(READY), after(86_400))
    assert back.rollout.state is State.ROLLING_BACK
    assert back.rollout.reason == "hold_expired: holiday"


def test_a_rollback_that_replicas_do_not_confirm_says_so_and_fails_in_the_end() -> None:
    back = advance(stepping(), AbortAsked("ada", "no"), after(0)).rollout
    late = advance(back, Observed(BEHIND), after(60))
    assert late.changes == (Change.ADVANCED,)
    assert "1 of 2 replicas" in late.rollout.reason
    assert advance(late.rollout, Observed(BEHIND), after(61)).rollout is late.rollout
    lost = advance(late.rollout, Observed(BEHIND), after(600))
    assert lost.rollout.state is State.FAILED


def test_nobody_can_order_anything_of_a_finished_rollout_and_news_change_nothing() -> None:
    done = advance(started(first=True).rollout, Observed(READY), NOW).rollout
    for order in (AbortAsked("a", "r"), HoldAsked("a", "r"), ResumeAsked("a", "r")):
        with pytest.raises(IllegalTransition, match="completed cannot be"):
            advance(done, order, NOW)
    for news in (Observed(READY), window("new", NOW), Alerted("new", "t", NOW)):
        assert advance(done, news, NOW).rollout is done


def test_errors_at_full_traffic_are_held_against_none() -> None:
    baking = advance(started(policy=replace(POLICY, steps=())).rollout, Observed(READY), NOW).rollout
    baking = advance(baking, Observed(READY), NOW).rollout
    assert baking.state is State.BAKING
    bad = advance(baking, window("new", after(0), failed=100), after(60))
    assert bad.rollout.state is State.ROLLING_BACK
    fine = advance(baking, window("new", after(0)), after(60)).rollout
    assert advance(fine, Observed(READY), after(119)).rollout.state is State.BAKING
    assert advance(fine, Observed(READY), after(120)).rollout.state is State.COMPLETED
