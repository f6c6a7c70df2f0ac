"""Persons are erased from versions, refused records and keys; others' rows stay, and versions say what they are now."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.registry.v1 import erasure_pb2 as pb
from holdtrue_contracts.registry.v1.dataset_history_pb2 import ListDatasetCommitsRequest
from holdtrue_contracts.registry.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    Dataset,
    GetDatasetVersionRequest,
)
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema, SubjectErased
from holdtrue_contracts.registry.v1.quarantine_pb2 import ListQuarantineRequest
from holdtrue_core.errors import InvalidArgument, NotFound
from holdtrue_core.ids import uuid7
from holdtrue_lake.digest import version_digest
from holdtrue_lake.versions import read_version

from tests.component.registry.harness import Process, create, error_of, offered, publish, run_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.component.registry.harness import Done, Registry, Topics

SCHEMA = DatasetSchema(
    columns=[
        ColumnSpec(name="email", dtype="string", pii=True),
        ColumnSpec(name="amount", dtype="float32"),
        ColumnSpec(name="age", dtype="int64", pii=True),
        ColumnSpec(name="fraud", dtype="int64"),
    ],
    label="fraud",
    subject="email",
)


def person() -> str:
    return f"somebody.{uuid7()}@example.org"


def row(who: str, amount: float, **more: Any) -> dict[str, Any]:
    return {"email": who, "amount": amount, "age": 40, "fraud": 0} | more


async def protected(registry: Registry) -> Dataset:
    request = CreateDatasetRequest(name=f"customers-{uuid7()}", schema=SCHEMA)
    return (await registry.datasets.CreateDataset(request)).dataset


async def grow(registry: Registry, broker: Topics, dataset: Dataset, *rows: dict[str, Any]) -> None:
    """One more commit and version."""
    batch = offered(dataset.dataset_id, list(rows))
    await broker.send_event(batch)
    await publish(registry, dataset, [batch.batch_id])


async def erase(registry: Registry, who: str, **more: Any) -> pb.Erasure:
    asked: dict[str, Any] = {"identifier": who, "reason": "request 7", "now": True}
    return (await registry.datasets.EraseSubject(pb.EraseSubjectRequest(**asked | more))).erasure


async def looked(registry: Registry, erasure_id: str, wanted: Callable[[pb.Erasure], bool]) -> pb.Erasure:
    """Wait until an erasure is as wanted; fail saying how it is."""
    found = pb.Erasure()
    try:
        async with asyncio.timeout(60):
            while not wanted(found):
                await asyncio.sleep(0.05)
                found = (await registry.datasets.GetErasure(pb.GetErasureRequest(erasure_id=erasure_id))).erasure
    except TimeoutError:
        pytest.fail(f"it stays like this: {found}")
    return found


async def done(registry: Registry, erasure_id: str) -> pb.Erasure:
    return await looked(registry, erasure_id, lambda found: found.state == pb.ERASURE_STATE_DONE)


def held(erasure: pb.Erasure, dataset: Dataset) -> pb.ErasedDataset:
    [one] = [each for each in erasure.datasets if each.dataset_id == dataset.dataset_id]
    return one


def amounts(registry: Registry, dataset: Dataset, ranges: Any = ((0, 99),)) -> list[float]:
    return read_version(registry.lake, dataset.dataset_id, ranges, ["amount"]).column("amount").to_pylist()


async def version(registry: Registry, dataset: Dataset, number: int) -> Any:
    request = GetDatasetVersionRequest(dataset=dataset.name, version=number)
    return (await registry.datasets.GetDatasetVersion(request)).version


async def everything(registry: Registry) -> bytes:
    """All bytes of the lake and of the registry's database."""
    files = b"".join(path.read_bytes() for path in registry.lake.rglob("*") if path.is_file())
    connection = await asyncpg.connect(registry.process.environment["HOLDTRUE_REGISTRY_POSTGRES_DSN"])
    tables = await connection.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'registry'")
    rows = [repr(await connection.fetch(f'SELECT t::text FROM registry."{t[0]}" t')) for t in tables]  # noqa: S608
    await connection.close()
    return files + "".join(rows).encode()


async def test_a_person_is_counted_erased_and_it_is_proven(registry: Registry, broker: Topics) -> None:
    ada, bob = person(), person()
    dataset = await protected(registry)
    await grow(registry, broker, dataset, row(ada, 1), row(bob, 2), row(ada, 3, fraud="x"))
    await grow(registry, broker, dataset, row(bob, 4))
    before = [await version(registry, dataset, number) for number in (1, 2)]
    assert ada.encode() not in await everything(registry), "not even before"

    plan = await erase(registry, ada, dry_run=True, reason="")
    assert amounts(registry, dataset) == [1, 2, 4], "only counted"
    counted = held(plan, dataset)
    assert (counted.rows, counted.quarantined, list(counted.versions), counted.protected) == (1, 1, [1, 2], True)
    assert (plan.erasure_id, plan.state) == ("", pb.ERASURE_STATE_UNSPECIFIED)

    asked = await erase(registry, ada)
    erasure = await done(registry, asked.erasure_id)

    assert amounts(registry, dataset) == [2, 4]
    one = held(erasure, dataset)
    assert (one.rows, one.quarantined, list(one.versions), list(one.found)) == (1, 1, [1, 2], [])
    assert one.files > 0
    assert one.bytes > 0
    assert (erasure.reason, erasure.pseudonym) == ("request 7", plan.pseudonym)
    assert erasure.datasets_done == erasure.datasets_total
    assert {each.topic for each in erasure.remainders} == {"data.v1", "dead-letters.v1"}
    left = await everything(registry)
    assert ada.encode() not in left
    after = [await version(registry, dataset, number) for number in (1, 2)]
    assert [(v.rows, v.erasure_epoch) for v in after] == [(1, 1), (2, 1)]
    assert all(new.digest != old.digest for old, new in zip(before, after, strict=True))
    commits = (await registry.datasets.ListDatasetCommits(ListDatasetCommitsRequest(dataset=dataset.name))).commits
    expected = version_digest([commits[1].digest, commits[0].digest], dataset.schema_id, erasure_epoch=1)
    assert after[1].digest == expected
    [event] = await broker.wait_for("datasets.v1", 1, SubjectErased, dataset.dataset_id)
    told = event.data
    assert (told.erasure_id, told.pseudonym, told.rows, told.quarantined) == (asked.erasure_id, plan.pseudonym, 1, 1)
    assert [(v.version, v.digest, v.rows) for v in told.versions] == [(v.version, v.digest, v.rows) for v in after]
    assert ada not in str(told)


async def test_later_versions_go_on_from_what_is_left(registry: Registry, broker: Topics) -> None:
    ada, bob = person(), person()
    dataset = await protected(registry)
    await grow(registry, broker, dataset, row(ada, 1), row(bob, 2))
    await done(registry, (await erase(registry, ada)).erasure_id)

    await grow(registry, broker, dataset, row(bob, 3), row(ada, 4))

    second = await version(registry, dataset, 2)
    assert (second.rows, second.erasure_epoch) == (3, 1)
    assert amounts(registry, dataset) == [2, 3, 4], "who comes back is somebody new"
    again = held(await done(registry, (await erase(registry, ada)).erasure_id), dataset)
    assert (again.rows, list(again.versions)) == (1, [2])
    assert [(await version(registry, dataset, number)).rows for number in (1, 2)] == [1, 2]


async def test_asking_twice_is_asking_once(registry: Registry, broker: Topics) -> None:
    ada = person()
    dataset = await protected(registry)
    await grow(registry, broker, dataset, row(ada, 1), row(person(), 2))

    first = await erase(registry, ada, now=False)
    second = await erase(registry, f"  {ada} ", reason="another", now=True)

    assert second.erasure_id == first.erasure_id
    erasure = await done(registry, first.erasure_id)
    assert erasure.reason == "request 7", "the first counts"
    listed = (await registry.datasets.ListErasures(pb.ListErasuresRequest(page_size=1))).erasures
    assert [each.erasure_id for each in listed] == [first.erasure_id]
    waiting = (await registry.datasets.ListErasures(pb.ListErasuresRequest(open=True))).erasures
    assert first.erasure_id not in [each.erasure_id for each in waiting]
    later = await done(registry, (await erase(registry, ada)).erasure_id)
    assert later.erasure_id != first.erasure_id
    assert not any(each.rows or each.quarantined for each in later.datasets), "nobody of that name is known"


async def test_refused_records_of_persons_are_shown_until_they_are_erased(registry: Registry, broker: Topics) -> None:
    ada, bob = person(), person()
    dataset = await protected(registry)
    lines = [row(ada, 1, fraud="x"), row(bob, 2, fraud="x"), row(bob, 3)]
    await grow(registry, broker, dataset, *lines)
    request = ListQuarantineRequest(dataset=dataset.name, with_bytes=True)

    shown = (await registry.datasets.ListQuarantine(request)).records
    assert [json.loads(each.raw) for each in shown] == lines[:2]
    assert ada not in str(shown[0].faults)
    await done(registry, (await erase(registry, ada)).erasure_id)

    assert [json.loads(each.raw)["email"] for each in (await registry.datasets.ListQuarantine(request)).records] == [
        bob
    ]


async def test_a_dataset_that_protects_nobody_keeps_an_erasure_open_and_says_where(
    registry: Registry, broker: Topics
) -> None:
    ada = person()
    plain = await create(registry)
    await grow(registry, broker, plain, {"amount": 1, "fraud": 0, "at": 5}, {"amount": ada, "fraud": 0, "at": 5})

    asked = await erase(registry, ada)

    found = await looked(registry, asked.erasure_id, lambda found: any(each.found for each in found.datasets))
    assert found.state == pb.ERASURE_STATE_RUNNING
    one = held(found, plain)
    assert not one.protected
    assert {(trace.where, trace.pseudonym) for trace in one.found} >= {("raw", False)}
    for folder in registry.lake.glob(f"{plain.dataset_id}*"):
        shutil.rmtree(folder)
    await erase(registry, ada)
    assert not held(await done(registry, asked.erasure_id), plain).found


@pytest.mark.long
@pytest.mark.parametrize("place", ["erase", "note", "finish-erasure"])
async def test_a_killed_erasure_goes_on_by_itself(
    place: str, environment: dict[str, str], own_broker: Topics, tmp_path: Path
) -> None:
    ada, bob = person(), person()
    process = Process(environment, tmp_path / "log")
    process.start(crash=f"{place}:1")
    async with process.client() as registry, asyncio.timeout(60):
        datasets = [await protected(registry) for _ in range(2)]
        for dataset in datasets:
            await grow(registry, own_broker, dataset, row(ada, 1), row(bob, 2), row(ada, 3, fraud="x"))
        asked = await erase(registry, ada)
        while process.alive:
            await asyncio.sleep(0.05)

    process.start()
    async with process.client() as registry:
        erasure = await done(registry, asked.erasure_id)
        for dataset in datasets:
            one = held(erasure, dataset)
            assert (one.rows, one.quarantined, list(one.versions)) == (1, 1, [1]), "as it was before the crash"
            assert amounts(registry, dataset) == [2]
            assert (await version(registry, dataset, 1)).erasure_epoch == 1
            events = await own_broker.wait_for("datasets.v1", 1, SubjectErased, dataset.dataset_id)
            assert len(events) == 1
        assert ada.encode() not in await everything(registry)
    assert await process.stop() == 0


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"identifier": "  "}, "name the person"),
        ({"identifier": "x" * 1001}, "at most 1000"),
        ({"reason": " "}, "say why"),
        ({"reason": "erase ADA.lovelace@example.org"}, "it names the person"),
    ],
)
async def test_what_cannot_be_asked_is_explained(registry: Registry, asked: dict[str, Any], says: str) -> None:
    error = await error_of(erase(registry, "ada.lovelace@example.org", **asked | {"now": False}))

    assert isinstance(error, InvalidArgument)
    assert says in error.message


async def test_an_erasure_that_nobody_asked_for(registry: Registry) -> None:
    for erasure_id in ("nothing", ""):
        error = await error_of(registry.datasets.GetErasure(pb.GetErasureRequest(erasure_id=erasure_id)))
        assert isinstance(error, NotFound)
        assert error.hint == "holdtrue datasets erasures"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subject": "mail"}, "schema.subject: 'mail' is not among the columns"),
        ({"subject": "amount"}, "a person is named by a string or an int64"),
        ({"subject": "fraud"}, "mark it as personal"),
        ({"label": "age"}, "a label cannot be"),
    ],
)
async def test_a_schema_that_cannot_protect(registry: Registry, change: dict[str, Any], says: str) -> None:
    schema = DatasetSchema()
    schema.CopyFrom(SCHEMA)
    schema.MergeFrom(DatasetSchema(**change))
    request = CreateDatasetRequest(name=f"customers-{uuid7()}", schema=schema)

    assert says in str(await error_of(registry.datasets.CreateDataset(request)))


CSV = "email,phone,amount,fraud\n" + "".join(f"person.{n}@example.org,+47-{n:08},{n},{n % 2}\n" for n in range(20))


def test_the_command_counts_asks_erases_and_shows_the_proof(
    holdtrue: Callable[[str], Done], tmp_path: Path, name: str
) -> None:
    (tmp_path / "jan.csv").write_text(CSV.replace("person.", f"{name}."))
    added = holdtrue(f"datasets add {name} jan.csv --label fraud --subject email --personal phone -o json")
    columns = {column["name"]: column["pii"] for column in added.json["schema"]["columns"]}
    assert columns == {"email": True, "phone": True, "amount": False, "fraud": False}
    ada = f"{name}.3@example.org"
    (tmp_path / "person.txt").write_text(f"{ada}\n")

    trial = holdtrue(f'datasets erase-subject {ada} --reason "request 7" --dry-run -o json').json
    unasked = holdtrue(f'datasets erase-subject {ada} --reason "request 7"')
    gone = holdtrue(f'datasets erase-subject {ada} --reason "request 7" --now --yes')

    [counted] = [each for each in trial["datasets"] if each["name"] == name]
    assert (counted["rows"], counted["versions"], trial["erasure_id"]) == (1, [1], "")
    assert unasked.code == 2
    assert "1 rows and 0 refused records of 1 datasets would be erased for good" in unasked.err
    assert f"Versions that hold some: {name}@1" in unasked.err
    assert (gone.code, "done" in gone.out, ada in gone.out + gone.err) == (0, True, False), gone.err
    [newest] = holdtrue("datasets erasures --limit 1 -o json").json
    proof = holdtrue(f"datasets erasures {newest['erasure_id']} --wait -o json").json
    [mine] = [each for each in proof["datasets"] if each["name"] == name]
    assert (proof["state"], mine["rows"], mine["found"], mine["files"] > 0) == ("done", 1, [], True)
    assert holdtrue(f"datasets show {name}@1 -o json").json["rows"] == 19
    assert holdtrue("datasets erasures --open -o json").json == []


def test_what_the_docs_say_about_persons_runs(holdtrue: Callable[[str], Done], tmp_path: Path, name: str) -> None:
    rows = [f"{who}@example.org,NO{n:013},{n},2026-01-0{n},{n % 2}" for n, who in ((1, "ada"), (2, "bob"), (3, "eve"))]
    (tmp_path / "january.csv").write_text("\n".join(["email,iban,amount,booked_at,fraud", *rows]))

    lines = run_page("persons.md", holdtrue, tmp_path, name)

    assert len(lines) >= 5
    assert holdtrue(f"datasets show {name}@1 -o json").json["rows"] == 2


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("datasets erase-subject ada", 2, "--reason"),
        ("datasets erase-subject - --reason x", 2, "--yes"),
        ("datasets erase-subject '' --reason x --yes", 6, "name the person"),
        ("datasets erasures nothing", 3, "holdtrue datasets erasures"),
        ("datasets erasures --wait", 2, "name the erasure"),
    ],
)
def test_commands_that_make_no_sense(holdtrue: Callable[[str], Done], line: str, code: int, says: str) -> None:
    done = holdtrue(line)

    assert done.code == code, done.err
    assert says in done.err


def test_a_dataset_is_not_protected_afterwards(holdtrue: Callable[[str], Done], tmp_path: Path, name: str) -> None:
    (tmp_path / "jan.csv").write_text(CSV)
    assert holdtrue(f"datasets add {name} jan.csv --label fraud").code == 0

    subject = holdtrue(f"datasets add {name} jan.csv --subject email")
    personal = holdtrue(f"datasets add {name} jan.csv --personal email")

    assert (subject.code, "subject: dataset" in subject.err) == (6, True)
    assert (personal.code, "make a new dataset" in personal.err) == (6, True)
