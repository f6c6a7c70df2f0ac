"""A dataset between two versions: when does the next one close, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.datasets_pb2 import (
    DATASET_VERSION_STATUS_PUBLISHED,
    CommitRange,
    DatasetSchema,
    DatasetVersionPublished,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


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

    def close(self, digest: str) -> DatasetVersionPublished:
        """Return the next version: everything accepted so far. A version is a watermark over the table's commits."""
        return DatasetVersionPublished(
            dataset_id=self.id,
            name=self.name,
            version=self.latest_version + 1,
            digest=digest,
            rows=self.accepted,
            ranges=[CommitRange(first=0, last=self.last_commit)],
            schema_id=self.schema_id,
            schema=self.schema,
            status=DATASET_VERSION_STATUS_PUBLISHED,
            parent=self.latest_version,
            from_ns=self.from_us * 1000,
            to_ns=self.to_us * 1000,
        )


@dataclass(frozen=True)
class Batch:
    """What became of a producer's batch."""

    batch_id: str
    accepted: int
    codes: Mapping[str, int]
    examples: tuple[str, ...]
