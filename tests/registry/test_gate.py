"""The gate is a pure function of a run's evidence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from holdtrue_contracts.columns import pack
from holdtrue_contracts.common.v1.measures_pb2 import OUTCOME_FAIL, OUTCOME_INCONCLUSIVE, OUTCOME_PASS
from holdtrue_contracts.trainer.v1.runs_pb2 import Evaluation, RunSpec, RunSucceeded
from holdtrue_registry.domain.evidence import evidence
from holdtrue_registry.domain.gate import Policy, State, judge, policy_problems
from hypothesis import given
from hypothesis import strategies as st


def run(tp: int, fp: int, cells: list[int] | None = None, run_id: str = "run-1") -> RunSucceeded:
    found = RunSucceeded(spec=RunSpec(run_id=run_id), candidate=Evaluation(n=tp + fp + 100, tp=tp, fp=fp, fn=10, tn=90))
    if cells is not None:
        found.cells.CopyFrom(pack(np.array(cells, np.int64)))
    return found


def cells(champion_tp: int, champion_fp: int, candidate_tp: int, candidate_fp: int) -> list[int]:
    """Hold-out on which no row is flagged by both."""
    return [200, 50, candidate_fp, candidate_tp, champion_fp, champion_tp, 0, 0]


@pytest.mark.parametrize(
    ("tp", "fp", "state"),
    [
        (41, 1, State.VALIDATED),  # the breast cancer quickstart: 42 of 114 hold-out rows flagged
        (95, 5, State.VALIDATED),
        (60, 40, State.REJECTED),
        (86, 14, State.REGISTERED),
        (10, 0, State.REGISTERED),  # too few rows say nothing, even if all are right
    ],
)
def test_the_floor_decides_by_its_interval(tp: int, fp: int, state: State) -> None:
    verdict = judge(Policy(0.85, 0.0, 0), run(tp, fp))

    assert verdict.state is state
    assert [check.check for check in verdict.checks] == ["floor"]
    assert verdict.reason.startswith("floor: ")


@pytest.mark.parametrize(
    ("candidate", "state", "outcome"),
    [
        ((460, 40), State.VALIDATED, OUTCOME_PASS),
        ((350, 150), State.REJECTED, OUTCOME_FAIL),
        ((45, 7), State.REGISTERED, OUTCOME_INCONCLUSIVE),
    ],
)
def test_the_champion_is_compared_on_the_same_rows(candidate: tuple[int, int], state: State, outcome: int) -> None:
    verdict = judge(Policy(0.0, 0.0, 0), run(*candidate, cells(450, 50, *candidate)))

    assert verdict.state is state
    assert [(check.check, check.outcome) for check in verdict.checks] == [("precision", outcome)]


def test_the_worst_outcome_counts() -> None:
    verdict = judge(Policy(0.95, 0.05, 0), run(440, 60, cells(300, 200, 440, 60)))

    assert [check.outcome for check in verdict.checks] == [OUTCOME_FAIL, OUTCOME_PASS]
    assert verdict.state is State.REJECTED
    assert "precision:" not in verdict.reason


def test_a_model_that_demands_nothing_gets_its_first_version() -> None:
    assert judge(Policy(0.0, 0.0, 0), run(0, 0)).state is State.VALIDATED


def test_the_margin_is_the_policys() -> None:
    counts = run(430, 70, cells(450, 50, 430, 70))

    assert judge(Policy(0.0, 0.10, 0), counts).state is State.VALIDATED
    assert judge(Policy(0.0, 0.01, 0), counts).state is not State.VALIDATED


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([1, 2, 3], "expected 8 counts"),
        ([0, 0, 5, 41, 0, -1, 0, 0], "expected 8 counts"),
        ([0, 0, 1, 40, 0, 0, 0, 0], "do not add up"),
    ],
)
def test_evidence_that_contradicts_itself_is_refused(counts: list[int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        judge(Policy(0.0, 0.0, 0), run(41, 1, counts))


@given(st.lists(st.integers(0, 300), min_size=8, max_size=8), st.text(min_size=1, max_size=8), st.floats(0, 0.99))
def test_the_same_evidence_gives_the_same_verdict_and_digest(counts: list[int], run_id: str, floor: float) -> None:
    policy = Policy(floor, 0.05, 0)
    found = run(counts[3] + counts[7], counts[2] + counts[6], counts, run_id)

    first, second = judge(policy, found), judge(policy, found)

    assert evidence(policy, found, first) == evidence(policy, found, second)
    document = json.loads(evidence(policy, found, first))
    assert document["verdict"] == first.state.value
    assert document["candidate"]["tp"] == str(found.candidate.tp)


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        (Policy(0.9, 0.05, 2), []),
        (Policy(-0.1, 0.05, 0), ["min_precision"]),
        (Policy(1.0, 1.0, 3), ["min_precision", "precision_margin", "approvals"]),
        (Policy(float("nan"), float("nan"), 0), ["min_precision", "precision_margin"]),
    ],
)
def test_a_policy_that_makes_no_sense_says_where(policy: Policy, fields: list[str]) -> None:
    assert [field for field, _ in policy_problems(policy)] == fields
