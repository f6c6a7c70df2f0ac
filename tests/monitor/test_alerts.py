"""When alerts are raised and resolved."""

from datetime import UTC, datetime

import pytest
from holdtrue_contracts.common.v1.measures_pb2 import Measure
from holdtrue_contracts.monitor.v1.alerts_pb2 import ALERT_STATUS_OPEN, ALERT_STATUS_RESOLVED, SEVERITY_CRITICAL, Alert
from holdtrue_monitor.domain import notices
from holdtrue_monitor.domain.alerts import Change, Judged, Memory, Verdict, decide
from holdtrue_monitor.domain.notices import Surroundings
from holdtrue_monitor.domain.readings import DRIFT_FEATURE, QUALITY, REALISED, Reading
from hypothesis import given
from hypothesis import strategies as st

G, B, S, U = Verdict.GOOD, Verdict.BAD, Verdict.SEVERE, Verdict.UNDECIDED
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def play(verdicts: list[Verdict], order: list[int] | None = None) -> list[Change | None]:
    """The changes that windows 0, 1, … cause when their verdicts come in this order."""
    memory, is_open, changes = Memory(), False, list[Change | None]()
    for window in order or range(len(verdicts)):
        judged = Judged(window, window + 1, verdicts[window])
        memory = memory.after(judged)
        change = decide(memory, judged, is_open=is_open)
        is_open = change is Change.RAISED or (is_open and change is not Change.RESOLVED)
        changes.append(change)
    return changes


@pytest.mark.parametrize(
    ("verdicts", "last"),
    [
        ([B], None),
        ([G, B, B], Change.RAISED),
        ([G, S], Change.RAISED),
        ([B, G, B], None),
        ([B, U, B], Change.RAISED),
        ([B, B, B], Change.UPDATED),
        ([B, B, U], None),
        ([B, B, G, G], None),
        ([B, B, G, G, G], Change.RESOLVED),
        ([B, B, G, G, U, G], Change.RESOLVED),
        ([S, G, G, G, G], None),
        ([S, G, G, G, B], None),
        ([S, G, G, G, B, B], Change.RAISED),
    ],
)
def test_hysteresis(verdicts: list[Verdict], last: Change | None) -> None:
    assert play(verdicts)[-1] is last


def test_late_labels_change_the_verdict_of_their_window_and_not_the_order() -> None:
    memory = Memory()
    for judged in (Judged(0, 1, G), Judged(1, 2, G), Judged(2, 3, G), Judged(1, 2, B)):
        memory = memory.after(judged)
    assert decide(memory, judged, is_open=False) is None
    memory = memory.after(Judged(2, 3, B))
    assert decide(memory, Judged(2, 3, B), is_open=False) is Change.RAISED
    assert memory.run[0].from_ns == 1


@given(st.lists(st.sampled_from(list(Verdict)), max_size=25), st.randoms(use_true_random=False))
def test_the_order_in_which_verdicts_come_does_not_matter_in_the_end(verdicts: list[Verdict], random: object) -> None:
    windows = [Judged(i, i + 1, verdict) for i, verdict in enumerate(verdicts)]
    shuffled = list(windows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Memory(), Memory()
    for judged in windows:
        one = one.after(judged)
    for judged in shuffled:
        other = other.after(judged)
    assert one == other == Memory.of(one.rows())


@given(st.lists(st.sampled_from(list(Verdict)), max_size=60))
def test_a_raise_is_followed_by_a_resolution_before_the_next_raise(verdicts: list[Verdict]) -> None:
    changes = [change for change in play(verdicts) if change in {Change.RAISED, Change.RESOLVED}]
    assert changes == [Change.RAISED, Change.RESOLVED] * (len(changes) // 2) + [Change.RAISED] * (len(changes) % 2)


def reading(kind: str = REALISED) -> Reading:
    return Reading(kind, "", B, SEVERITY_CRITICAL, Measure(name="precision", value=0.4), "precision 0.4")


def around(**values: object) -> Surroundings:
    default = {"open_alerts": frozenset[tuple[str, str]](), "drifted": {}, "importances": {}}
    return Surroundings(**(default | values))  # type: ignore[arg-type]


def test_the_alert_carries_what_a_retraining_policy_needs() -> None:
    memory = Memory((Judged(10, 20, B), Judged(20, 30, S)))
    known = around(
        open_alerts=frozenset({(QUALITY, "age")}),
        drifted={"amount": 0.3, "age": 0.1},
        importances={"amount": 0.2, "age": 0.7, "hour": 0.1},
        labels=77,
    )
    alert = notices.changed(Alert(alert_id="a"), Change.RAISED, reading(), (20, 30), memory, known, NOW)
    assert alert.status == ALERT_STATUS_OPEN
    assert (alert.from_ns, alert.to_ns, alert.first_bad_window_ns) == (20, 30, 10)
    evidence = alert.retrain_evidence
    assert (evidence.realised_breach, evidence.estimated_breach, evidence.quality_clean) == (True, False, False)
    assert evidence.drifted_importance_share == pytest.approx(0.9)
    assert evidence.new_labels == 77
    assert [cause.subject for cause in alert.causes] == ["feature age", "feature amount"]
    assert sum(cause.weight for cause in alert.causes) == pytest.approx(1)


def test_the_first_bad_window_stays_and_begins_anew_with_a_new_incident() -> None:
    first = notices.changed(Alert(), Change.RAISED, reading(), (4, 5), Memory((Judged(4, 5, S),)), around(), NOW)
    later = notices.changed(first, Change.UPDATED, reading(), (5, 6), Memory((Judged(5, 6, B),)), around(), NOW)
    assert later.first_bad_window_ns == first.first_bad_window_ns == 4
    over = notices.changed(later, Change.RESOLVED, reading(), (6, 7), Memory((Judged(6, 7, G),)), around(), NOW)
    assert over.status == ALERT_STATUS_RESOLVED
    assert over.resolved_at.ToDatetime(UTC) == NOW
    again = notices.changed(over, Change.RAISED, reading(), (8, 9), Memory((Judged(8, 9, S),)), around(), NOW)
    assert again.first_bad_window_ns == 8
    assert not again.HasField("resolved_at")


def test_drift_is_marked_where_performance_says_the_same_louder() -> None:
    memory = Memory((Judged(0, 1, B), Judged(1, 2, B)))
    known = around(open_alerts=frozenset({(REALISED, "")}))
    drift = notices.changed(Alert(), Change.RAISED, reading(DRIFT_FEATURE), (1, 2), memory, known, NOW)
    assert list(drift.flags) == ["inhibited"]
    assert not notices.changed(Alert(), Change.RAISED, reading(), (1, 2), memory, known, NOW).flags
