"""Old versions are forgotten unless somebody wants to keep them; rows go when no version has them any more."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from holdtrue_contracts.registry.v1 import expiry_pb2 as pb
from holdtrue_contracts.registry.v1.dataset_history_pb2 import RetractCommitsRequest, RollBackVersionRequest
from holdtrue_contracts.registry.v1.dataset_service_pb2 import (
    Dataset,
    GetDatasetVersionRequest,
    ListDatasetVersionsRequest,
)
from holdtrue_contracts.registry.v1.datasets_pb2 import CommitRange, DatasetVersionExpired
from holdtrue_core.errors import Conflict, InvalidArgument, NotFound
from holdtrue_lake.versions import read_version

from tests.component.registry.harness import Process, create, error_of, offered, publish, run_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.component.registry.harness import Done, Registry, Topics

_EDGE = """
INSERT INTO registry.lineage_edge (tenant, source_kind, source_id, target_kind, target_id, relation)
VALUES ('default', $1, $2, $3, $4, $5)"""


async def grown(registry: Registry, broker: Topics, versions: int) -> Dataset:
    """A dataset with a commit of two rows, and a version, each time; amounts tell them apart."""
    dataset = await create(registry)
    for number in range(versions):
        rows: list[dict[str, Any]] = [{"amount": 10 * number + row, "fraud": row, "at": 5} for row in range(2)]
        batch = offered(dataset.dataset_id, rows)
        await broker.send_event(batch)
        await publish(registry, dataset, [batch.batch_id])
    return dataset


async def retract(registry: Registry, dataset: Dataset, first: int, last: int) -> None:
    request = RetractCommitsRequest(dataset=dataset.name, commits=[CommitRange(first=first, last=last)], reason="wrong")
    await registry.datasets.RetractCommits(request)


async def pin(registry: Registry, dataset: Dataset, version: int, name: str = "audit", **more: Any) -> pb.Pin:
    asked: dict[str, Any] = {"dataset": dataset.name, "version": version, "name": name, "reason": "seen"}
    return (await registry.datasets.PinVersion(pb.PinVersionRequest(**asked | more))).pin


async def expire(registry: Registry, dataset: Dataset, **more: Any) -> pb.ExpireVersionsResponse:
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    asked: dict[str, Any] = {"dataset": dataset.name, "before": now, "reason": "kept for a year"}
    return await registry.datasets.ExpireVersions(pb.ExpireVersionsRequest(**asked | more))


async def numbers(registry: Registry, dataset: Dataset) -> list[int]:
    listed = await registry.datasets.ListDatasetVersions(ListDatasetVersionsRequest(dataset=dataset.name))
    return [version.version for version in listed.versions]


def amounts(registry: Registry, dataset: Dataset) -> list[float]:
    return read_version(registry.lake, dataset.dataset_id, [(0, 99)], ["amount"]).column("amount").to_pylist()


async def trained(registry: Registry, dataset: Dataset, version: int) -> None:
    """A model has learned from a version."""
    connection = await asyncpg.connect(registry.process.environment["HOLDTRUE_REGISTRY_POSTGRES_DSN"])
    source = f"{dataset.name}@{version}"
    await connection.execute(_EDGE, "dataset_version", source, "run", f"run of {source}", "trained_on")
    await connection.execute(_EDGE, "run", f"run of {source}", "model_version", "fraud@7", "produced")
    await connection.close()


async def test_old_versions_are_forgotten_but_for_the_pinned_and_the_newest(registry: Registry, broker: Topics) -> None:
    dataset = await grown(registry, broker, 5)
    await pin(registry, dataset, 2)
    await trained(registry, dataset, 3)

    trial = await expire(registry, dataset, dry_run=True, reason="")
    assert await numbers(registry, dataset) == [5, 4, 3, 2, 1]
    done = await expire(registry, dataset, expected_version=5)

    assert (trial.expired, trial.kept) == (done.expired, done.kept)
    assert list(done.expired) == [1, 4]
    assert [(each.version, each.kind, each.name) for each in done.kept] == [
        (3, pb.PIN_KIND_MODEL, "fraud@7"), (2, pb.PIN_KIND_HOLD, "audit"),
    ]  # fmt: skip
    assert (list(done.commits), done.rows) == ([], 0), "the newest version has all rows"
    assert await numbers(registry, dataset) == [5, 3, 2]
    gone = await error_of(
        registry.datasets.GetDatasetVersion(GetDatasetVersionRequest(dataset=dataset.name, version=4))
    )
    assert isinstance(gone, NotFound)
    assert "version 4" in gone.message
    assert "has expired: kept for a year" in gone.message
    back = RollBackVersionRequest(dataset=dataset.name, version=4, reason="back")
    assert isinstance(await error_of(registry.datasets.RollBackVersion(back)), NotFound)
    events = await broker.wait_for("datasets.v1", 2, DatasetVersionExpired, dataset.dataset_id)
    assert [(event.data.version, event.data.reason) for event in events] == [
        (1, "kept for a year"), (4, "kept for a year"),
    ]  # fmt: skip
    assert list((await expire(registry, dataset)).expired) == [], "once is enough"


async def test_pins_are_named_and_withdrawn(registry: Registry, broker: Topics) -> None:
    dataset = await grown(registry, broker, 2)
    first = await pin(registry, dataset, 1, " audit ")
    again = await pin(registry, dataset, 1, reason="another")
    await pin(registry, dataset, 1, "report")
    await pin(registry, dataset, 0, "report")

    assert (again, again.reason) == (first, "seen"), "it stays as it is"
    listed = (await registry.datasets.ListPins(pb.ListPinsRequest(dataset=dataset.name))).pins
    assert [(each.version, each.name) for each in listed] == [(2, "report"), (1, "audit"), (1, "report")]
    request = pb.UnpinVersionRequest(dataset=dataset.name, version=1, name="audit")
    assert [each.name for each in (await registry.datasets.UnpinVersion(request)).pins] == ["report"]
    missing = await error_of(registry.datasets.UnpinVersion(request))
    assert isinstance(missing, NotFound)
    assert "has no pin 'audit'" in missing.message
    assert list((await expire(registry, dataset)).expired) == []
    await registry.datasets.UnpinVersion(pb.UnpinVersionRequest(dataset=dataset.name, version=1, name="report"))
    assert list((await expire(registry, dataset)).expired) == [1]


@pytest.mark.long
async def test_rows_that_no_version_has_are_deleted_after_a_while(
    environment: dict[str, str], own_broker: Topics, tmp_path: Path
) -> None:
    environment |= {"HOLDTRUE_REGISTRY_UPKEEP_SECONDS": "0.05", "HOLDTRUE_REGISTRY_EXPIRE_GRACE_SECONDS": "0"}
    process = Process(environment, tmp_path / "log")
    process.start()
    async with process.client() as registry, asyncio.timeout(60):
        dataset, kept = await grown(registry, own_broker, 3), await grown(registry, own_broker, 2)
        await retract(registry, dataset, 0, 1)
        await retract(registry, kept, 0, 0)
        await pin(registry, kept, 1)

        done = await expire(registry, dataset)
        await expire(registry, kept)

        assert ([(span.first, span.last) for span in done.commits], done.rows) == ([(0, 1)], 4)
        while amounts(registry, dataset) != [20, 21]:
            await asyncio.sleep(0.05)
        assert amounts(registry, kept) == [0, 1, 10, 11], "version 1 has them"
        again = await expire(registry, dataset, dry_run=True)
        assert (list(again.commits), again.rows) == ([], 0)
        version = (await registry.datasets.GetDatasetVersion(GetDatasetVersionRequest(dataset=dataset.name))).version
        assert (version.version, version.rows) == (4, 2)
    assert await process.stop() == 0
    assert (tmp_path / "log").read_text().count("rows that no version has are deleted") == 1


@pytest.mark.parametrize(
    ("asked", "kind", "says"),
    [
        ({"reason": " "}, InvalidArgument, "say why"),
        ({"before": None}, InvalidArgument, "a time in the past"),
        ({"before": datetime.now(UTC) + timedelta(days=9)}, InvalidArgument, "a time in the past"),
        ({"expected_version": 7}, Conflict, "is 1 now, not 7"),
    ],
)
async def test_what_cannot_expire_is_explained(
    registry: Registry, broker: Topics, asked: dict[str, Any], kind: type[Exception], says: str
) -> None:
    error = await error_of(expire(registry, await grown(registry, broker, 1), **asked))

    assert isinstance(error, kind)
    assert says in str(error)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"reason": ""}, "say why"),
        ({"name": " "}, "1 to 100"),
        ({"name": "x" * 101}, "got 101"),
        ({"version": 9}, "no version 9"),
    ],
)
async def test_what_cannot_be_pinned_is_explained(
    registry: Registry, broker: Topics, asked: dict[str, Any], says: str
) -> None:
    dataset = await grown(registry, broker, 1)
    wanted: dict[str, Any] = {"version": 1} | asked

    assert says in str(await error_of(pin(registry, dataset, **wanted)))


def test_what_the_docs_say_about_expiry_runs(holdtrue: Callable[[str], Done], tmp_path: Path, name: str) -> None:
    for number, month in enumerate(("january", "february", "march")):
        (tmp_path / f"{month}.csv").write_text(f"amount,fraud\n{number},0\n{number + 9},1\n")
        assert holdtrue(f"datasets add {name} {month}.csv --label fraud").code == 0

    lines = run_page("expiry.md", holdtrue, tmp_path, name)

    assert len(lines) >= 5
    done = holdtrue(f"datasets expire {name} --older 0s --reason tidy --dry-run -o json").json
    assert (done["expired"], done["kept"]) == ([f"{name}@1", f"{name}@2"], [])
    unasked = holdtrue(f"datasets expire {name} --older 0s --reason tidy")
    assert (unasked.code, f"{name}@1, {name}@2 would be forgotten" in unasked.err) == (2, True)
    assert holdtrue(f"datasets expire {name} --older 0s --reason tidy --yes").code == 0
    assert [version["version"] for version in holdtrue(f"datasets show {name} -o json").json] == [3]
    assert holdtrue(f"datasets pin {name} audit --reason x").code == 2
    assert holdtrue(f"datasets unpin {name}@3 nothing").code == 3
    assert holdtrue(f"datasets show {name}@1").code == 3
