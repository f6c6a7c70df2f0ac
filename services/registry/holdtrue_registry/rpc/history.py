"""Methods about the history of datasets."""
# ruff: noqa: N802  methods are named by the protocol

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1 import dataset_history_pb2 as pb
from holdtrue_core.errors import InvalidArgument
from holdtrue_core.rpc import actor_of, timestamp
from holdtrue_lake.diff import diff_schemas
from holdtrue_lake.layout import Layout
from holdtrue_lake.profile import observe
from holdtrue_lake.profile_diff import compare
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.versions import read_version

from holdtrue_registry.domain.datasets import commit_ranges, held_commits
from holdtrue_registry.history import MOST_SPANS, clear, retract, roll_back
from holdtrue_registry.rpc.methods import DatasetMethods, check_batches, find, locked, reason_of, version_of
from holdtrue_registry.rpc.paging import number_of, page_size, token
from holdtrue_registry.store.history import HistoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from holdtrue_contracts.registry.v1.datasets_pb2 import BrokenExpectation, CommitRange, DatasetVersionPublished
    from holdtrue_core.rpc import ServicerContext
    from holdtrue_lake.profile_diff import Change
    from holdtrue_storage.database import Transaction

    from holdtrue_registry.domain.datasets import Dataset
    from holdtrue_registry.store.history import CommitEntry


class HistoryMethods(DatasetMethods):
    """Commits, comparing versions, taking back."""

    async def ListDatasetCommits(
        self, request: pb.ListDatasetCommitsRequest, context: ServicerContext
    ) -> pb.ListDatasetCommitsResponse:
        """List commits, newest first."""
        size = page_size(request.page_size)
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await find(tx, request.dataset)
            store = HistoryStore(tx)
            found = await store.commits(dataset.id, number_of(request.page_token), size)
            newest = await store.versions(dataset, most=1)
        out = newest[0].retracted if newest else Ranges()
        more = token(str(found[-1].number)) if len(found) == size else ""
        return pb.ListDatasetCommitsResponse(commits=[_entry(c, out) for c in found], next_page_token=more)

    async def CompareVersions(
        self, request: pb.CompareVersionsRequest, context: ServicerContext
    ) -> pb.CompareVersionsResponse:
        """Say what changed from one version to another."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await find(tx, request.dataset)
            after = await version_of(tx, dataset, request.after)
            if not request.before and not after.parent:
                raise InvalidArgument.of("before", f"{dataset.name}@{after.version} is the first version; name another")
            before = await version_of(tx, dataset, request.before or after.parent)
            store = HistoryStore(tx)
            added, removed = held_commits(after) - held_commits(before), held_commits(before) - held_commits(after)
            rows = [(await store.holding(dataset.id, commits)).rows for commits in (added, removed)]
        schema = diff_schemas(before.schema, after.schema)
        changes: list[Change] = []
        if not request.without_statistics:
            async with self._leases.reader(tx.actor.tenant, dataset.id, "comparison"):
                changes = await asyncio.to_thread(_compared, self._lake, before, after)
        return pb.CompareVersionsResponse(
            before=before,
            after=after,
            added=commit_ranges(added),
            removed=commit_ranges(removed),
            rows_added=rows[0],
            rows_removed=rows[1],
            schema_changes=[
                *(f"{name} is new" for name in schema.added),
                *(f"{name} is gone" for name in schema.removed),
                *schema.changed,
            ],
            columns=map(_change, changes),
        )

    async def RetractCommits(
        self, request: pb.RetractCommitsRequest, context: ServicerContext
    ) -> pb.RetractCommitsResponse:
        """Make a version without bad commits."""
        reason = reason_of(request, "say why; it is kept with the version")
        commits = _asked(request.commits)
        if not commits and not request.batch_ids:
            raise InvalidArgument.of("commits", "name commits or batches to retract")
        check_batches(request.batch_ids)
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await locked(tx, request.dataset, request.expected_version)
            broken = [] if dataset.latest_version else await self._first(tx, dataset, commits)
            done = await retract(
                tx, dataset, commits, request.batch_ids, reason, dry_run=request.dry_run, broken=broken
            )
        return pb.RetractCommitsResponse(
            version=done.version,
            commits=commit_ranges(done.commits),
            batch_ids=done.batch_ids,
            rows=done.rows,
            flagged=done.flagged,
            models=done.models,
        )

    async def _first(self, tx: Transaction, dataset: Dataset, bad: Ranges) -> list[BrokenExpectation]:
        """Return what the rows of a first version do not meet."""
        kept = Ranges.of([(0, dataset.last_commit)] if dataset.last_commit >= 0 else []) - bad
        return await self._closing.judge(tx.actor.tenant, dataset, kept)

    async def ClearSuspicion(
        self, request: pb.ClearSuspicionRequest, context: ServicerContext
    ) -> pb.ClearSuspicionResponse:
        """Let a suspect version be used."""
        reason = reason_of(request, "say why its rows may be used; it is kept with the version")
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await locked(tx, request.dataset, 0)
            done = await clear(tx, dataset, request.version, reason, dry_run=request.dry_run)
            version = await version_of(tx, dataset, request.version)
        return pb.ClearSuspicionResponse(
            version=version, commits=commit_ranges(done.commits), broken=done.broken, cleared=done.versions
        )

    async def RollBackVersion(
        self, request: pb.RollBackVersionRequest, context: ServicerContext
    ) -> pb.RollBackVersionResponse:
        """Make a version with the commits of an older one."""
        reason = reason_of(request, "say why; it is kept with the version")
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await locked(tx, request.dataset, request.expected_version)
            done = await roll_back(
                tx,
                dataset,
                request.version,
                reason,
                reinstate=request.reinstate,
                dry_run=request.dry_run,
            )
        return pb.RollBackVersionResponse(
            version=done.version,
            added=commit_ranges(done.added),
            removed=commit_ranges(done.removed),
            rows_removed=done.rows_removed,
        )


def _asked(spans: Iterable[CommitRange]) -> Ranges:
    wanted = [(span.first, span.last) for span in spans]
    if len(wanted) > MOST_SPANS:
        raise InvalidArgument.of("commits", f"expected at most {MOST_SPANS} ranges, got {len(wanted)}")
    try:
        return Ranges.of(wanted)
    except ValueError as error:
        raise InvalidArgument.of("commits", str(error)) from error


def _entry(commit: CommitEntry, retracted: Ranges) -> pb.DatasetCommit:
    return pb.DatasetCommit(
        number=commit.number,
        ingested_at=timestamp(commit.ingested_at),
        accepted=commit.accepted,
        quarantined=commit.quarantined,
        batch_ids=commit.batch_ids,
        digest=commit.digest,
        rules_digest=commit.rules_digest,
        retracted=commit.number in retracted,
    )


def _compared(lake: Path, before: DatasetVersionPublished, after: DatasetVersionPublished) -> list[Change]:
    """Read both versions and compare what their columns hold; empty where one has no rows."""
    if not before.rows or not after.rows:
        return []
    old, new = (read_version(lake, version.dataset_id, held_commits(version)) for version in (before, after))
    personal = {column.name for column in before.schema.columns if column.pii}
    layout = Layout.of(old, label=before.schema.label, pii=personal)
    return compare(observe(old, layout), observe(new, layout))


def _change(change: Change) -> pb.ColumnChange:
    figures = {
        "psi": change.psi,
        "missing_before": change.missing[0],
        "missing_after": change.missing[1],
        "mean_before": change.mean[0],
        "mean_after": change.mean[1],
        "std_before": change.std[0],
        "std_after": change.std[1],
        "unseen": change.unseen,
    }
    known = {name: value for name, value in figures.items() if math.isfinite(value)}
    return pb.ColumnChange(column=change.column, appeared=change.appeared, vanished=change.vanished, **known)
