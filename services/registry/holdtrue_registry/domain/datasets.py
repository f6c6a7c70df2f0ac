"""A dataset between two versions: when does the next one close, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.datasets_pb2 import (
    BrokenExpectation,
    CommitRange,
    DatasetSchema,
    DatasetVersionPublished,
    DatasetVersionStatus,
)
from holdtrue_lake.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from holdtrue_lake.history import Version


@dataclass(frozen=True)
class Dataset:
    """A dataset as it stands; times of events in microseconds since the epoch."""

    id: str
    name: str
    schema_id: str
    schema: DatasetSchema
    version_rows: int
    last_commit: int
    accepted: int
    quarantined: int
    from_us: int
    to_us: int
    latest_version: int
    published_rows: int
    open_since: datetime | None
    created_at: datetime
    rules_digest: str = ""
    erasure_epoch: int = 0

    @property
    def open_rows(self) -> int:
        """Accepted rows that are in no version yet."""
        return self.accepted - self.published_rows

    def is_due(self, now: datetime, version_seconds: float) -> bool:
        """Tell whether the next version closes by itself: enough rows, or rows that are old enough (0: never)."""
        if self.open_rows >= self.version_rows:
            return True
        waited = self.open_since is not None and now - self.open_since >= timedelta(seconds=version_seconds)
        return bool(version_seconds) and waited


def published(  # noqa: PLR0913, PLR0917  what there is to say about a version
    dataset: Dataset,
    version: Version,
    rows: int,
    bounds: tuple[int, int],
    reason: str = "",
    restores: int = 0,
    broken: Iterable[BrokenExpectation] = (),
) -> DatasetVersionPublished:
    """Return what is told about a new version; `bounds` are of its events' times, in microseconds."""
    return DatasetVersionPublished(
        dataset_id=dataset.id,
        name=dataset.name,
        version=version.number,
        digest=version.digest,
        rows=rows,
        ranges=commit_ranges(version.commits),
        schema_id=dataset.schema_id,
        schema=dataset.schema,
        status=DatasetVersionStatus.Value(f"DATASET_VERSION_STATUS_{version.status.upper()}"),
        parent=dataset.latest_version,
        from_ns=bounds[0] * 1000,
        to_ns=bounds[1] * 1000,
        retracted=commit_ranges(version.retracted),
        reason=reason,
        restores=restores,
        erasure_epoch=version.erasure_epoch,
        broken=broken,
    )


def commit_ranges(spans: Iterable[tuple[int, int]]) -> list[CommitRange]:
    """Return ranges of commits as a message has them."""
    return [CommitRange(first=first, last=last) for first, last in spans]


def held_commits(version: DatasetVersionPublished) -> Ranges:
    """Return the commits that a version has, as its message says."""
    return Ranges.of((span.first, span.last) for span in version.ranges)


@dataclass(frozen=True)
class Batch:
    """What became of a producer's batch."""

    batch_id: str
    accepted: int
    codes: Mapping[str, int]
    examples: tuple[str, ...]
