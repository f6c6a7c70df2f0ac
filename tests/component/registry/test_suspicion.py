"""Versions whose rows are not as expected are suspect: nothing trains on them until a person has cleared them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from holdtrue_contracts.registry.v1 import dataset_history_pb2 as pb
from holdtrue_contracts.registry.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    Dataset,
    GetDatasetRequest,
    GetDatasetVersionRequest,
)
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    DATASET_VERSION_STATUS_PUBLISHED,
    DATASET_VERSION_STATUS_RETRACTED,
    DATASET_VERSION_STATUS_SUSPECT,
    CommitRange,
    DatasetVersionCleared,
    DatasetVersionPublished,
    DatasetVersionSuspected,
)
from holdtrue_core.errors import FailedPrecondition, InvalidArgument, NotFound
from holdtrue_core.ids import uuid7

from tests.component.registry.harness import error_of, offered, publish, run_page, schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.component.registry.harness import Done, Registry, Topics

PUBLISHED, SUSPECT = DATASET_VERSION_STATUS_PUBLISHED, DATASET_VERSION_STATUS_SUSPECT
RULES = """
version: 1
expectations:
  - {id: mean, expect: mean, column: amount, max: 100}
  - {id: enough, expect: volume, min: 2}
  - {id: drift, expect: psi, column: amount, max: 0.5}
"""


async def expecting(registry: Registry, version_rows: int = 0) -> Dataset:
    request = CreateDatasetRequest(name=f"payments-{uuid7()}", schema=schema(), rules=RULES, version_rows=version_rows)
    return (await registry.datasets.CreateDataset(request)).dataset


async def send(broker: Topics, dataset: Dataset, *amounts: float) -> str:
    rows: list[dict[str, Any]] = [{"amount": amount, "fraud": 0, "at": 1_700_000_000} for amount in amounts]
    batch = offered(dataset.dataset_id, rows)
    await broker.send_event(batch)
    return batch.batch_id


async def grow(registry: Registry, broker: Topics, dataset: Dataset, *amounts: float) -> DatasetVersionPublished:
    return (await publish(registry, dataset, [await send(broker, dataset, *amounts)])).version


async def states(registry: Registry, dataset: Dataset, count: int) -> list[int]:
    numbers = range(1, count + 1)
    requests = [GetDatasetVersionRequest(dataset=dataset.name, version=number) for number in numbers]
    return [(await registry.datasets.GetDatasetVersion(request)).version.status for request in requests]


async def clear(registry: Registry, dataset: Dataset, version: int, **more: Any) -> pb.ClearSuspicionResponse:
    asked: dict[str, Any] = {"dataset": dataset.name, "version": version, "reason": "planned"}
    return await registry.datasets.ClearSuspicion(pb.ClearSuspicionRequest(**asked | more))


async def retract(registry: Registry, dataset: Dataset, commit: int) -> DatasetVersionPublished:
    request = pb.RetractCommitsRequest(
        dataset=dataset.name, commits=[CommitRange(first=commit, last=commit)], reason="wrong"
    )
    return (await registry.datasets.RetractCommits(request)).version


async def test_a_version_of_bad_rows_is_suspect_and_so_are_all_that_hold_them(
    registry: Registry, broker: Topics
) -> None:
    dataset = await expecting(registry)
    first = await grow(registry, broker, dataset, *range(100))
    second = await grow(registry, broker, dataset, *range(1000, 1100))
    third = await grow(registry, broker, dataset, *range(100))

    assert (first.status, list(first.broken)) == (PUBLISHED, [])
    assert second.status == SUSPECT
    mean, drift = second.broken
    assert (mean.rule, mean.column, mean.expected, mean.got) == ("mean", "amount", "a mean at most 100", "1049.5")
    assert drift.rule == "drift", "compared with the version before"
    assert (third.status, third.broken) == (SUSPECT, second.broken), "it holds them, too"
    events = await broker.wait_for("datasets.v1", 2, DatasetVersionSuspected, dataset.dataset_id)
    assert [(e.data.version, len(e.data.broken)) for e in events] == [(2, 2), (3, 2)]
    told = await broker.wait_for("datasets.v1", 3, DatasetVersionPublished, dataset.dataset_id)
    assert [event.data.status for event in told] == [PUBLISHED, SUSPECT, SUSPECT]


async def test_clearing_lets_all_be_used_that_hold_no_other_bad_rows(registry: Registry, broker: Topics) -> None:
    dataset = await expecting(registry)
    for amounts in ((1, 2), (1000, 2000), (3, 4), (5000, 6000)):
        await grow(registry, broker, dataset, *amounts)

    trial = await clear(registry, dataset, 3, dry_run=True, reason="")
    assert await states(registry, dataset, 4) == [PUBLISHED, SUSPECT, SUSPECT, SUSPECT]
    done = await clear(registry, dataset, 3)

    assert (list(trial.cleared), trial.commits, trial.broken) == (list(done.cleared), done.commits, done.broken)
    assert list(done.cleared) == [2, 3]
    assert [(span.first, span.last) for span in done.commits] == [(1, 1)]
    assert (done.version.status, done.version.cleared, len(done.version.broken)) == (PUBLISHED, "planned", 1)
    assert await states(registry, dataset, 4) == [PUBLISHED, PUBLISHED, PUBLISHED, SUSPECT]
    events = await broker.wait_for("datasets.v1", 2, DatasetVersionCleared, dataset.dataset_id)
    assert [(event.data.version, event.data.reason) for event in events] == [(2, "planned"), (3, "planned")]
    assert list((await clear(registry, dataset, 4)).cleared) == [4]
    assert (await grow(registry, broker, dataset, 5500, 5600)).status == SUSPECT, "what comes is judged anew"


async def test_a_version_without_the_bad_rows_is_not_suspect(registry: Registry, broker: Topics) -> None:
    dataset = await expecting(registry)
    await grow(registry, broker, dataset, 1, 2)
    await grow(registry, broker, dataset, 1000, 2000)

    without = await retract(registry, dataset, 1)

    assert (without.status, list(without.broken)) == (PUBLISHED, [])
    assert await states(registry, dataset, 2) == [PUBLISHED, DATASET_VERSION_STATUS_RETRACTED]
    assert (await grow(registry, broker, dataset, 3, 4)).status == PUBLISHED
    back = pb.RollBackVersionRequest(dataset=dataset.name, version=2, reinstate=True, reason="they were right")
    assert (await registry.datasets.RollBackVersion(back)).version.status == SUSPECT


async def test_the_first_version_is_judged_too_if_a_retraction_makes_it(registry: Registry, broker: Topics) -> None:
    dataset = await expecting(registry)
    await send(broker, dataset, 1000, 2000)
    await send(broker, dataset, 1, 2)
    async with asyncio.timeout(30):
        while (await registry.datasets.GetDataset(GetDatasetRequest(dataset=dataset.name))).dataset.accepted < 4:
            await asyncio.sleep(0.05)
    commits = (await registry.datasets.ListDatasetCommits(pb.ListDatasetCommitsRequest(dataset=dataset.name))).commits
    if len(commits) > 1:  # otherwise both came in one
        assert (await retract(registry, dataset, 1)).status == SUSPECT


async def test_versions_that_close_by_themselves_are_judged(registry: Registry, broker: Topics) -> None:
    dataset = await expecting(registry, version_rows=2)
    await send(broker, dataset, 1000, 2000)

    [event] = await broker.wait_for("datasets.v1", 1, DatasetVersionPublished, dataset.dataset_id)
    assert event.data.status == SUSPECT
    await send(broker, dataset, 1)
    await send(broker, dataset, 2)
    second = (await broker.wait_for("datasets.v1", 2, DatasetVersionPublished, dataset.dataset_id))[1].data
    assert (second.version, second.status, second.rows) == (2, SUSPECT, 4)
    assert [each.rule for each in second.broken] == ["mean"], "only what came first is not as expected"


async def test_what_cannot_be_read_is_not_as_expected(registry: Registry, broker: Topics) -> None:
    dataset = await expecting(registry)
    await grow(registry, broker, dataset, 1, 2)
    batch = await send(broker, dataset, 3, 4)
    folder = registry.lake / dataset.dataset_id
    async with asyncio.timeout(30):
        while (await registry.datasets.GetDataset(GetDatasetRequest(dataset=dataset.name))).dataset.accepted < 4:
            await asyncio.sleep(0.05)
    newest = max(folder.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:100])

    version = (await publish(registry, dataset, [batch])).version

    assert (version.status, [each.rule for each in version.broken]) == (SUSPECT, ["readable"])
    assert "restore the file" in version.broken[0].got


async def test_what_cannot_be_cleared_is_explained(registry: Registry, broker: Topics) -> None:
    dataset = await expecting(registry)
    await grow(registry, broker, dataset, 1, 2)

    nothing = await error_of(clear(registry, dataset, 1))
    unknown = await error_of(clear(registry, dataset, 9))
    unsaid = await error_of(clear(registry, dataset, 1, reason=" "))

    assert (type(nothing), type(unknown), type(unsaid)) == (FailedPrecondition, NotFound, InvalidArgument)
    assert "is published: there is nothing to clear" in str(nothing)
    assert "its newest is 1" in str(unknown)


def test_what_the_docs_say_about_suspect_versions_runs(
    holdtrue: Callable[[str], Done], tmp_path: Path, name: str
) -> None:
    (tmp_path / "rules.yaml").write_text("version: 1\nexpectations: [{id: m, expect: mean, column: amount, max: 50}]\n")
    for month, amounts in (("january", (10, 20)), ("february", (1000, 2000))):
        lines = [f"{amount},2026-01-01,{n % 2}" for n, amount in enumerate(amounts)]
        (tmp_path / f"{month}.csv").write_text("\n".join(["amount,booked_at,fraud", *lines]))
    assert holdtrue(f"datasets add {name} january.csv --label fraud --time booked_at --rules rules.yaml").code == 0
    bad = holdtrue(f"datasets add {name} february.csv")
    assert f"! {name}@2 is not as expected" in bad.err
    assert "m: expected a mean at most 50, got 1500" in bad.err
    unasked = holdtrue(f"datasets clear {name}@2 --reason planned")
    assert (unasked.code, f"{name}@2 would be used" in unasked.err) == (2, True)
    shown = holdtrue(f"datasets show {name}@2")
    assert "suspect" in shown.out
    assert f"holdtrue datasets clear {name}@2 --reason" in shown.err

    lines = run_page("suspicion.md", holdtrue, tmp_path, name)

    assert len(lines) >= 3
    assert "the campaign was planned" in holdtrue(f"datasets show {name}@2").out
    assert holdtrue(f"datasets clear {name}@2 --reason again --yes").code == 5
    assert holdtrue(f"datasets clear {name} --reason again --yes").code == 2
    assert holdtrue(f"datasets clear {name}@9 --reason again --yes").code == 3
