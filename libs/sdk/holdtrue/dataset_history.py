"""What people do with the versions of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1.dataset_history_pb2 import (
    ClearSuspicionRequest,
    ClearSuspicionResponse,
    CompareVersionsRequest,
    CompareVersionsResponse,
    DatasetCommit,
    ListDatasetCommitsRequest,
    RetractCommitsRequest,
    RetractCommitsResponse,
    RollBackVersionRequest,
    RollBackVersionResponse,
)
from holdtrue_contracts.registry.v1.datasets_pb2 import CommitRange

from holdtrue.paging import pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub

    from holdtrue.connection import Connection

COMPARE_SECONDS = 240.0


class DatasetHistory:
    """The history of datasets: part of `Client.datasets`."""

    _connection: Connection
    _stub: DatasetServiceStub

    def commits(self, dataset: str) -> Iterator[DatasetCommit]:
        """Yield the commits of a dataset's table, newest first; raises NotFound."""
        return pages(
            lambda token: self._connection.call(
                self._stub.ListDatasetCommits, ListDatasetCommitsRequest(dataset=dataset, page_token=token)
            ),
            lambda page: page.commits,
        )

    def diff(
        self, dataset: str, before: int = 0, after: int = 0, *, statistics: bool = True
    ) -> CompareVersionsResponse:
        """Say what changed from one version to another; by default from the one before to the newest.

        The statistics read every row of both. Raises NotFound, InvalidArgument.
        """
        request = CompareVersionsRequest(dataset=dataset, before=before, after=after, without_statistics=not statistics)
        return self._connection.call(self._stub.CompareVersions, request, COMPARE_SECONDS)

    def retract(  # noqa: PLR0913  what there is to say
        self,
        dataset: str,
        commits: Iterable[tuple[int, int]] = (),
        *,
        batches: Iterable[str] = (),
        reason: str,
        dry_run: bool = False,
        expected: int = 0,
    ) -> RetractCommitsResponse:
        """Make a version without commits (first and last of each range) or the commits of batches.

        Versions that hold them are flagged and stay readable. `expected` is the newest version that was looked at.
        Raises NotFound, InvalidArgument, FailedPrecondition where nothing would change, Conflict.
        """
        request = RetractCommitsRequest(
            dataset=dataset,
            commits=[CommitRange(first=first, last=last) for first, last in commits],
            batch_ids=batches,
            reason=reason,
            dry_run=dry_run,
            expected_version=expected,
        )
        return self._connection.call(self._stub.RetractCommits, request)

    def clear(self, dataset: str, version: int, *, reason: str, dry_run: bool = False) -> ClearSuspicionResponse:
        """Let a suspect version be used, and all that hold the same rows.

        Raises NotFound, InvalidArgument, FailedPrecondition where it is not suspect.
        """
        request = ClearSuspicionRequest(dataset=dataset, version=version, reason=reason, dry_run=dry_run)
        return self._connection.call(self._stub.ClearSuspicion, request)

    def roll_back(  # noqa: PLR0913  what there is to say
        self,
        dataset: str,
        version: int,
        *,
        reason: str,
        reinstate: bool = False,
        dry_run: bool = False,
        expected: int = 0,
    ) -> RollBackVersionResponse:
        """Make a version with the commits of an older one; what came since is left out for good.

        With `reinstate` commits that were retracted since come back, too. `expected` is the newest version that was
        looked at. Raises NotFound, FailedPrecondition where nothing would change, Conflict.
        """
        request = RollBackVersionRequest(
            dataset=dataset,
            version=version,
            reinstate=reinstate,
            reason=reason,
            dry_run=dry_run,
            expected_version=expected,
        )
        return self._connection.call(self._stub.RollBackVersion, request)
