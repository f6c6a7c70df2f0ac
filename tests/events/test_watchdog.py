"""When a consumer counts as standing still, on a virtual clock: never one that moves or has nothing to read."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import pytest
from aiokafka import TopicPartition
from holdtrue_events.watchdog import ConsumerStalled, Watchdog
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

PATIENCE = 30.0
FIRST, SECOND = TopicPartition("runs.v1", 0), TopicPartition("runs.v1", 1)


class Looks:
    """A watchdog whose time passes as the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.watchdog = Watchdog(PATIENCE, lambda: self.now)

    def look(self, after: float, positions: dict[TopicPartition, int], ends: dict[TopicPartition, int]) -> None:
        self.now += after
        self.watchdog.look(positions, ends)


def test_one_that_does_not_move_though_there_is_something_to_read_is_told_with_its_place() -> None:
    looks = Looks()
    looks.look(0, {FIRST: 7}, {FIRST: 9})
    looks.look(29.9, {FIRST: 7}, {FIRST: 12})
    with pytest.raises(ConsumerStalled, match=r"topic='runs.v1', partition=0.* did not move for 30 s at \[7\]"):
        looks.look(0.1, {FIRST: 7}, {FIRST: 12})


def test_one_that_moves_hides_no_other() -> None:
    looks = Looks()
    looks.look(0, {FIRST: 7, SECOND: 0}, {FIRST: 9, SECOND: 100})
    with pytest.raises(ConsumerStalled, match=r"partition=0\)\] did not move"):
        looks.look(30, {FIRST: 7, SECOND: 5}, {FIRST: 9, SECOND: 100})


def test_time_counts_from_the_look_that_found_something_to_read() -> None:
    """Looks may be far apart: a handler of another partition takes its time."""
    looks = Looks()
    looks.look(0, {FIRST: 7}, {FIRST: 7})
    looks.look(1000, {FIRST: 7}, {FIRST: 8})
    looks.look(29, {FIRST: 7}, {FIRST: 8})
    with pytest.raises(ConsumerStalled):
        looks.look(1, {FIRST: 7}, {FIRST: 8})


def test_one_that_moves_is_not_behind_though_it_never_catches_up() -> None:
    looks = Looks()
    for position in range(10):
        looks.look(29, {FIRST: position}, {FIRST: 1000})


def test_a_partition_that_was_away_begins_anew() -> None:
    """Given to another consumer, or paused, meanwhile."""
    looks = Looks()
    looks.look(0, {FIRST: 7}, {FIRST: 8})
    looks.look(20, {}, {})
    looks.look(20, {FIRST: 7}, {FIRST: 8})
    looks.look(29, {FIRST: 7}, {FIRST: 8})


def stall(watchdog: Watchdog) -> None:
    watchdog.rebuilt(ConsumerStalled("stands still"))


def test_the_fourth_rebuild_in_a_row_is_one_too_many() -> None:
    watchdog = Watchdog(PATIENCE)
    for _ in range(3):
        stall(watchdog)
    with pytest.raises(ConsumerStalled, match="stands still"):
        stall(watchdog)


def test_movement_after_a_rebuild_forgives_those_before() -> None:
    looks = Looks()
    for _ in range(3):
        stall(looks.watchdog)
    looks.look(0, {FIRST: 7}, {FIRST: 9})
    looks.look(5, {FIRST: 8}, {FIRST: 9})
    for _ in range(3):
        stall(looks.watchdog)


def test_a_rebuild_gives_every_partition_its_whole_patience_again() -> None:
    looks = Looks()
    looks.look(0, {FIRST: 7}, {FIRST: 9})
    looks.look(29, {FIRST: 7}, {FIRST: 9})
    stall(looks.watchdog)
    looks.look(29, {FIRST: 7}, {FIRST: 9})
    looks.look(29, {FIRST: 7}, {FIRST: 9})


@dataclass
class Partition:
    """Where a partition is, and the first of the looks in a row that found it behind at the same place."""

    position: int = 0
    end: int = 0
    last: int | None = None
    since: float | None = None


class Consumer(RuleBasedStateMachine):
    """A consumer with any fate, against the plain reading of the rule."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = Looks()
        self.partitions = {TopicPartition("runs.v1", number): Partition() for number in range(3)}

    @rule(number=st.integers(0, 2), count=st.integers(1, 5))
    def produce(self, number: int, count: int) -> None:
        self.partitions[TopicPartition("runs.v1", number)].end += count

    @rule(number=st.integers(0, 2))
    def read(self, number: int) -> None:
        partition = self.partitions[TopicPartition("runs.v1", number)]
        partition.position = min(partition.position + 1, partition.end)

    @rule(after=st.sampled_from([1.0, 5.0, 10.0, 29.0, 30.0]))
    def look(self, after: float) -> None:
        now = self.looks.now + after
        for each in self.partitions.values():
            stands = each.last in (None, each.position) and each.position < each.end
            each.since = (now if each.since is None else each.since) if stands else None
            each.last = each.position
        due = any(each.since is not None and now - each.since >= PATIENCE for each in self.partitions.values())
        positions = {place: each.position for place, each in self.partitions.items()}
        ends = {place: each.end for place, each in self.partitions.items()}
        with pytest.raises(ConsumerStalled) if due else nullcontext():
            self.looks.look(after, positions, ends)


TestConsumer = Consumer.TestCase
TestConsumer.settings = settings(max_examples=60, stateful_step_count=20)


@given(st.lists(st.floats(0, 1000), max_size=20))
def test_one_that_has_read_everything_may_rest_for_ever(pauses: list[float]) -> None:
    looks = Looks()
    for pause in pauses:
        looks.look(pause, {FIRST: 7, SECOND: 0}, {FIRST: 7, SECOND: 0})
