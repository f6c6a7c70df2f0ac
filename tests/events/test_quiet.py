"""An outage fills no disk with lines that say the same, and hides none that says something else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from holdtrue_events import quiet
from holdtrue_events.quiet import RateLimit, quieten_aiokafka
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """What `time.monotonic` says."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(quiet, "time", clock)
    return clock


def line(template: str, *arguments: object, logger: str = "aiokafka.client") -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, __file__, 1, template, arguments, None)


def passed(limit: RateLimit, *lines: logging.LogRecord) -> list[str]:
    return [each.getMessage() for each in lines if limit.filter(each)]


def test_a_kind_of_line_passes_a_few_times_then_tells_how_many_it_held_back(clock: Clock) -> None:
    limit = RateLimit(burst=2, seconds=30)
    assert passed(limit, *(line("node %d is away", node) for node in range(7))) == ["node 0 is away", "node 1 is away"]
    clock.now = 30.0
    assert not passed(limit, line("node %d is away", 7))
    clock.now = 30.1
    assert passed(limit, line("node %d is away", 8)) == ["node 8 is away (6 more like it)"]
    assert passed(limit, line("node %d is away", 9)) == ["node 9 is away"]
    assert not passed(limit, line("node %d is away", 10))


def test_a_line_that_was_never_held_back_is_not_altered(clock: Clock) -> None:
    limit = RateLimit(burst=2, seconds=30)
    assert passed(limit, line("once 100%")) == ["once 100%"]
    clock.now = 31.0
    assert passed(limit, line("once 100%")) == ["once 100%"]


def test_a_line_with_percent_signs_survives_the_summary(clock: Clock) -> None:
    limit = RateLimit(burst=1, seconds=30)
    passed(limit, line("%s", "1"), line("%s", "2"))
    clock.now = 31.0
    assert passed(limit, line("%s", "100%s")) == ["100%s (1 more like it)"]


def test_other_lines_and_other_loggers_have_their_own_share(clock: Clock) -> None:
    limit = RateLimit(burst=1, seconds=30)
    lines = [line("a"), line("a"), line("b"), line("a", logger="aiokafka.consumer")]
    assert passed(limit, *lines) == ["a", "b", "a"]
    assert clock.now == 0


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from("abc")), max_size=200), st.integers(1, 4))
def test_no_window_lets_more_than_the_burst_pass_and_none_is_silent(steps: list[tuple[float, str]], burst: int) -> None:
    """Against the plain reading of the rule: a window begins with the first line after the last one ended."""
    clock = Clock()
    windows: dict[str, tuple[float, int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quiet, "time", clock)
        limit = RateLimit(burst=burst, seconds=30)
        for pause, kind in steps:
            clock.now += pause
            began, count = windows.get(kind, (clock.now, 0))
            if clock.now - began > 30:
                began, count = clock.now, 0
            windows[kind] = began, count + 1
            assert limit.filter(line(kind)) == (count < burst)


def test_templates_without_end_are_forgotten(clock: Clock) -> None:
    limit = RateLimit(burst=1, seconds=30)
    for number in range(5_000):
        assert passed(limit, line(f"made up {number}"))
    assert len(limit._windows) <= 1_000
    assert clock.now == 0


@pytest.fixture
def fresh_logger() -> Iterator[logging.Logger]:
    quieten_aiokafka.cache_clear()
    logger = logging.getLogger("aiokafka.made_for_a_test")
    yield logger
    quieten_aiokafka.cache_clear()


def test_all_loggers_of_aiokafka_are_limited_once(fresh_logger: logging.Logger) -> None:
    other = logging.getLogger("aiokafkaesque")
    quieten_aiokafka()
    quieten_aiokafka()
    assert [type(each) for each in fresh_logger.filters] == [RateLimit]
    assert not other.filters
