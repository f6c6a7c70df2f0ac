"""Offering refused records again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.dataset_service_pb2 import PublishVersionRequest
from holdtrue_contracts.registry.v1.quarantine_pb2 import ReplayQuarantineRequest, ReplayQuarantineResponse

from holdtrue.errors import FailedPrecondition
from holdtrue.waiting import Progress, silent

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp
    from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub
    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetVersionPublished

    from holdtrue.connection import Connection

REPLAY_SECONDS = 240.0


@dataclass(slots=True)
class Replayed:
    """What became of refused records that were offered again: the version that holds the accepted ones, if any."""

    offered: int = 0
    version: DatasetVersionPublished | None = None
    quarantined: Counter[str] = field(default_factory=Counter[str])
    """Records that were refused again, by code."""
    skipped: Counter[str] = field(default_factory=Counter[str])
    """Records that cannot be offered, by the reason."""

    @property
    def accepted(self) -> int:
        """Records that are in the dataset now."""
        return self.offered - self.quarantined.total()


class DatasetReplay:
    """Offering refused records again: part of `Client.datasets`."""

    _connection: Connection
    _stub: DatasetServiceStub

    def replay(
        self, dataset: str, *, batch: str = "", code: str = "", reason: str, progress: Progress = silent
    ) -> Replayed:
        """Offer the refused records again, to be judged by the rules in force, and wait for what becomes of them.

        Each ends in the dataset or is refused again with its new faults, once, whatever is interrupted. Only those of
        a `batch`, or whose first fault is of a kind. Raises NotFound, InvalidArgument.
        """
        result = Replayed()
        until: Timestamp | None = None
        while True:
            page = self.replay_page(dataset, batch, code, reason=reason, until=until)
            until = page.until
            result.offered += page.records
            result.skipped.update(page.skipped)
            progress(f"offered {result.offered:,} records, {page.left:,} left")
            self._follow(dataset, page, result)
            if not page.left or not page.records:
                return result

    def replay_page(  # noqa: PLR0913  what there is to choose
        self,
        dataset: str,
        batch: str = "",
        code: str = "",
        *,
        reason: str = "",
        dry_run: bool = False,
        until: Timestamp | None = None,
    ) -> ReplayQuarantineResponse:
        """Offer some of the records, those refused `until` a time, without waiting; `dry_run` only counts them."""
        request = ReplayQuarantineRequest(
            dataset=dataset, batch_id=batch, code=code, reason=reason, dry_run=dry_run, until=until
        )
        return self._connection.call(self._stub.ReplayQuarantine, request, REPLAY_SECONDS)

    def _follow(self, dataset: str, page: ReplayQuarantineResponse, result: Replayed) -> None:
        if not page.batch_ids:
            return
        request = PublishVersionRequest(dataset=dataset, batch_ids=page.batch_ids)
        try:
            answer = self._connection.call(self._stub.PublishVersion, request, REPLAY_SECONDS)
        except FailedPrecondition:  # the dataset has no rows: all were refused again
            result.quarantined["refused"] += page.records
            return
        result.quarantined.update(answer.quarantined)
        result.version = answer.version
