from __future__ import annotations

from holdtrue_events.backoff import Backoff
from hypothesis import given
from hypothesis import strategies as st

firsts = st.floats(0.001, 10)
longests = st.floats(0.001, 1000)
MANY = 60


def ceilings(first: float, longest: float) -> list[float]:
    """The longest that each pause of a series may be."""
    return [min(longest, first * 2**failure) for failure in range(MANY)]


@given(firsts, longests)
def test_each_pause_lies_between_half_its_ceiling_and_its_ceiling(first: float, longest: float) -> None:
    backoff = Backoff(first, longest)
    for ceiling in ceilings(first, longest):
        assert ceiling / 2 <= backoff.next() <= ceiling


@given(firsts, longests, st.integers(0, MANY))
def test_after_a_success_it_begins_anew(first: float, longest: float, failures: int) -> None:
    backoff = Backoff(first, longest)
    for _ in range(failures):
        backoff.next()
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next() <= min(first, longest)


def test_it_never_overflows_however_long_the_outage() -> None:
    backoff = Backoff(longest=3.0)
    assert max(backoff.next() for _ in range(5_000)) <= 3.0


def test_those_who_wait_for_the_same_do_not_come_back_together() -> None:
    assert len({Backoff().next() for _ in range(100)}) == 100
