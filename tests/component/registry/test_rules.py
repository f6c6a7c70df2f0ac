"""Rules of a dataset: put in force, kept by ingestion, proposed from a sample; what is refused is all there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from holdtrue_contracts.registry.v1 import dataset_service_pb2 as pb
from holdtrue_contracts.registry.v1.quarantine_pb2 import ListQuarantineRequest, RejectedRecord
from holdtrue_contracts.registry.v1.rules_pb2 import GetRulesRequest, InferRulesRequest, PutRulesRequest
from holdtrue_core.errors import InvalidArgument, NotFound
from holdtrue_core.ids import uuid7
from holdtrue_lake.rules_yaml import load

from tests.component.registry.harness import create, error_of, offered, publish, schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.component.registry.harness import Registry, Topics

GOOD: dict[str, Any] = {"amount": 1.5, "fraud": 0, "at": 1_700_000_000}
RULES = """
version: 1
columns:
  amount: {min: 0, max: 100}
  fraud: {one_of: [0, 1]}
conditions:
  - {id: no-cheap-fraud, condition: fraud == 0 or amount > 10}
"""


async def put(registry: Registry, dataset: pb.Dataset, rules: str, reason: str = "a test") -> Any:
    return (
        await registry.datasets.PutRules(PutRulesRequest(dataset=dataset.name, rules=rules, reason=reason))
    ).rule_set


async def rejects(registry: Registry, dataset: pb.Dataset, **wanted: Any) -> list[RejectedRecord]:
    found: list[RejectedRecord] = []
    token = ""
    while True:
        request = ListQuarantineRequest(dataset=dataset.name, page_token=token, with_bytes=True, **wanted)
        page = await registry.datasets.ListQuarantine(request)
        found += page.records
        assert len(found) <= page.total, "a page repeats"
        token = page.next_page_token
        if not token:
            assert page.total == len(found)
            assert sum(page.codes.values()) == page.total
            return found


async def test_every_refused_record_is_kept_with_its_bytes_and_all_its_faults(
    registry: Registry, broker: Topics
) -> None:
    dataset = await create(registry)
    in_force = await put(registry, dataset, RULES)
    wrong: list[dict[str, Any]] = [
        GOOD | {"amount": -1, "fraud": 7},
        GOOD | {"fraud": 1},
        GOOD | {"amount": "x", "colour": "red"},
    ]
    batch = offered(dataset.dataset_id, [GOOD, wrong[0], GOOD, wrong[1], wrong[2]])
    await broker.send_event(batch)

    answer = await publish(registry, dataset, [batch.batch_id])
    refused = await rejects(registry, dataset)

    assert answer.version.rows == 2
    assert dict(answer.quarantined) == {"OUT_OF_RANGE": 1, "RULE": 1, "UNKNOWN_FIELD": 1}
    assert [json.loads(record.raw) for record in refused] == wrong
    assert [record.row for record in refused] == [1, 3, 4]
    assert {(record.batch_id, record.rules_digest, record.schema_id) for record in refused} == {
        (batch.batch_id, in_force.digest, dataset.schema_id)
    }
    assert [[(f.code, f.column, f.rule, f.got) for f in record.faults] for record in refused] == [
        [("OUT_OF_RANGE", "amount", "amount.min", "-1"), ("NOT_ALLOWED", "fraud", "fraud.one_of", "7")],
        [("RULE", "", "no-cheap-fraud", "fraud=1, amount=1.5")],
        [("UNKNOWN_FIELD", "colour", "colour.known", "'red'"), ("WRONG_TYPE", "amount", "amount.type", "'x'")],
    ]


async def test_rules_count_for_what_comes_after_them(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    batches = [offered(dataset.dataset_id, [GOOD | {"amount": -5}]) for _ in range(3)]
    await broker.send_event(batches[0])
    await publish(registry, dataset, [batches[0].batch_id])
    await put(registry, dataset, RULES, "negative amounts are refunds")
    await broker.send_event(batches[1])
    await publish(registry, dataset, [batches[1].batch_id])
    last = await put(registry, dataset, "version: 1", "all is well again")
    await broker.send_event(batches[2])

    answer = await publish(registry, dataset, [b.batch_id for b in batches])

    assert (answer.version.rows, dict(answer.quarantined)) == (2, {"OUT_OF_RANGE": 1})
    first = (await registry.datasets.GetRules(GetRulesRequest(dataset=dataset.name, number=1))).rule_set
    assert (first.rules, first.reason) == (RULES, "negative amounts are refunds")
    newest = (await registry.datasets.GetRules(GetRulesRequest(dataset=dataset.name))).rule_set
    assert newest == last
    assert (newest.number, newest.reason) == (2, "all is well again")
    assert await put(registry, dataset, "version: 1  # the same") == last
    shown = (await registry.datasets.GetDataset(pb.GetDatasetRequest(dataset=dataset.name))).dataset
    assert shown.rules_digest == last.digest


async def test_rejects_come_page_by_page_newest_first_and_by_batch_or_code(registry: Registry, broker: Topics) -> None:
    dataset = await create(registry)
    batches = [
        offered(dataset.dataset_id, [GOOD | {"amount": f"{number}-{row}"} for row in range(3)] + [{"amount": 1}])
        for number in range(3)
    ]
    for batch in batches:
        await broker.send_event(batch)
        await settled(registry, dataset, batch.batch_id)

    found = await rejects(registry, dataset, page_size=5)

    assert len(found) == 12
    assert [(record.batch_id, record.row) for record in found] == [
        (batch.batch_id, row) for batch in reversed(batches) for row in range(4)
    ]
    one = await rejects(registry, dataset, batch_id=batches[1].batch_id, code="WRONG_TYPE")
    assert [json.loads(record.raw)["amount"] for record in one] == ["1-0", "1-1", "1-2"]
    without = await registry.datasets.ListQuarantine(ListQuarantineRequest(dataset=dataset.name, page_size=1))
    assert without.records[0].raw == b""
    assert without.records[0].size == len(found[0].raw)
    assert dict(without.codes) == {"WRONG_TYPE": 9, "MISSING": 3}


async def settled(registry: Registry, dataset: pb.Dataset, batch_id: str) -> None:
    """Wait until a batch is ingested of which every record is refused."""
    error = await error_of(publish(registry, dataset, [batch_id]))
    assert "every record was refused" in str(error)


async def test_a_dataset_without_refused_records_has_an_empty_list(registry: Registry) -> None:
    dataset = await create(registry)

    assert await rejects(registry, dataset) == []
    error = await error_of(registry.datasets.ListQuarantine(ListQuarantineRequest(dataset="nobody's")))
    assert isinstance(error, NotFound)
    bad = ListQuarantineRequest(dataset=dataset.name, page_token="MS8y")  # noqa: S106  1/2
    assert "no token of this listing" in str(await error_of(registry.datasets.ListQuarantine(bad)))


@pytest.mark.parametrize(
    ("rules", "problems"),
    [
        ("version: 1\ncolumns:\n  amuont: {min: 0}\n", ["line 3: columns.amuont: there is no such column"]),
        ("version: 1\nlabel: amount\ntime: when\n", ["line 2: label: the dataset has fraud", "line 3: time: the dat"]),
        ("version: 1\ncolumns:\n  amount: {type: int64, mim: 1}\n", ["line 3: columns.amount.mim: object contains"]),
        (
            "version: 1\nexpectations:\n  - {id: a, expect: mean, column: nope, min: 1}\n",
            ["line 3: expectations[0].column: there is no column 'nope'"],
        ),
        ("version: [", ["expected YAML"]),
    ],
)
async def test_rules_that_do_not_fit_are_answered_with_every_problem(
    registry: Registry, rules: str, problems: list[str]
) -> None:
    dataset = await create(registry)

    error = await error_of(put(registry, dataset, rules))

    assert isinstance(error, InvalidArgument)
    assert error.reason == "RULES_INVALID"
    for problem in problems:
        assert problem in error.message
    assert len(error.violations) >= len(problems)
    missing = await error_of(registry.datasets.GetRules(GetRulesRequest(dataset=dataset.name)))
    assert "its schema alone counts" in str(missing)


async def test_trying_rules_changes_nothing_and_putting_them_needs_a_reason(registry: Registry) -> None:
    dataset = await create(registry)
    trial = PutRulesRequest(dataset=dataset.name, rules=RULES, dry_run=True)

    would_be = (await registry.datasets.PutRules(trial)).rule_set

    assert (would_be.number, len(would_be.digest)) == (1, 64)
    assert "its schema alone" in str(await error_of(registry.datasets.GetRules(GetRulesRequest(dataset=dataset.name))))
    assert "say why" in str(await error_of(put(registry, dataset, RULES, " ")))


async def test_a_sample_becomes_rules_and_these_a_dataset_that_takes_the_sample(
    registry: Registry, broker: Topics
) -> None:
    rows = [GOOD | {"amount": float(number % 50), "at": f"2026-01-01T00:{number % 60:02}:00"} for number in range(200)]
    proposed = await registry.datasets.InferRules(parts(rows, "fraud", "at"))
    request = pb.CreateDatasetRequest(name=f"inferred-{uuid7()}", rules=proposed.rules)
    dataset = (await registry.datasets.CreateDataset(request)).dataset
    batch = offered(dataset.dataset_id, [*rows, rows[0] | {"amount": -1.0}])
    await broker.send_event(batch)

    answer = await publish(registry, dataset, [batch.batch_id])

    assert proposed.rows == 200
    assert dataset.schema == proposed.schema
    assert [(c.name, c.dtype) for c in dataset.schema.columns] == [
        ("amount", "float32"), ("fraud", "int64"), ("at", "string"),
    ]  # fmt: skip
    assert load(proposed.rules).columns["amount"].min == 0
    assert (answer.version.rows, dict(answer.quarantined)) == (200, {"OUT_OF_RANGE": 1})


async def parts(rows: list[dict[str, Any]], label: str, time: str) -> AsyncIterator[InferRulesRequest]:
    """Send a sample in two parts."""
    table = pa.Table.from_pylist(rows)
    for start in (0, 100):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(start, 100))
        yield InferRulesRequest(rows=sink.getvalue().to_pybytes(), label=label, time=time)


async def test_a_sample_that_says_nothing_is_explained(registry: Registry) -> None:
    async def junk() -> AsyncIterator[InferRulesRequest]:
        yield InferRulesRequest(rows=b"junk")

    assert "expected Arrow IPC streams" in str(await error_of(registry.datasets.InferRules(junk())))
    lists = parts([{"a": [1]}] * 200, "", "")
    assert "column 'a' is list" in str(await error_of(registry.datasets.InferRules(lists)))
    other = parts([GOOD] * 200, "nope", "")
    assert "the sample has no column 'nope'" in str(await error_of(registry.datasets.InferRules(other)))


async def test_a_new_dataset_may_come_with_rules(registry: Registry) -> None:
    name = f"ruled-{uuid7()}"
    wrong = pb.CreateDatasetRequest(name=name, schema=schema(), rules="version: 1\ncolumns: {x: {min: 1}}")
    assert "there is no such column" in str(await error_of(registry.datasets.CreateDataset(wrong)))
    untyped = pb.CreateDatasetRequest(name=name, rules="version: 1\nlabel: x\ncolumns: {x: {min: 1}}")
    assert "columns.x.type" in str(await error_of(registry.datasets.CreateDataset(untyped)))

    request = pb.CreateDatasetRequest(name=name, schema=schema(), rules=RULES)
    created = (await registry.datasets.CreateDataset(request)).dataset

    in_force = (await registry.datasets.GetRules(GetRulesRequest(dataset=name))).rule_set
    assert created.rules_digest == in_force.digest
    assert (in_force.number, in_force.reason) == (1, "the dataset is new")
    assert in_force.created_at.ToDatetime(UTC) <= datetime.now(UTC)
