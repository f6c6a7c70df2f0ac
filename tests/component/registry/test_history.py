"""What people do with versions: compare, retract, roll back; every deed is an event, and old versions stay readable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from holdtrue_contracts.registry.v1 import dataset_history_pb2 as pb
from holdtrue_contracts.registry.v1.dataset_service_pb2 import GetDatasetRequest, GetDatasetVersionRequest
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    DATASET_VERSION_STATUS_PUBLISHED,
    DATASET_VERSION_STATUS_RETRACTED,
    CommitRange,
    DatasetVersionPublished,
    DatasetVersionRetracted,
)
from holdtrue_core.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from holdtrue_lake.digest import version_digest
from holdtrue_lake.versions import read_version

from tests.component.registry.harness import create, error_of, offered, publish

if TYPE_CHECKING:
    from holdtrue_contracts.registry.v1.dataset_service_pb2 import Dataset

    from tests.component.registry.harness import Registry, Topics


async def grown(registry: Registry, broker: Topics, batches: int = 3) -> tuple[Dataset, list[str]]:
    """A dataset with a version, and a commit, for each batch of two rows; amounts tell them apart."""
    dataset = await create(registry)
    ids: list[str] = []
    for number in range(batches):
        rows: list[dict[str, Any]] = [
            {"amount": 10 * number + row, "fraud": row, "at": 1_700_000_000 + 100 * number + row} for row in range(2)
        ]
        batch = offered(dataset.dataset_id, rows)
        await broker.send_event(batch)
        await publish(registry, dataset, [batch.batch_id])
        ids.append(batch.batch_id)
    return dataset, ids


def retraction(of: Dataset, *spans: tuple[int, int], **more: Any) -> pb.RetractCommitsRequest:
    asked: dict[str, Any] = {
        "dataset": of.name,
        "commits": [CommitRange(first=first, last=last) for first, last in spans],
        "reason": "broken",
    }
    return pb.RetractCommitsRequest(**asked | more)


def amounts(registry: Registry, version: DatasetVersionPublished) -> list[float]:
    ranges = [(span.first, span.last) for span in version.ranges]
    return read_version(registry.lake, version.dataset_id, ranges, ["amount"]).column("amount").to_pylist()


async def version(registry: Registry, dataset: Dataset, number: int = 0) -> DatasetVersionPublished:
    request = GetDatasetVersionRequest(dataset=dataset.name, version=number)
    return (await registry.datasets.GetDatasetVersion(request)).version


async def ingested(registry: Registry, dataset: Dataset, rows: int) -> None:
    """Wait until so many rows are accepted, in a version or not."""
    async with asyncio.timeout(30):
        while (await registry.datasets.GetDataset(GetDatasetRequest(dataset=dataset.name))).dataset.accepted < rows:
            await asyncio.sleep(0.05)


async def test_retracting_flags_the_versions_that_hold_it_and_makes_one_without(
    registry: Registry, broker: Topics
) -> None:
    dataset, ids = await grown(registry, broker)

    done = await registry.datasets.RetractCommits(retraction(dataset, batch_ids=[ids[1]]))

    assert (done.version.version, done.version.parent, done.version.rows, done.version.reason) == (4, 3, 4, "broken")
    assert [(span.first, span.last) for span in done.commits] == [(1, 1)]
    assert (list(done.batch_ids), done.rows, list(done.flagged)) == ([ids[1]], 2, [2, 3])
    assert amounts(registry, done.version) == [0, 1, 20, 21]
    assert (done.version.from_ns, done.version.to_ns) == (1_700_000_000 * 10**9, 1_700_000_201 * 10**9)
    commits = (await registry.datasets.ListDatasetCommits(pb.ListDatasetCommitsRequest(dataset=dataset.name))).commits
    assert [(c.number, c.retracted, list(c.batch_ids)) for c in commits] == [
        (2, False, [ids[2]]), (1, True, [ids[1]]), (0, False, [ids[0]]),
    ]  # fmt: skip
    assert done.version.digest == version_digest([commits[0].digest, commits[2].digest], dataset.schema_id)
    assert [(await version(registry, dataset, number)).status for number in (1, 2, 3, 4)] == [
        DATASET_VERSION_STATUS_PUBLISHED, DATASET_VERSION_STATUS_RETRACTED, DATASET_VERSION_STATUS_RETRACTED,
        DATASET_VERSION_STATUS_PUBLISHED,
    ]  # fmt: skip
    assert amounts(registry, await version(registry, dataset, 3)) == [0, 1, 10, 11, 20, 21]
    flags = await broker.wait_for("datasets.v1", 2, DatasetVersionRetracted, dataset.dataset_id)
    assert [(e.data.version, e.data.successor, e.data.reason) for e in flags] == [(2, 4, "broken"), (3, 4, "broken")]
    made = await broker.wait_for("datasets.v1", 4, DatasetVersionPublished, dataset.dataset_id)
    assert made[-1].data == done.version


async def test_what_comes_after_a_retraction_leaves_it_out_too(registry: Registry, broker: Topics) -> None:
    dataset, ids = await grown(registry, broker, 2)
    waiting = offered(dataset.dataset_id, [{"amount": 99, "fraud": 0, "at": 1_700_000_500}])
    await broker.send_event(waiting)
    await ingested(registry, dataset, 5)

    taken_out = await registry.datasets.RetractCommits(retraction(dataset, (0, 0)))
    answer = await publish(registry, dataset, [*ids, waiting.batch_id])

    assert amounts(registry, taken_out.version) == [10, 11], "what waits for the next version still does"
    assert (answer.version.version, answer.version.rows) == (4, 3)
    assert amounts(registry, answer.version) == [10, 11, 99]
    assert [(span.first, span.last) for span in answer.version.retracted] == [(0, 0)]
    again = await error_of(registry.datasets.RetractCommits(retraction(dataset, (0, 0))))
    assert isinstance(again, FailedPrecondition)
    assert "retracted already" in again.message


async def test_rolling_back_brings_the_rows_of_the_older_version_and_nothing_else(
    registry: Registry, broker: Topics
) -> None:
    dataset, _ = await grown(registry, broker)
    trial = pb.RollBackVersionRequest(dataset=dataset.name, version=1, dry_run=True)
    request = pb.RollBackVersionRequest(dataset=dataset.name, version=1, reason="counted twice", expected_version=3)

    plan = await registry.datasets.RollBackVersion(trial)
    untouched = await version(registry, dataset)
    done = await registry.datasets.RollBackVersion(request)

    assert untouched.version == 3
    assert (plan.version.version, plan.version.digest, plan.rows_removed) == (4, done.version.digest, 4)
    assert (done.version.restores, done.version.reason, done.version.rows) == (1, "counted twice", 2)
    assert [(span.first, span.last) for span in done.removed] == [(1, 2)]
    first = await version(registry, dataset, 1)
    assert (done.version.digest, list(done.version.ranges)) == (first.digest, list(first.ranges))
    assert (await version(registry, dataset)) == done.version
    again = await error_of(
        registry.datasets.RollBackVersion(pb.RollBackVersionRequest(dataset=dataset.name, version=1, reason="x"))
    )
    assert "has the commits of version 1 already" in str(again)
    late = await error_of(registry.datasets.RollBackVersion(request))
    assert isinstance(late, Conflict)
    assert "the newest version" in late.message


async def test_rolling_back_reinstates_what_was_retracted_only_where_that_is_asked_for(
    registry: Registry, broker: Topics
) -> None:
    dataset, _ = await grown(registry, broker, 2)
    await registry.datasets.RetractCommits(retraction(dataset, (0, 0)))
    request = pb.RollBackVersionRequest(dataset=dataset.name, version=2, reason="it was fine", reinstate=True)

    kept_out = await error_of(
        registry.datasets.RollBackVersion(pb.RollBackVersionRequest(dataset=dataset.name, version=2, reason="x"))
    )
    back = await registry.datasets.RollBackVersion(request)

    assert "already" in str(kept_out)
    assert amounts(registry, back.version) == [0, 1, 10, 11]
    assert back.version.status == DATASET_VERSION_STATUS_PUBLISHED


async def test_comparing_versions_tells_rows_commits_and_statistics(registry: Registry, broker: Topics) -> None:
    dataset, _ = await grown(registry, broker)
    await registry.datasets.RetractCommits(retraction(dataset, (0, 0)))

    found = await registry.datasets.CompareVersions(pb.CompareVersionsRequest(dataset=dataset.name, before=2, after=4))
    bare = await registry.datasets.CompareVersions(
        pb.CompareVersionsRequest(dataset=dataset.name, without_statistics=True)
    )

    assert [(s.first, s.last) for s in found.added] == [(2, 2)]
    assert [(s.first, s.last) for s in found.removed] == [(0, 0)]
    assert (found.rows_added, found.rows_removed, list(found.schema_changes)) == (2, 2, [])
    amount = next(column for column in found.columns if column.column == "amount")
    assert (amount.mean_before, amount.mean_after) == (5.5, 15.5)
    assert amount.psi > 0
    assert (bare.before.version, bare.after.version, len(bare.columns)) == (3, 4, 0)


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"commits": []}, InvalidArgument, "name commits or batches"),
        ({"reason": " "}, InvalidArgument, "reason: say why"),
        ({"commits": [CommitRange(first=5, last=9)]}, InvalidArgument, "no commits 5-9"),
        ({"commits": [CommitRange(first=3, last=1)]}, InvalidArgument, "3 to 1 is no range"),
        ({"commits": [], "batch_ids": ["nobody's"]}, InvalidArgument, "has ingested no batch"),
        ({"expected_version": 7}, Conflict, "is 1 now, not 7"),
        ({"dataset": "nothing"}, NotFound, "no dataset 'nothing'"),
    ],
)
async def test_a_wrong_retraction_is_explained_and_changes_nothing(
    registry: Registry, broker: Topics, more: dict[str, Any], error: type[Exception], says: str
) -> None:
    dataset, _ = await grown(registry, broker, 1)

    raised = await error_of(registry.datasets.RetractCommits(retraction(dataset, (0, 0), **more)))

    assert isinstance(raised, error)
    assert says in str(raised)
    assert (await version(registry, dataset)).version == 1


async def test_a_wrong_comparison_or_roll_back_is_explained(registry: Registry, broker: Topics) -> None:
    dataset, _ = await grown(registry, broker, 1)
    first = pb.CompareVersionsRequest(dataset=dataset.name)
    unknown = pb.RollBackVersionRequest(dataset=dataset.name, version=9, reason="x")

    assert "is the first version" in str(await error_of(registry.datasets.CompareVersions(first)))
    error = await error_of(registry.datasets.RollBackVersion(unknown))
    assert isinstance(error, NotFound)
    assert "no version 9; its newest is 1" in error.message


async def test_trying_a_retraction_changes_nothing(registry: Registry, broker: Topics) -> None:
    dataset, _ = await grown(registry, broker, 2)

    plan = await registry.datasets.RetractCommits(retraction(dataset, (0, 0), dry_run=True, reason=""))

    assert (plan.version.rows, list(plan.flagged)) == (2, [1, 2])
    newest = await version(registry, dataset)
    assert (newest.version, newest.status) == (2, DATASET_VERSION_STATUS_PUBLISHED)
    done = await registry.datasets.RetractCommits(retraction(dataset, (0, 0), expected_version=2))
    assert done.version.digest == plan.version.digest
