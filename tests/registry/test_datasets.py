"""When a version closes, and what is in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from holdtrue_contracts.registry.v1.datasets_pb2 import CommitRange, DatasetSchema
from holdtrue_lake.history import Version
from holdtrue_lake.ranges import Ranges
from holdtrue_registry.domain.datasets import Dataset, published
from holdtrue_registry.domain.names import name_problem

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DATASET = Dataset(
    id="d",
    name="payments",
    schema_id="s",
    schema=DatasetSchema(),
    version_rows=100,
    last_commit=7,
    accepted=150,
    quarantined=3,
    from_us=5,
    to_us=9,
    latest_version=2,
    published_rows=100,
    open_since=NOW,
    created_at=NOW,
)


def test_what_is_told_about_a_version() -> None:
    made = Version(3, Ranges.of([(0, 7)]), Ranges(), 7, "digest", NOW)

    version = published(DATASET, made, 150, (5, 9))

    assert (version.version, version.parent, version.rows, version.digest) == (3, 2, 150, "digest")
    assert list(version.ranges) == [CommitRange(first=0, last=7)]
    assert (version.from_ns, version.to_ns) == (5_000, 9_000)


def test_a_version_closes_by_rows() -> None:
    assert not DATASET.is_due(NOW, 0)
    assert replace(DATASET, accepted=200).is_due(NOW, 0)


def test_a_version_closes_by_time_where_that_is_wanted() -> None:
    later = NOW + timedelta(seconds=60)

    assert DATASET.is_due(later, 60)
    assert not DATASET.is_due(later, 61)
    assert not DATASET.is_due(later, 0)
    assert not replace(DATASET, open_since=None).is_due(later, 60)


@pytest.mark.parametrize("name", ["a", "Payments_2024.v1-final", "x" * 128])
def test_names_that_may_be_used(name: str) -> None:
    assert name_problem(name) == ""


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "ä", "x" * 129, "a\n"])
def test_names_that_may_not_be_used_say_why(name: str) -> None:
    assert "letters, digits" in name_problem(name)
