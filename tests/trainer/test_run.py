from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.trainer.v1.runs_pb2 import RunSpec, RunSucceeded
from holdtrue_trainer.domain.run import Failure, Run, RunClosedError, State, Trouble, seed_of
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CHANGES: dict[str, Callable[[Run], Run]] = {
    "start": lambda run: run.started(run.attempts + 1),
    "succeed": lambda run: run.succeeded(RunSucceeded(), NOW),
    "fail": lambda run: run.failed(Trouble(Failure.DATA, "no rows"), "", NOW),
    "cancel": lambda run: run.cancelled("not needed", NOW),
}


@given(st.lists(st.sampled_from(sorted(CHANGES)), max_size=8))
def test_a_run_ends_once(names: list[str]) -> None:
    run = Run(RunSpec(run_id="r"), NOW)
    for name in names:
        if run.open:
            run = CHANGES[name](run)
            assert run.open == (name == "start")
            assert (run.ended_at is None) == run.open
        else:
            with pytest.raises(RunClosedError, match=f"r is {run.state} already"):
                CHANGES[name](run)
    assert (run.failure is not None) == (run.state is State.FAILED)


def test_seed_is_made_from_the_id() -> None:
    assert seed_of("a") == seed_of("a") != seed_of("b")
    assert all(0 <= seed_of(str(i)) < 2**31 for i in range(1_000))
