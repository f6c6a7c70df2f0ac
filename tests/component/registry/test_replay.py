"""Refused records are offered again, byte by byte: each ends in the dataset or is refused again, once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from holdtrue_contracts.registry.v1 import quarantine_pb2 as pb
from holdtrue_contracts.registry.v1.dataset_service_pb2 import CreateDatasetRequest, Dataset
from holdtrue_contracts.registry.v1.rules_pb2 import PutRulesRequest
from holdtrue_core.errors import InvalidArgument, NotFound
from holdtrue_core.ids import uuid7
from holdtrue_lake.versions import read_version
from pyarrow import parquet

from tests.component.registry.harness import Process, error_of, offered, publish, run_page, schema
from tests.component.registry.test_erasure import SCHEMA as PROTECTED
from tests.component.registry.test_erasure import row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.component.registry.harness import Done, Registry, Topics

STRICT = "version: 1\ncolumns: {amount: {max: 10}}\n"
LOOSE = "version: 1\ncolumns: {amount: {max: 100}}\n"
RECORDS: list[dict[str, Any]] = [
    {"amount": 1, "fraud": 0, "at": 5},
    {"amount": 50, "fraud": 0, "at": 5},
    {"amount": 60, "fraud": 1, "at": 5},
    {"amount": 500, "fraud": 0, "at": 5},
    {"amount": "x", "fraud": 0, "at": 5},
]


async def refusing(registry: Registry, broker: Topics, records: list[dict[str, Any]], like: Any = None) -> Dataset:
    """A dataset that has refused some records, by rules that are not in force any more."""
    request = CreateDatasetRequest(name=f"payments-{uuid7()}", schema=like or schema(), rules=STRICT)
    dataset = (await registry.datasets.CreateDataset(request)).dataset
    batch = offered(dataset.dataset_id, records)
    await broker.send_event(batch)
    await publish(registry, dataset, [batch.batch_id])
    await registry.datasets.PutRules(PutRulesRequest(dataset=dataset.name, rules=LOOSE, reason="agreed"))
    return dataset


async def replay(registry: Registry, dataset: Dataset, **more: Any) -> pb.ReplayQuarantineResponse:
    asked: dict[str, Any] = {"dataset": dataset.name, "reason": "agreed"}
    return await registry.datasets.ReplayQuarantine(pb.ReplayQuarantineRequest(**asked | more))


async def refused(registry: Registry, dataset: Dataset) -> list[pb.RejectedRecord]:
    request = pb.ListQuarantineRequest(dataset=dataset.name, with_bytes=True)
    return list((await registry.datasets.ListQuarantine(request)).records)


def amounts(registry: Registry, dataset: Dataset) -> list[float]:
    return sorted(read_version(registry.lake, dataset.dataset_id, [(0, 99)], ["amount"]).column("amount").to_pylist())


async def test_each_record_is_in_the_dataset_or_refused_again_once(registry: Registry, broker: Topics) -> None:
    dataset = await refusing(registry, broker, RECORDS)
    before = await refused(registry, dataset)

    trial = await replay(registry, dataset, dry_run=True, reason="")
    assert len(await refused(registry, dataset)) == 4
    done = await replay(registry, dataset)
    answer = await publish(registry, dataset, list(done.batch_ids))

    assert (trial.records, trial.left, list(trial.batch_ids)) == (4, 0, list(done.batch_ids))
    assert (answer.version.version, answer.version.rows) == (2, 3)
    assert dict(answer.quarantined) == {"OUT_OF_RANGE": 1, "WRONG_TYPE": 1}
    assert amounts(registry, dataset) == [1, 50, 60]
    again = await refused(registry, dataset)
    assert [json.loads(record.raw)["amount"] for record in again] == [500, "x"]
    assert [record.raw for record in again] == [record.raw for record in before[2:]]
    assert again[0].faults[0].expected == "at most 100", "why it is refused now"
    assert {record.batch_id for record in again} == set(done.batch_ids)
    assert (await replay(registry, dataset, until=done.until)).records == 0, "what is refused again waits"
    assert (await replay(registry, dataset, code="WRONG_TYPE", dry_run=True)).records == 1


async def test_two_at_once_offer_each_record_once(registry: Registry, broker: Topics) -> None:
    dataset = await refusing(registry, broker, RECORDS)

    answers = await asyncio.gather(*(replay(registry, dataset) for _ in range(4)))

    assert sorted(answer.records for answer in answers) == [0, 0, 0, 4]
    await publish(registry, dataset, [batch for answer in answers for batch in answer.batch_ids])
    assert amounts(registry, dataset) == [1, 50, 60]
    assert len(await refused(registry, dataset)) == 2


async def test_persons_stay_protected(registry: Registry, broker: Topics) -> None:
    dataset = await refusing(registry, broker, [row("ada@example.org", 50), row("bob@example.org", 1)], PROTECTED)

    done = await replay(registry, dataset)
    await publish(registry, dataset, list(done.batch_ids))

    rows = read_version(registry.lake, dataset.dataset_id, [(0, 99)])
    assert rows.column("amount").to_pylist() == [1, 50]
    assert rows.column("email").type == pa.binary()
    assert len(set(rows.column("_subject").to_pylist())) == 2
    assert await refused(registry, dataset) == []


@pytest.mark.long
@pytest.mark.parametrize("place", ["append", "finish"])
async def test_a_crash_loses_and_repeats_nothing(
    place: str, environment: dict[str, str], own_broker: Topics, tmp_path: Path
) -> None:
    process = Process(environment, tmp_path / "log")
    process.start()
    async with process.client() as registry:
        dataset = await refusing(registry, own_broker, RECORDS)
    assert await process.stop() == 0
    process.start(crash=f"{place}:1")
    async with process.client() as registry:
        done = await replay(registry, dataset)
        async with asyncio.timeout(60):
            while process.alive:
                await asyncio.sleep(0.05)
    process.start()
    async with process.client() as registry:
        await publish(registry, dataset, list(done.batch_ids))
        assert amounts(registry, dataset) == [1, 50, 60]
        assert len(await refused(registry, dataset)) == 2
    assert await process.stop() == 0


async def test_what_cannot_be_offered_again_is_explained(registry: Registry, broker: Topics) -> None:
    dataset = await refusing(registry, broker, RECORDS[:1])

    unsaid = await error_of(replay(registry, dataset, reason=" "))
    nowhere = pb.ReplayQuarantineRequest(dataset="nothing", reason="agreed")
    unknown = await error_of(registry.datasets.ReplayQuarantine(nowhere))

    assert isinstance(unsaid, InvalidArgument)
    assert "say why" in unsaid.message
    assert isinstance(unknown, NotFound)
    nothing = await replay(registry, dataset)
    assert (nothing.records, nothing.left, list(nothing.batch_ids)) == (0, 0, [])


def test_the_command_offers_again_and_says_what_came_of_it(
    holdtrue: Callable[[str], Done], tmp_path: Path, name: str
) -> None:
    for number, rules in enumerate((STRICT, LOOSE)):
        (tmp_path / f"{number}.yaml").write_text(rules)
    rows = pa.table({"amount": [1.0, 50.0, 500.0], "fraud": [0, 1, 0]})
    parquet.write_table(rows, tmp_path / "jan.parquet")
    assert holdtrue(f"datasets add {name} jan.parquet --label fraud --rules 0.yaml").code == 0
    assert holdtrue(f"datasets rules {name} 1.yaml --reason agreed").code == 0

    trial = holdtrue(f"data replay {name} --reason agreed --dry-run -o json").json
    unasked = holdtrue(f"data replay {name} --reason agreed")
    done = holdtrue(f"data replay {name} --reason agreed --yes -o json").json

    assert trial["offered"] == 2
    assert (unasked.code, "2 refused records" in unasked.err) == (2, True)
    assert (done["offered"], done["accepted"], done["refused_again"]) == (2, 1, {"OUT_OF_RANGE": 1})
    assert done["version"] == f"{name}@2"
    assert holdtrue(f"data replay {name} --code MISSING --reason agreed --yes -o json").json["offered"] == 0
    assert holdtrue(f"data replay {name}").code == 2
    assert holdtrue("data replay nothing --reason x --yes").code == 3


def test_what_the_docs_say_about_replays_runs(holdtrue: Callable[[str], Done], tmp_path: Path, name: str) -> None:
    (tmp_path / "rules.yaml").write_text(STRICT)
    (tmp_path / "jan.csv").write_text("amount,fraud\n1,0\n50,1\n")
    assert holdtrue(f"datasets add {name} jan.csv --label fraud --rules rules.yaml").code == 0
    (tmp_path / "rules.yaml").write_text(LOOSE)

    lines = run_page("replay.md", holdtrue, tmp_path, name)

    assert len(lines) >= 4
    assert holdtrue(f"data rejects {name}").err == "no record was refused\n"
    assert holdtrue(f"datasets show {name}@latest -o json").json["rows"] == 2
