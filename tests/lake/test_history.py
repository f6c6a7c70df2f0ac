"""Versions and their verbs, each against a model that knows nothing of ranges: plain sets of commits."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema
from holdtrue_lake import upkeep
from holdtrue_lake.compaction import compact
from holdtrue_lake.diff import diff_rows, diff_schemas
from holdtrue_lake.digest import version_digest
from holdtrue_lake.history import History, Hold, Status
from holdtrue_lake.ranges import Ranges
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from .conftest import Lake

if TYPE_CHECKING:
    from collections.abc import Iterable

START = datetime(2026, 3, 1, tzinfo=UTC)
SCHEMA = DatasetSchema(
    columns=[
        ColumnSpec(name="amount", dtype="float32"),
        ColumnSpec(name="country", dtype="string"),
        ColumnSpec(name="known", dtype="bool"),
        ColumnSpec(name="fraud", dtype="int64"),
    ],
    label="fraud",
    time="at",
)


def ranges(commits: Iterable[int]) -> Ranges:
    return Ranges.of((commit, commit) for commit in commits)


class Versions(RuleBasedStateMachine):
    """A real table with its history, beside sets of commits and lists of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="holdtrue-test-")
        self.lake = Lake(Path(self.folder.name), str(uuid.uuid4()), SCHEMA, START)
        self.now = START
        self.history = History("schema")
        self.rows: dict[int, list[tuple[int, int, int]]] = {}  # identities, by commit
        self.offered: dict[int, set[int]] = {}  # by version
        self.retracted: dict[int, set[int]] = {}
        self.digests: dict[int, str] = {}
        self.flagged: set[int] = set()
        self.pinned: set[int] = set()
        self.made: dict[int, datetime] = {}
        self.seen: dict[int, int] = {}  # how many commits there were when the version took in the new ones
        self.contents_digests: list[str] = []
        self.unseen: set[int] = set()  # commits since the newest version

    def teardown(self) -> None:
        self.folder.cleanup()

    @property
    def last(self) -> int:
        return max(self.offered, default=0)

    def record(self, history: History, offered: set[int], retracted: set[int]) -> None:
        version = history.versions[-1]
        self.history = history
        self.seen[version.number] = len(self.rows) - len(self.unseen)
        self.offered[version.number], self.retracted[version.number] = offered, retracted
        self.made[version.number] = self.now
        self.digests[version.number] = self.lake.digest(version.commits)
        contents = [self.contents_digests[commit] for commit in offered - retracted]
        assert version.digest == version_digest(contents, "schema")

    def take_new(self) -> set[int]:
        new, self.unseen = self.unseen, set()
        return new

    def contents(self, number: int) -> set[int]:
        return self.offered[number] - self.retracted[number]

    @rule(partition=st.integers(0, 1), rows=st.integers(1, 3))
    def append(self, partition: int, rows: int) -> None:
        commit = self.lake.append(rows, partition)
        offset = commit.first_offset
        self.rows[commit.number] = [(partition, offset, row) for row in range(rows)]
        self.history = self.history.add_commits([commit.digest])
        self.contents_digests.append(commit.digest)
        self.unseen.add(commit.number)

    @rule(hours=st.integers(1, 5))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule()
    def publish(self) -> None:
        before = self.history
        after = before.publish(self.now)
        if self.unseen:
            offered = self.offered.get(self.last, set()) | self.take_new()
            self.record(after, offered, self.retracted.get(self.last, set()))
        else:
            assert after is before

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def retract(self, data: st.DataObject) -> None:
        bad = data.draw(st.sets(st.sampled_from(sorted(self.rows)), min_size=1, max_size=3))
        affected = {number for number in self.offered if self.contents(number) & bad}
        assert {version.number for version in self.history.holding(ranges(bad))} == affected
        self.flagged |= affected
        history = self.history.retract(ranges(bad), self.now)
        offered = self.offered[self.last] if self.offered else self.take_new()
        self.record(history, offered, self.retracted.get(self.last, set()) | bad)

    @precondition(lambda self: self.offered)
    @rule(data=st.data(), reinstate=st.booleans())
    def roll_back(self, data: st.DataObject, *, reinstate: bool) -> None:
        old = data.draw(st.sampled_from(sorted(self.offered)))
        retracted = self.retracted[old] | (set[int]() if reinstate else self.retracted[self.last])
        self.take_new()
        self.record(self.history.roll_back(old, self.now, reinstate=reinstate), self.offered[old], retracted)

    @rule()
    def replace(self) -> None:
        if not self.unseen:
            with pytest.raises(ValueError, match="nothing has come"):
                self.history.replace(self.now)
            return
        self.record(self.history.replace(self.now), self.take_new(), self.retracted.get(self.last, set()))

    @precondition(lambda self: self.offered)
    @rule(data=st.data(), pin=st.booleans())
    def pin(self, data: st.DataObject, *, pin: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.offered)))
        if pin:
            self.history = self.history.pin(number, Hold.TAG, "gold")
            self.pinned.add(number)
        else:
            self.history = self.history.unpin(number, Hold.TAG, "gold")
            self.pinned.discard(number)

    @rule(hours=st.integers(0, 10))
    def expire(self, hours: int) -> None:
        """Whatever no version has any more is deleted at once, and gone for good."""
        before = self.now - timedelta(hours=hours)
        kept = {n for n in self.offered if n in self.pinned or n == self.last or self.made[n] >= before}
        passed = max((self.seen[number] for number in self.offered if self.made[number] < before), default=0)
        free = set(range(passed)) - {commit for number in kept for commit in self.contents(number)}
        self.history, commits = self.history.expire(before)
        assert commits == ranges(free)
        dropped = upkeep.drop_commits(self.lake.root, self.lake.dataset_id, commits)
        assert dropped == sum(len(self.rows[commit]) for commit in free)
        for known in (self.offered, self.retracted, self.digests, self.made, self.seen):
            for number in set(known) - kept:
                del known[number]
        for commit in free:
            self.rows[commit] = []

    @rule(most_rows=st.integers(1, 12))
    def compact(self, most_rows: int) -> None:
        commits = [version.commits for version in self.history.versions]
        compact(self.lake.root, self.lake.dataset_id, commits, most_rows)
        assert compact(self.lake.root, self.lake.dataset_id, commits, most_rows).added == 0

    @rule()
    def vacuum(self) -> None:
        upkeep.vacuum(self.lake.root, self.lake.dataset_id, timedelta(), alone=True)

    @precondition(lambda self: self.offered)
    @rule(data=st.data())
    def differ(self, data: st.DataObject) -> None:
        old, new = (data.draw(st.sampled_from(sorted(self.offered))) for _ in range(2))
        before, after = self.contents(old), self.contents(new)
        found = diff_rows(
            self.lake.root,
            self.lake.dataset_id,
            self.history.version(old).commits,
            self.history.version(new).commits,
        )
        assert (found.added, found.removed) == (ranges(after - before), ranges(before - after))
        assert found.rows_added == sum(len(self.rows[commit]) for commit in after - before)
        assert found.rows_removed == sum(len(self.rows[commit]) for commit in before - after)

    @invariant()
    def versions_are_what_the_model_says(self) -> None:
        assert [version.number for version in self.history.versions] == sorted(self.offered)
        for version in self.history.versions:
            expected = self.contents(version.number)
            rows = self.lake.read(version.commits)
            identity = zip(*(rows.column(name).to_pylist() for name in ("_part", "_off", "_row")), strict=True)
            assert list(identity) == sorted(row for commit in expected for row in self.rows[commit])
            assert self.lake.digest(version.commits) == self.digests[version.number]
            assert all(self.rows[commit] for commit in expected), "a verb brought back what is gone"
            assert (version.status is Status.RETRACTED) == (version.number in self.flagged)


TestVersions = Versions.TestCase
TestVersions.settings = settings(
    deadline=None, max_examples=8, stateful_step_count=14, suppress_health_check=[HealthCheck.too_slow]
)


def test_digests_follow_content_schema_transform_and_erasures() -> None:
    def digest(history: History) -> str:
        return history.add_commits(["a", "b"]).publish(START).versions[0].digest

    digests = [
        digest(History("s")),
        digest(History("t")),
        digest(History("s", transform="x")),
        digest(History("s", erasure_epoch=1)),
        digest(History("s", ("c",))),
    ]

    assert len(set(digests)) == len(digests)
    again = History("s").add_commits(["a", "b"]).publish(START).add_commits(["c"]).publish(START).roll_back(1, START)
    assert again.version(3).digest == digests[0], "equal content has equal digests, whatever happened in between"


def test_what_came_before_a_roll_back_stays_out() -> None:
    history = History("s").add_commits("a").publish(START).add_commits("b").roll_back(1, START).add_commits("c")

    assert history.publish(START).versions[-1].commits == ranges([0, 2])


def test_verbs_refuse_what_makes_no_sense() -> None:
    history = History("s").add_commits(["a", "b"]).publish(START)

    with pytest.raises(ValueError, match="cannot retract commits 1-4: the table has no commits 2-4"):
        history.retract(Ranges.of([(1, 4)]), START)
    with pytest.raises(ValueError, match="cannot retract commits none"):
        history.retract(Ranges(), START)
    for verb in (lambda: history.roll_back(7, START), lambda: history.pin(7, Hold.TAG, "x")):
        with pytest.raises(LookupError, match=r"there is no version 7; there are \[1\]"):
            verb()


def test_a_diff_does_not_read_what_both_versions_have(lake: Lake) -> None:
    for rows in (2, 3, 4):
        lake.append(rows)
    shared = next(file for file in lake.files() if file.first == 1)
    (Path(lake.place.uri) / shared.path).unlink()

    found = diff_rows(lake.root, lake.dataset_id, ranges([0, 1]), ranges([1, 2]))

    assert (found.added, found.rows_added) == (ranges([2]), 4)
    assert (found.removed, found.rows_removed) == (ranges([0]), 2)


def test_a_diff_says_what_became_of_the_columns() -> None:
    after = DatasetSchema()
    after.CopyFrom(SCHEMA)
    del after.columns[2]
    after.columns.add(name="city", dtype="string")
    after.columns[1].categories.extend(["DE", "FR"])
    after.columns[0].dtype = "int64"
    after.label = "amount"

    found = diff_schemas(SCHEMA, after)

    assert (found.added, found.removed) == (("city",), ("known",))
    assert found.changed == (
        "amount: dtype was 'float32', is 'int64'",
        "country: categories was [], is ['DE', 'FR']",
        "label was 'fraud', is 'amount'",
    )
    assert not diff_schemas(SCHEMA, SCHEMA).changed


def test_an_erasure_changes_the_versions_that_had_such_rows_and_no_others() -> None:
    first = History("schema").add_commits(["a", "b"]).publish(START)
    second = first.add_commits(["c"]).publish(START)

    after = second.erase({2: "C"})

    assert after.digests == ("a", "b", "C")
    assert after.version(1) == second.version(1)
    assert after.version(2) == replace(second.version(2), digest=after.version(2).digest, erasure_epoch=1)
    assert after.version(2).digest == version_digest(["a", "b", "C"], "schema", erasure_epoch=1)
    assert after.roll_back(1, START).version(3).erasure_epoch == 1, "whoever trains on it again trains in a new epoch"
    assert after.erase({}) is after
    with pytest.raises(ValueError, match=r"there are no commits \[3\]; the last is 2"):
        after.erase({3: "d"})
